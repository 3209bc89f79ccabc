"""The hub of the tests answers `huggingface_hub` as the public one does."""

import os
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub import ModelHub, Repository


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repository")
    (directory / "model_index.json").write_text("{}")
    (directory / "unet").mkdir()
    (directory / "unet" / "model.safetensors").write_bytes(os.urandom(300_000))
    return directory


@pytest.fixture(scope="module")
def repository(hub: ModelHub, directory: Path) -> Repository:
    return hub.add("hub/open", directory, {"license": "mit"})


def test_a_repository_is_described_and_fetched(
    hub: ModelHub, repository: Repository, directory: Path, tmp_path: Path
) -> None:
    info = HfApi().model_info("hub/open", files_metadata=True)
    assert (info.sha, info.gated, info.card_data and info.card_data.license) == (repository.commit, False, "mit")
    assert {(file.rfilename, file.size, file.lfs is None) for file in info.siblings or ()} == {
        ("model_index.json", 2, True),
        ("unet/model.safetensors", 300_000, False),
    }
    fetched = Path(snapshot_download("hub/open", cache_dir=tmp_path))
    assert fetched.name == repository.commit
    weights = (fetched / "unet/model.safetensors").read_bytes()
    assert weights == (directory / "unet/model.safetensors").read_bytes()


def test_a_cut_transfer_continues_where_it_was(hub: ModelHub, repository: Repository, tmp_path: Path) -> None:
    file = "unet/model.safetensors"
    with hub.held("hub/open", file, after=100_000) as hold:
        hold.cut()
        before = len(hub.served)
        fetched: list[str] = []
        thread = Thread(target=lambda: fetched.append(hf_hub_download("hub/open", file, cache_dir=tmp_path)))
        thread.start()
        assert hold.reached.wait(60)
    thread.join(60)
    assert hub.served[before:] == [f"hub/open/{file}"] * 2
    assert Path(fetched[0]).stat().st_size == 300_000


def test_what_is_missing_or_closed_is_refused_with_the_client_s_own_errors(hub: ModelHub, directory: Path) -> None:
    hub.add("hub/gated", directory, gated="manual")
    hub.add("hub/private", directory, is_private=True)
    index = "model_index.json"
    assert HfApi().model_info("hub/gated").gated == "manual"
    for token in (False, hub.other_token):
        with pytest.raises(GatedRepoError):
            hf_hub_download("hub/gated", index, token=token)
        for name in ("hub/private", "hub/none"):
            with pytest.raises(RepositoryNotFoundError):
                HfApi(token=token).model_info(name)
    assert Path(hf_hub_download("hub/gated", index, token=hub.token)).is_file()
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("hub/open", index, revision="0" * 40)
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("hub/open", "none.json")
