"""Reports: summaries of known rows, and a whole run through the command line."""

import json
import struct
import sys
from pathlib import Path

import pytest
from anyio import run_process
from stack import stack

from counterpoint.evaluate import app
from evaluation.plans import BadPlan, limited, plan
from evaluation.problem_sets import ProblemItem
from evaluation.replay import price, selected, stopped
from evaluation.report import flows, frontier, summarise
from evaluation.rows import SolveRow
from evaluation.runs import BadRun, Manifest, SolvePlan, rows_in

pytestmark = pytest.mark.anyio

COMMAND = [sys.executable, "-m", "counterpoint"]
ITEMS = [{"problem": f"Add {k} and 30 and 7.", "answer": k + 37, "level": 1 + k % 2} for k in range(6)]


def row(name: str, right: str = "", p: float | None = None, tokens: int = 100) -> SolveRow:
    """Return a solve with a candidate per letter, c or i; its answer is the last one's, and wrong candidates answer 0."""
    candidates = [
        {
            "id": f"c{k}",
            "parent": None,
            "answer": "1" if ok else "0",
            "p_correct": p if ok or p is None else 1 - p,
            "verdict": None,
            "first_error": None,
            "selected": k == len(right) - 1,
            "right": ok,
            "text": "",
        }
        for k, ok in enumerate(letter == "c" for letter in right)
    ]
    usage = {"calls": 1, "prompt_tokens": 20, "completion_tokens": tokens - 20}
    return SolveRow.model_validate(
        {
            "id": name,
            "level": 1,
            "right": right.endswith("c"),
            "tokens": tokens,
            "usage": {"actor": usage},
            "candidates": candidates,
        }
    )


def test_flows_are_shares_of_all():
    """A solve without candidates is wrong before and after."""
    rows = [row("a", "cc"), row("b", "ci"), row("c", "ic"), row("d", "i"), row("e")]
    assert flows(rows) == {"c2c": 0.2, "c2i": 0.2, "i2c": 0.2, "i2i": 0.4}


def test_a_summary_counts_by_group_and_role():
    """Accuracies are shares in [0, 1]; tokens are means per problem."""
    rows = [row("a", "c", tokens=100), row("b", "i", tokens=300)]
    summary = summarise("plan", rows, {"a": "easy", "b": "hard"})
    assert (summary.accuracy.mean, summary.tokens) == (0.5, 200)
    assert summary.groups == {"easy": 1.0, "hard": 0.0}
    assert summary.by_role == {"actor": 200, "critic": 0}


def test_the_front_holds_the_points_that_no_cheaper_point_beats():
    """Of two equally accurate points the cheaper one is on the front."""
    points = [("dear", 900.0, 0.8), ("cheap", 100.0, 0.5), ("worse", 200.0, 0.4), ("same", 950.0, 0.8), ("good", 300.0, 0.7)]
    assert frontier(points) == ["cheap", "good", "dear"]


def test_a_vote_is_replayed_at_every_size():
    """The price of a smaller vote is the prompt once and a share of the other tokens."""
    rows = [row("a", "icc", tokens=80)]
    assert [selected(rows[0], n, "majority") for n in (1, 2, 3)] == [False, False, True]
    assert [price(rows, n, "majority") for n in (1, 3)] == [40.0, 80.0]


def test_stopping_is_replayed_in_waves():
    """Four equal answers of sixteen stop a vote; only `certain` waits until the rest cannot change the choice."""
    agreed = row("a", "c" * 16, p=0.99)
    votes = {rule: stopped(agreed, 16, "weighted", rule, 4) for rule in ("beta", "window", "certain")}
    assert {rule: vote.right for rule, vote in votes.items()} == dict.fromkeys(votes, True)
    assert {rule: vote.samples for rule, vote in votes.items()} == {"beta": 4, "window": 4, "certain": 12}


def test_plans_are_named_after_their_parameters():
    """A multiple is of the problem's own greedy draft; an invalid strategy or budget is named in the error."""
    unlimited = plan('{"name": "refine", "rounds": 2}', 0.5, 256)
    assert unlimited.name == "refine,rounds=2"
    plans = limited([unlimited], ["2000", "1.5x"], [row("short", tokens=120), row("long", tokens=300)])
    items = [ProblemItem(name, "x", "1") for name in ("short", "long")]
    assert {plan.name: [plan.body(item, 1)["budget"]["max_tokens"] for item in items] for plan in plans} == {
        "refine,rounds=2@2000": [2000, 2000],
        "refine,rounds=2@1.5x": [180, 450],
    }
    for strategy in ("nonsense", "{", '{"name": "refine", "rounds": 99}'):
        with pytest.raises(BadPlan, match="strategy"):
            plan(strategy, 0.5, 256)
    with pytest.raises(BadPlan, match="budget much"):
        limited([unlimited], ["much"], [])


def test_a_folder_of_a_different_run_is_refused(tmp_path: Path):
    """The seed and the plans of the same name must be equal."""
    with pytest.raises(BadRun, match=r"run\.json"):
        rows_in(tmp_path)
    Manifest(1, {"a": SolvePlan("a", {"name": "single"})}, {}).save(tmp_path)
    with pytest.raises(BadRun, match="seed"):
        Manifest.load(tmp_path).extended([], [], 2)
    with pytest.raises(BadRun, match="plan a"):
        Manifest.load(tmp_path).extended([SolvePlan("a", {"name": "auto"})], [], 1)


async def test_a_run_from_the_command_line(tmp_path: Path):
    """It writes rows, table and every figure for a problem set in a file; repeated, it makes no calls."""
    problems = tmp_path / "set.jsonl"
    problems.write_text("".join(f"{json.dumps(item)}\n" for item in ITEMS), "utf-8")
    wide = '{"name":"best_of_n","n":4,"select":"weighted","stop_early":false}'
    async with stack() as running:
        command = [*COMMAND, "eval", "run", "--problems", str(problems), "--urls", *running.urls]
        command += ["--strategy", "refine", "--strategy", wide, "--out", str(tmp_path / "run"), "--concurrency", "2"]
        output = (await run_process(command)).stdout.decode()
        calls = running.generations
        limited = await run_process([*command, "--budget", "6x"])
        assert running.generations > calls
        calls = running.generations
        assert (await run_process([*command, "--budget", "6x"])).stdout == limited.stdout
        assert running.generations == calls
    assert "| level 1 | level 2 |" in output
    assert (tmp_path / "run" / "summary.json").exists()
    figures = {path.stem: _size(path) for path in (tmp_path / "run" / "figures").iterdir()}
    assert set(figures) == {"pareto", "groups", "samples", "flows", "calibration", "tokens"}
    assert all(width > 500 and height > 300 for width, height in figures.values())


async def test_a_critic_in_the_loop(tmp_path: Path):
    """Both roles on one model is self-critique; the flows of each round add up; repeated, it makes no calls."""
    problems = tmp_path / "set.jsonl"
    problems.write_text("".join(f"{json.dumps(item)}\n" for item in ITEMS), "utf-8")
    async with stack() as running:
        command = [*COMMAND, "eval", "critic", "--problems", str(problems), "--urls", *running.urls]
        command += ["--rounds", "2", "--out", str(tmp_path / "critic")]
        output = (await run_process(command)).stdout.decode()
        calls = running.generations
        assert (await run_process(command)).stdout.decode() == output
        assert running.generations == calls
    assert calls == len(ITEMS) * (1 + 2 * 2 + 1)
    assert output.startswith("self-critique, 6 problems")
    shares = [part.split() for text in output.splitlines() if "of all:" in text for part in [text.split(": ")[1]]]
    assert [sum(float(word.strip(",")) for word in share[1::2]) for share in shares] == pytest.approx(
        [100.0, 100.0], abs=0.3
    )


def test_every_measurement_is_a_command():
    """The commands are those that the documentation names."""
    assert {command.name for command in app.registered_commands} == {"run", "report", "critic", "pocket", "fit-auto"}


def _size(path: Path) -> tuple[int, int]:
    """Return the width and height in a PNG's header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", data[16:24])
