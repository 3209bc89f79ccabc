"""The models. Other packages import them from here."""

from generation.models.albums import Album, AlbumEntry
from generation.models.aliases import ModelAlias, ModelAliasQuerySet
from generation.models.contact_sheets import ContactSheet, ContactSheetQuerySet
from generation.models.diffusion import (
    REPOSITORY,
    DiffusionModel,
    DiffusionModelQuerySet,
    Lora,
    LoraQuerySet,
    RepositoryModel,
)
from generation.models.generations import (
    FINAL_STATES,
    ID_SLACK,
    MAX_AFFINITY_SKIPS,
    GeneratedImage,
    Generation,
    GenerationQuerySet,
    LoraUse,
    PriorityLevel,
    State,
    first_id,
)
from generation.models.input_fetches import InputFetch
from generation.models.queue import (
    DOWNLOADS,
    IdempotencyKey,
    PausedPool,
    QueueSample,
    RunTiming,
    UserShare,
    WorkerCommand,
    WorkerCommandQuerySet,
    amount,
)
from generation.models.retention import RetentionRule
from generation.models.search_index import EntryField, Match, SearchEntry
from generation.models.share_links import ShareLink
from generation.models.staged_files import FileDeletion, PendingErasure, SharedFile, StagedFiles

__all__ = [
    "DOWNLOADS",
    "FINAL_STATES",
    "ID_SLACK",
    "MAX_AFFINITY_SKIPS",
    "REPOSITORY",
    "Album",
    "AlbumEntry",
    "ContactSheet",
    "ContactSheetQuerySet",
    "DiffusionModel",
    "DiffusionModelQuerySet",
    "EntryField",
    "FileDeletion",
    "GeneratedImage",
    "Generation",
    "GenerationQuerySet",
    "IdempotencyKey",
    "InputFetch",
    "Lora",
    "LoraQuerySet",
    "LoraUse",
    "Match",
    "ModelAlias",
    "ModelAliasQuerySet",
    "PausedPool",
    "PendingErasure",
    "PriorityLevel",
    "QueueSample",
    "RepositoryModel",
    "RetentionRule",
    "RunTiming",
    "SearchEntry",
    "ShareLink",
    "SharedFile",
    "StagedFiles",
    "State",
    "UserShare",
    "WorkerCommand",
    "WorkerCommandQuerySet",
    "amount",
    "first_id",
]
