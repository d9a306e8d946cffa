"""Commands that use a running service: `jobs`, `replay`, and `solve` with a file of problems."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from anyio import run_process
from stack import NOWHERE, Stack, stack

from counterpoint.batch import BatchRow, load
from evaluation.problem_sets import from_file
from services.jsonl import read

pytestmark = pytest.mark.anyio

COMMAND = [sys.executable, "-m", "counterpoint"]


async def run(running: Stack, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Run a command against the orchestrator, check its exit code, and return its output and its errors."""
    result = await run_process([*COMMAND, *arguments, "--url", running.urls[0]], check=False)
    assert result.returncode == code, result.stderr.decode()
    return result.stdout.decode(), result.stderr.decode()


async def test_a_job_is_submitted_followed_and_replayed():
    """The same idempotency key is the same job; ending a finished job is refused."""
    async with stack() as running:
        submit = ("jobs", "submit", "Add 12 and 30 and 7.", "--seed", "4", "--key", "one", "--strategy", '{"name":"refine"}')
        printed, warning = await run(running, *submit)
        job = printed.strip()
        assert "not durable" in warning
        assert (await run(running, *submit))[0].strip() == job
        followed, _ = await run(running, "jobs", "follow", job)
        assert "actor writes c0" in followed
        assert "answer" in followed.splitlines()[-1]
        assert (await run(running, "replay", job))[0] == followed
        shown = json.loads((await run(running, "jobs", "show", job))[0])
        assert (shown["status"], shown["result"]["strategy"]["name"]) == ("succeeded", "refine")
        events = [json.loads(line) for line in (await run(running, "replay", job, "--json"))[0].splitlines()]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        for command in ("cancel", "answer-now"):
            assert "job_finished" in (await run(running, "jobs", command, job, code=1))[1]
        assert "not_found" in (await run(running, "replay", "nothing", code=1))[1]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_a_file_of_problems_is_solved_and_resumed(tmp_path: Path):
    """A line per problem keeps its fields; repeated, only problems that failed or have no complete line are solved."""
    source, out = tmp_path / "problems.jsonl", tmp_path / "out.jsonl"
    problems = [{"problem": f"Add 12 and 30 and {k}.", "level": k, **({"id": "last"} if k == 5 else {})} for k in range(6)]
    source.write_text("\n\n".join(map(json.dumps, problems)) + "\n", "utf-8")
    command = ("solve", "-f", str(source), "-o", str(out), "--seed", "4", "--strategy", "single")
    async with stack() as running:
        output, _ = await run(running, *command, "--max-tokens", "5", code=1)
        assert "6/6" in output
        assert {row["error"]["code"] for row in _lines(out)} == {"budget_too_small"}
        out.write_text("", "utf-8")
        first = [json.dumps(problem) for problem in problems[:2]]
        (tmp_path / "two.jsonl").write_text("\n".join(first), "utf-8")
        await run(running, *command[:2], str(tmp_path / "two.jsonl"), *command[3:])
        calls = running.generations
        await run(running, *command[:2], str(tmp_path / "two.jsonl"), *command[3:])
        assert running.generations == calls
        out.write_text(out.read_text("utf-8").replace('"id": 2', '"id": 3') + '{"id": 5, "respon', "utf-8")
        await run(running, *command)
    rows = [row.model_dump() for row in read(out, BatchRow)]
    assert {row["id"]: row["level"] for row in rows} == {1: 0, 3: 1, 5: 2, 7: 3, 9: 4, "last": 5}
    assert all(row["response"]["answer"] == row["answer"] for row in rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"problem": "x"}\n{"problem": 3}\n', "line 2: problem"),
        ("nonsense\n", "line 1: not JSON"),
        ('{"problem": "x", "id": 1}\n{"problem": "y", "id": 1}\n', "id 1"),
    ],
)
async def test_an_invalid_file_is_refused_as_a_whole(tmp_path: Path, text: str, message: str):
    """The error names the line or the id, and no problem is solved."""
    source, out = tmp_path / "problems.jsonl", tmp_path / "out.jsonl"
    source.write_text(text, "utf-8")
    result = await run_process([*COMMAND, "solve", "-f", str(source), "-o", str(out)], check=False)
    assert (result.returncode, out.exists()) == (2, False)
    assert message in result.stderr.decode()


def test_a_line_ends_only_at_a_line_feed(tmp_path: Path):
    """U+2028 and U+0085 may stand inside a string, in the problems and in the responses."""
    line = json.dumps({"problem": "1 +\u2028\u00851?", "id": "a", "answer": "2"}, ensure_ascii=False)
    path = tmp_path / "lines.jsonl"
    path.write_text(line + "\n\n" + line.replace('"a"', '"b"'), "utf-8")
    problems = [json.loads(line)["problem"]] * 2
    assert [problem.problem for problem in load(path)] == problems
    assert [item.problem for item in from_file(path)] == problems
    assert [row.id for row in read(path, BatchRow)] == ["a", "b"]


async def test_a_file_needs_a_service_that_answers(tmp_path: Path):
    """The command says how to start one, and exits with 3."""
    source = tmp_path / "problems.jsonl"
    source.write_text('{"problem": "x"}\n{"problem": "y"}\n', "utf-8")
    command = [*COMMAND, "solve", "-f", str(source), "-o", str(tmp_path / "out.jsonl"), "--url", NOWHERE]
    result = await run_process(command, check=False)
    assert result.returncode == 3
    assert "counterpoint up" in result.stderr.decode()


async def test_options_that_do_not_go_together_are_refused():
    """A problem and a file, a file without --out, neither; a strategy that is no JSON."""
    for arguments in (["x", "-f", "y"], ["-f", "y"], [], ["x", "--strategy", "{"]):
        result = await run_process([*COMMAND, "solve", *arguments], check=False)
        assert result.returncode == 2, arguments
