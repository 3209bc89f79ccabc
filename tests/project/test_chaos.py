"""A short `make chaos`: each kind of fault at least once, with real processes."""

from pathlib import Path
from typing import Any

import pytest

from tests.tools import chaos
from tests.tools.chaos import Accepted, Wish

SEED = 7
WISH = Wish(seed=1, steps=1, images=1)


def test_no_generation_or_file_is_lost_duplicated_or_left_over(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Always with the same seed; `make chaos` uses others."""
    report = chaos.run(SEED, 0, tmp_path_factory.mktemp("d"))
    assert not report.troubles, str(report)
    assert len(report.faults) == len(chaos.FAULTS)
    assert len(report.accepted) >= 2 * len(chaos.FAULTS)


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        ({}, ""),
        ({"state": "running", "images": []}, "not final"),
        ({"state": "canceled", "images": []}, "canceled by nobody"),
        ({"state": "failed", "images": [], "code": "internal_error"}, "failed for no good reason"),
        ({"wanted": 2}, "not as many pictures as wanted"),
        ({"attempt": 2}, "pictures of another attempt"),
        ({"images": ["gone/1-0.png"]}, "a row speaks of gone/1-0.png"),
        ({"images": ["other/1-0.png"]}, "other pictures than the undisturbed ones"),
        ({"others": []}, "no row speaks of the file bob.webp"),
        ({"id": "charlie"}, "was lost"),
    ],
)
def test_the_audit_finds(change: dict[str, Any], trouble: str, tmp_path: Path) -> None:
    for name, content in (("alice/1-0.png", b"dream"), ("bob/1-0.png", b"dream"), ("other/1-0.png", b"nightmare")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    (tmp_path / "bob.webp").touch()
    if change.get("images") != ["other/1-0.png"]:
        (tmp_path / "other" / "1-0.png").unlink()
    alices = {
        "id": "alice",
        "state": "succeeded",
        "code": "",
        "attempt": 1,
        "crash_count": 0,
        "wanted": 1,
        "others": [],
    }
    bobs = {**alices, "id": "bob", "images": ["bob/1-0.png"], "others": ["bob.webp"], **change}
    ledger = {"rows": [{**alices, "images": ["alice/1-0.png"]}, bobs], "unnamed": []}
    troubles = chaos.audit(ledger, [Accepted("alice", WISH, ""), Accepted("bob", WISH, "")], tmp_path)
    assert not troubles if not trouble else any(trouble in text for text in troubles), troubles
