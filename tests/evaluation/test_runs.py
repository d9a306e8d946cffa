"""Runs through real services on scripted engines: rows, resuming, failures, replayed selections."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from stack import stack

from evaluation.items import BadProblemSet, Item, from_file, pocket
from evaluation.runs import Plan, run
from evaluation.selections import selected
from services.jsonl import read

pytestmark = pytest.mark.anyio

ITEMS = [Item(f"i{k}", f"Add {k} and 30 and 7.", str(k + 37), level=2) for k in range(6)]
WIDE = Plan("wide", {"name": "best_of_n", "n": 5, "select": "weighted", "stop_early": False}, {"temperature": 0.9})


def _quiet(_name: str, _done: int, _total: int) -> None:
    return


async def test_what_was_asked_is_not_asked_again(tmp_path: Path):
    """A second run reads its rows from the file; a line that was cut off is asked for again."""
    async with stack() as running:
        first = await run(running.client, [WIDE], ITEMS, tmp_path, 1, _quiet)
        calls = running.actor.generations
        assert await run(running.client, [WIDE], ITEMS, tmp_path, 1, _quiet) == first
        assert running.actor.generations == calls
        path = tmp_path / "wide.jsonl"
        lines = path.read_text("utf-8").splitlines()
        path.write_text("\n".join([*lines[:-1], lines[-1][:50]]) + "\n", "utf-8")
        again = await run(running.client, [WIDE], ITEMS, tmp_path, 1, _quiet)
        assert running.actor.generations == calls + 1
        assert _timeless(again) == _timeless(first)


def _timeless(rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {**row, "usage": {**row["usage"], "seconds": 0, "actor": {**row["usage"]["actor"], "cached_tokens": 0}, "critic": 0}}
        for row in rows["wide"]
    ]


async def test_a_replayed_selection_is_the_service_s_own(tmp_path: Path):
    """Selecting among all recorded samples gives what the solve answered."""
    async with stack() as running:
        rows = (await run(running.client, [WIDE], ITEMS, tmp_path, 3, _quiet))["wide"]
    assert [selected(row, 5, "weighted") for row in rows] == [row["right"] for row in rows]
    assert {row["right"] for row in rows} == {True} or any(len({c["answer"] for c in row["candidates"]}) > 1 for row in rows)


async def test_a_failed_solve_is_a_row_that_counts_as_wrong_and_is_tried_again(tmp_path: Path):
    """It keeps its problem object; the next run asks anew."""
    async with stack(without="actor") as running:
        rows = (await run(running.client, [WIDE], ITEMS[:2], tmp_path, 1, _quiet))["wide"]
    assert [row["right"] for row in rows] == [False, False]
    assert rows[0]["failed"]["code"] == "not_ready"
    async with stack() as running:
        again = (await run(running.client, [WIDE], ITEMS[:2], tmp_path, 1, _quiet))["wide"]
    assert not any("failed" in row for row in again)
    assert len(read(tmp_path / "wide.jsonl")) == 4


async def test_nothing_listening_is_not_mistaken_for_wrong_answers(tmp_path: Path):
    """Where the orchestrator cannot be reached the run ends with the error."""
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as client:
        with pytest.raises(ExceptionGroup):
            await run(client, [WIDE], ITEMS[:1], tmp_path, 1, _quiet)
    assert read(tmp_path / "wide.jsonl") == []


def test_problem_sets_are_what_they_say(tmp_path: Path):
    """The pocket domain's are different and of one split; a file's bad line is named."""
    items = pocket("test", 50, seed=9)
    assert len({item.problem for item in items}) == 50
    assert {item.source.split for item in items if item.source} == {"test"}
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"problem": "1 + 1?", "answer": 2}) + '\n{"problem": "x"}\n', "utf-8")
    assert from_file(path, 1) == [Item("set-1", "1 + 1?", "2")]
    with pytest.raises(BadProblemSet, match="line 2"):
        from_file(path)
