"""Runs through real services on scripted engines: rows, resumption, failures, replayed selections."""

import json
from pathlib import Path

import httpx
import pytest
from stack import stack

from evaluation.problem_sets import BadProblemSet, ProblemItem, from_file, pocket
from evaluation.replay import selected
from evaluation.rows import SolveRow
from evaluation.runs import Manifest, SolvePlan, rows_in, run
from services.contracts.solve import SolveUsage
from services.jsonl import read

pytestmark = pytest.mark.anyio

ITEMS = [ProblemItem(f"i{k}", f"Add {k} and 30 and 7.", str(k + 37), level=2) for k in range(6)]
WIDE = SolvePlan("wide", {"name": "best_of_n", "n": 5, "select": "weighted", "stop_early": False}, {"temperature": 0.9})


def _quiet(_name: str, _done: int, _total: int) -> None:
    return


async def test_a_repeated_run_resumes(tmp_path: Path):
    """It reads the rows of the file, and solves again only the problem whose line was cut off."""
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


def _timeless(rows: dict[str, list[SolveRow]]) -> list[SolveRow]:
    """Return the rows without seconds and cached tokens, which differ from run to run."""
    actors = [row.usage.actor.model_copy(update={"cached_tokens": 0}) for row in rows["wide"]]
    usages = [SolveUsage(actor=actor) for actor in actors]
    return [row.model_copy(update={"usage": usage}) for row, usage in zip(rows["wide"], usages, strict=True)]


async def test_a_replayed_selection_is_the_service_s_own(tmp_path: Path):
    """Selecting among all recorded samples gives the answer of the solve."""
    async with stack() as running:
        rows = (await run(running.client, [WIDE], ITEMS, tmp_path, 3, _quiet))["wide"]
    assert [selected(row, 5, "weighted") for row in rows] == [row.right for row in rows]
    assert {row.right for row in rows} == {True} or any(len({c.answer for c in row.candidates}) > 1 for row in rows)


async def test_a_failed_solve_is_a_row_that_counts_as_wrong_and_is_tried_again(tmp_path: Path):
    """It keeps its problem object until the next run."""
    async with stack(without="actor") as running:
        rows = (await run(running.client, [WIDE], ITEMS[:2], tmp_path, 1, _quiet))["wide"]
    assert [row.right for row in rows] == [False, False]
    assert [row.failed.code for row in rows if row.failed] == ["not_ready", "not_ready"]
    async with stack() as running:
        again = (await run(running.client, [WIDE], ITEMS[:2], tmp_path, 1, _quiet))["wide"]
    assert not any(row.failed for row in again)
    assert len(read(tmp_path / "wide.jsonl", SolveRow)) == 4


async def test_an_unreachable_orchestrator_is_no_wrong_answer(tmp_path: Path):
    """The run ends with the error."""
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as client:
        with pytest.raises(ExceptionGroup):
            await run(client, [WIDE], ITEMS[:1], tmp_path, 1, _quiet)
    assert read(tmp_path / "wide.jsonl", SolveRow) == []


def test_a_recorded_run_can_be_read(tmp_path: Path):
    """Fields that are missing have defaults, and unknown fields are ignored."""
    usage = {"actor": {"prompt_tokens": 52, "completion_tokens": 51, "calls": 1}, "total_tokens": 103}
    judgement = {"p_correct": None, "verdict": None, "first_error": None, "selected": True, "right": True}
    candidate = {"id": "c0", "parent": None, "answer": "37", **judgement, "text": "30 + 7 = 37", "new": 1}
    solved = {"id": "a", "level": 2, "right": True, "tokens": 103, "usage": usage, "candidates": [candidate], "new": 1}
    error = {"type": "urn:x", "title": "Not ready", "status": 503, "detail": "no actor", "code": "not_ready"}
    failed = {**solved, "id": "b", "right": False, "candidates": list[str](), "failed": error}
    Manifest(1, {"wide": WIDE}, {"a": "all", "b": "all"}).save(tmp_path)
    (tmp_path / "wide.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in (solved, failed)), "utf-8")
    first, second = rows_in(tmp_path)[1]["wide"]
    assert (first.usage.actor.total_tokens, first.candidates[0].text, first.done) == (103, "30 + 7 = 37", True)
    assert (second.candidates, second.stop_reason, second.done) == ((), None, False)


def test_problem_sets_hold_distinct_problems_and_name_a_bad_line(tmp_path: Path):
    """Problems of the pocket domain are distinct and of one split."""
    items = pocket("test", 50, seed=9)
    assert len({item.problem for item in items}) == 50
    assert {item.source.split for item in items if item.source} == {"test"}
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"problem": "1 + 1?", "answer": 2}) + '\n{"problem": "x"}\n', "utf-8")
    assert from_file(path, 1) == [ProblemItem("set-1", "1 + 1?", "2")]
    with pytest.raises(BadProblemSet, match="line 2"):
        from_file(path)
