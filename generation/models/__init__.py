"""The models. Other packages import them from here."""

from generation.models.albums import Album, AlbumEntry
from generation.models.aliases import ModelAlias, ModelAliasQuerySet
from generation.models.backups import Backup
from generation.models.canaries import Canary, CanaryQuerySet
from generation.models.contact_sheets import ContactSheet, ContactSheetQuerySet
from generation.models.diffusion import (
    REPOSITORY,
    DiffusionModel,
    DiffusionModelQuerySet,
    Lora,
    LoraQuerySet,
    RepositoryModel,
)
from generation.models.environments import Environment, differences
from generation.models.generated_images import GeneratedImage
from generation.models.generations import (
    FINAL_STATES,
    ID_SLACK,
    MAX_AFFINITY_SKIPS,
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
    UserQueue,
    UserShare,
    WorkerCommand,
    WorkerCommandQuerySet,
    amount,
)
from generation.models.references import ReferencePicture
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
    "Backup",
    "Canary",
    "CanaryQuerySet",
    "ContactSheet",
    "ContactSheetQuerySet",
    "DiffusionModel",
    "DiffusionModelQuerySet",
    "EntryField",
    "Environment",
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
    "ReferencePicture",
    "RepositoryModel",
    "RetentionRule",
    "RunTiming",
    "SearchEntry",
    "ShareLink",
    "SharedFile",
    "StagedFiles",
    "State",
    "UserQueue",
    "UserShare",
    "WorkerCommand",
    "WorkerCommandQuerySet",
    "amount",
    "differences",
    "first_id",
]
