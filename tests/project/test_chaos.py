"""A short `make chaos`: each kind of fault at least once, with real processes."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import pictures
from tests.tools import chaos
from tests.tools.chaos import AcceptedRequest, ChaosRequest

SEED = 7
REQUEST = ChaosRequest(seed=1, steps=1, images=1)


def test_no_generation_or_file_is_lost_duplicated_or_left_over(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use the same seed always; `make chaos` uses others."""
    report = chaos.run(SEED, 0, tmp_path_factory.mktemp("d"), clients_per_user=1)
    assert not report.problems, str(report)
    assert len(report.faults) == len(chaos.FAULTS)
    assert len(report.accepted_requests) >= 2 * len(chaos.FAULTS)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"state": "running", "images": []}, "not final"),
        ({"state": "canceled", "images": []}, "canceled without a request"),
        ({"state": "failed", "images": [], "error_code": "internal_error"}, "failed without three lost workers"),
        ({"image_count": 2}, "wrong number of pictures"),
        ({"attempt": 2}, "pictures of another attempt"),
        ({"images": ["missing/1-0.png"]}, "missing file: missing/1-0.png"),
        ({"images": ["other/1-0.png"]}, "pictures differ from the reference run's"),
        ({"other_files": []}, "file without a row: bob.webp"),
        ({"id": "charlie"}, "was lost"),
    ],
)
def test_the_audit_finds(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    dream, nightmare = pictures.photo(8, 8), pictures.photo(9, 9)
    for name, content in (("alice/1-0.png", dream), ("bob/1-0.png", dream), ("other/1-0.png", nightmare)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    (tmp_path / "bob.webp").touch()
    if change.get("images") != ["other/1-0.png"]:
        (tmp_path / "other" / "1-0.png").unlink()
    alices = {
        "id": "alice",
        "state": "succeeded",
        "error_code": "",
        "attempt": 1,
        "crash_count": 0,
        "image_count": 1,
        "other_files": [],
    }
    bobs = {**alices, "id": "bob", "images": ["bob/1-0.png"], "other_files": ["bob.webp"], **change}
    snapshot = {"rows": [{**alices, "images": ["alice/1-0.png"]}, bobs], "file_records": []}
    accepted_requests = [AcceptedRequest("alice", REQUEST, ""), AcceptedRequest("bob", REQUEST, "")]
    problems = chaos.audit(snapshot, accepted_requests, tmp_path)
    assert not problems if not problem else any(problem in text for text in problems), problems
