"""Equivalence by mathematics, in a process that may be killed at any time."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from orchestrator.answers import Answers
from orchestrator.answers.equivalence import LIMIT_SECONDS, MAX_CHARS, MOST_COMPARISONS

pytestmark = pytest.mark.anyio

BURNS = r"10^{100000000}"
"""Evaluating it takes longer than anybody waits."""


@pytest.fixture(scope="module")
async def answers() -> AsyncGenerator[Answers]:
    """Answers whose process is warm."""
    made = Answers()
    async with made.running():
        with anyio.fail_after(60):
            await made.warm.wait()
        yield made


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]


async def _until(condition: object, seconds: float = 10) -> None:
    assert callable(condition)
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - another process is watched
            await anyio.sleep(0.005)


def _process(answers: Answers) -> int:
    assert answers._worker is not None  # pyright: ignore[reportPrivateUsage] - the process is what is tested
    return answers._worker.process.pid  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("x+1", "1+x", "same"),
        (r"\sqrt{8}", r"2\sqrt{2}", "same"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", "same"),
        ("x=5", "5", "same"),
        (r"\{2, 1\}", r"\{1, 2\}", "same"),
        ("x^2", "x^3", "different"),
        ("(1,2)", "[1,2]", "different"),
        ("Monday", "Tuesday", "different"),
    ],
)
async def test_mathematics_decides_in_both_directions(answers: Answers, a: str, b: str, expected: str):
    """What text cannot tell, mathematics does, symmetrically."""
    assert await answers.equivalent(a, b) == expected
    assert await answers.equivalent(b, a) == expected


async def test_a_comparison_that_burns_is_unknown_and_blocks_nobody(answers: Answers):
    """It ends at the limit while the event loop goes on; its fork is gone and the next comparison works."""
    ticks = 0
    started = anyio.current_time()

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        assert await answers.equivalent(BURNS, "2") == "unknown"
        group.cancel_scope.cancel()
    assert LIMIT_SECONDS - 0.1 <= anyio.current_time() - started < LIMIT_SECONDS + 1
    assert ticks > 50
    await _until(lambda: not _children(_process(answers)))
    assert await answers.equivalent("x+1", "1+x") == "same"


async def test_cancelling_kills_the_comparison(answers: Answers):
    """Nothing goes on computing for somebody who left, and the process stays warm for the next one."""
    process = _process(answers)
    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(answers.equivalent, BURNS, "2")
        await _until(lambda: _children(process))
        started = anyio.current_time()
        group.cancel_scope.cancel()
    assert anyio.current_time() - started < LIMIT_SECONDS / 2
    assert not _children(process)
    assert await answers.equivalent("x+1", "1+x") == "same"
    assert _process(answers) == process


async def test_side_by_side(answers: Answers):
    """Callers take turns and get their own answers."""
    found: dict[int, str] = {}

    async def ask(index: int) -> None:
        found[index] = await answers.equivalent(f"x+{index}", f"{index}+x" if index % 2 else f"{index}-x")

    async with anyio.create_task_group() as group:
        for index in range(8):
            group.start_soon(ask, index)
    assert found == {index: "same" if index % 2 else "different" for index in range(8)}


async def test_a_group_is_found_by_text_before_mathematics(answers: Answers):
    """A representative that is the same by text wins at once, however many could burn."""
    started = anyio.current_time()
    assert await answers.group_of("42", [BURNS, "41", r"\boxed{42}"]) == 2
    assert anyio.current_time() - started < LIMIT_SECONDS / 2


async def test_a_group_is_found_by_mathematics(answers: Answers):
    """The index is that of the first equivalent representative, None where there is none."""
    assert await answers.group_of("1+x", ["x", "x+2", "x+1", "x+1"]) == 2
    assert await answers.group_of("x+9", ["x", "7"]) is None


async def test_the_cost_of_grouping_is_bounded(answers: Answers):
    """Mathematics is done with few representatives, and many that burn take one limit in all."""
    far = [f"x+{index}" for index in range(10, 10 + MOST_COMPARISONS)]
    assert await answers.group_of("1+x", [*far, "x+1"]) is None
    started = anyio.current_time()
    assert await answers.group_of("x", [BURNS] * 50) is None
    assert anyio.current_time() - started < LIMIT_SECONDS + 1


async def test_long_answers_are_not_sent_to_mathematics(answers: Answers):
    """An answer beyond the cap is compared as text only."""
    long = "+".join(["x"] * MAX_CHARS)
    assert await answers.equivalent(long, "1+x") == "unknown"
    assert await answers.equivalent(long, f" {long} ") == "same"


async def test_model_text_is_not_evaluated(answers: Answers, tmp_path: Path):
    """Python inside an answer is not run."""
    target = tmp_path / "made"
    await answers.equivalent(f"__import__('os').mkdir('{target}')", "1")
    assert not target.exists()


async def test_a_dead_process_is_started_again(answers: Answers):
    """After its death answers are unknown, and soon they are not."""
    before = _process(answers)
    os.kill(before, 9)
    await _until(lambda: answers._worker is not None and _process(answers) != before, 60)  # pyright: ignore[reportPrivateUsage]
    assert await answers.equivalent("x+1", "1+x") == "same"


async def test_before_it_is_warm_nothing_waits_and_afterwards_nothing_is_left():
    """A cold start answers `unknown` at once, text and numbers work, and closing leaves no process."""
    own = os.getpid()
    before = set(_children(own))
    made = Answers()
    async with made.running():
        with anyio.fail_after(1):
            assert await made.equivalent("x+1", "1+x") == "unknown"
            assert await made.equivalent("1/2", "0.5") == "same"
        await _until(lambda: set(_children(own)) - before)
    assert set(_children(own)) == before
