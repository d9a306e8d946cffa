"""Reports: figures of rows that are known, and a whole run through the command line."""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from anyio import run_process
from stack import stack

from counterpoint.evaluate import app
from evaluation.items import Item
from evaluation.plans import BadPlan, limited, plan
from evaluation.report import flows, frontier, line
from evaluation.runs import BadRun, Manifest, Plan, rows_in
from evaluation.selections import price, selected, stopped

pytestmark = pytest.mark.anyio

COMMAND = [sys.executable, "-m", "counterpoint"]
ITEMS = [{"problem": f"Add {k} and 30 and 7.", "answer": k + 37, "level": 1 + k % 2} for k in range(6)]


def row(name: str, right: str = "", p: float | None = None, tokens: int = 100) -> dict[str, Any]:
    """A recorded solve with a candidate for each letter, c or i; its answer is the last one's, and wrong ones answer 0."""
    candidates = [
        {
            "id": f"c{k}",
            "answer": "1" if ok else "0",
            "right": ok,
            "p_correct": p if ok or p is None else 1 - p,
            "verdict": None,
        }
        for k, ok in enumerate(letter == "c" for letter in right)
    ]
    usage = {"calls": 1, "prompt_tokens": 20, "completion_tokens": tokens - 20}
    return {
        "id": name,
        "level": 1,
        "right": right.endswith("c"),
        "tokens": tokens,
        "usage": {"actor": usage, "critic": {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0}},
        "candidates": [{**candidate, "text": ""} for candidate in candidates],
    }


def test_flows_are_shares_of_all():
    """From the first draft to the answer; a failed solve is wrong before and after."""
    rows = [row("a", "cc"), row("b", "ci"), row("c", "ic"), row("d", "i"), row("e")]
    assert flows(rows) == {"c2c": 0.2, "c2i": 0.2, "i2c": 0.2, "i2i": 0.4}


def test_a_line_counts_by_group_and_role():
    """Shares in [0, 1], tokens a problem."""
    rows = [row("a", "c", tokens=100), row("b", "i", tokens=300)]
    found = line("plan", rows, {"a": "easy", "b": "hard"})
    assert (found.accuracy.mean, found.tokens) == (0.5, 200)
    assert found.groups == {"easy": 1.0, "hard": 0.0}
    assert found.by_role == {"actor": 200, "critic": 0}


def test_the_front_holds_what_nothing_cheaper_beats():
    """Of equals the cheaper one."""
    points = [("dear", 900.0, 0.8), ("cheap", 100.0, 0.5), ("worse", 200.0, 0.4), ("same", 950.0, 0.8), ("good", 300.0, 0.7)]
    assert frontier(points) == ["cheap", "good", "dear"]


def test_a_vote_is_replayed_at_every_size():
    """The first sample alone, then the majority; its price is the prompt once and a share of the rest."""
    rows = [row("a", "icc", tokens=80)]
    assert [selected(rows[0], n, "majority") for n in (1, 2, 3)] == [False, False, True]
    assert [price(rows, n, "majority") for n in (1, 3)] == [40.0, 80.0]


def test_stopping_is_replayed_in_waves():
    """Four that agree end a vote of sixteen under every rule but certainty, which waits until the rest cannot change it."""
    agreed = row("a", "c" * 16, p=0.99)
    ends = {rule: stopped(agreed, 16, "weighted", rule, 4) for rule in ("beta", "window", "certain")}
    assert {rule: end.right for rule, end in ends.items()} == dict.fromkeys(ends, True)
    assert (ends["beta"].samples, ends["window"].samples, ends["certain"].samples) == (4, 4, 12)


def test_plans_say_what_they_set():
    """A name for each strategy and budget; multiples of a draft; what means nothing is refused by name."""
    asked = plan('{"name": "refine", "rounds": 2}', 0.5, 256)
    assert asked.name == "refine,rounds=2"
    found = limited([asked], ["2000", "1.5x"], [{"id": "short", "tokens": 120}, {"id": "long", "tokens": 300}])
    bodies = [[one.body(Item(name, "x", "1"), 1) for name in ("short", "long")] for one in found]
    limits = [[body["budget"]["max_tokens"] for body in of_one] for of_one in bodies]
    assert {one.name: limit for one, limit in zip(found, limits, strict=True)} == {
        "refine,rounds=2@2000": [2000, 2000],
        "refine,rounds=2@1.5x": [180, 450],
    }
    for strategy in ("nonsense", "{", '{"name": "refine", "rounds": 99}'):
        with pytest.raises(BadPlan, match="strategy"):
            plan(strategy, 0.5, 256)
    with pytest.raises(BadPlan, match="budget much"):
        limited([asked], ["much"], [])


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    """Another seed, or the same name for another question."""
    with pytest.raises(BadRun, match=r"run\.json"):
        rows_in(tmp_path)
    Manifest(1, {"a": Plan("a", {"name": "single"})}, {}).save(tmp_path)
    with pytest.raises(BadRun, match="seed"):
        Manifest.load(tmp_path).with_more([], [], 2)
    with pytest.raises(BadRun, match="plan a"):
        Manifest.load(tmp_path).with_more([Plan("a", {"name": "auto"})], [], 1)


async def test_a_run_from_the_command_line(tmp_path: Path):
    """Rows, table and every figure of a problem set in a file; a second time nothing is asked again."""
    problems = tmp_path / "set.jsonl"
    problems.write_text("".join(f"{json.dumps(item)}\n" for item in ITEMS), "utf-8")
    wide = '{"name":"best_of_n","n":4,"select":"weighted","stop_early":false}'
    async with stack() as running:
        command = [*COMMAND, "eval", "run", "--problems", str(problems), "--urls", *running.urls]
        command += ["--strategy", "refine", "--strategy", wide, "--out", str(tmp_path / "run"), "--concurrency", "2"]
        said = (await run_process(command)).stdout.decode()
        calls = running.generations
        limited = await run_process([*command, "--budget", "6x"])
        assert running.generations > calls
        calls = running.generations
        assert (await run_process([*command, "--budget", "6x"])).stdout == limited.stdout
        assert running.generations == calls
    assert "| level 1 | level 2 |" in said
    assert (tmp_path / "run" / "summary.json").exists()
    drawn = {path.stem: _size(path) for path in (tmp_path / "run" / "figures").iterdir()}
    assert set(drawn) == {"pareto", "groups", "samples", "flows", "calibration", "tokens"}
    assert all(width > 500 and height > 300 for width, height in drawn.values())


async def test_a_critic_in_the_loop(tmp_path: Path):
    """Both roles on one model is self-critique; flows of each round add up; nothing is asked twice."""
    problems = tmp_path / "set.jsonl"
    problems.write_text("".join(f"{json.dumps(item)}\n" for item in ITEMS), "utf-8")
    async with stack() as running:
        command = [*COMMAND, "eval", "critic", "--problems", str(problems), "--urls", *running.urls]
        command += ["--rounds", "2", "--out", str(tmp_path / "critic")]
        said = (await run_process(command)).stdout.decode()
        calls = running.generations
        assert (await run_process(command)).stdout.decode() == said
        assert running.generations == calls
    assert calls == len(ITEMS) * (1 + 2 * 2 + 1)
    assert said.startswith("self-critique, 6 problems")
    shares = [part.split() for text in said.splitlines() if "of all:" in text for part in [text.split(": ")[1]]]
    assert [sum(float(word.strip(",")) for word in share[1::2]) for share in shares] == pytest.approx(
        [100.0, 100.0], abs=0.3
    )


def test_every_measurement_is_a_command():
    """As the documentation names them."""
    assert {command.name for command in app.registered_commands} == {"run", "report", "critic", "pocket", "fit-auto"}


def _size(path: Path) -> tuple[int, int]:
    """Width and height out of a PNG's header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", data[16:24])
