"""Lines of JSON that a process was writing when it was ended."""

import json
from pathlib import Path

import pytest

from services.jsonl import appending, read


@pytest.mark.parametrize("before", [None, "", '{"id": 1}\n', '{"id": 1}\n{"id": 2, "ans', '{"id": 1}'])
def test_what_was_cut_off_is_left_out_and_swallows_nothing(tmp_path: Path, before: str | None):
    """Whole lines stay, and the next one is whole."""
    path = tmp_path / "rows.jsonl"
    if before is not None:
        path.write_text(before, "utf-8")
    known = read(path)
    assert known == ([{"id": 1}] if before else [])
    with appending(path) as file:
        file.write(json.dumps({"id": 3}) + "\n")
    assert read(path) == [*known, {"id": 3}]
