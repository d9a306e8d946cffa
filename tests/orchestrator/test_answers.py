"""Symbolic comparison of answers, in a worker process that may be killed at any time."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from orchestrator.answers import AnswerEquivalence
from orchestrator.answers.equivalence import LIMIT_SECONDS, MAX_CHARS, MAX_COMPARISONS

pytestmark = pytest.mark.anyio

ENDLESS = r"10^{100000000}"
"""An expression whose evaluation takes far longer than any limit."""


@pytest.fixture(scope="module")
async def equivalence() -> AsyncGenerator[AnswerEquivalence]:
    """Run an equivalence until its worker is warm, and yield it."""
    started = AnswerEquivalence()
    async with started.running():
        with anyio.fail_after(60):
            await started.warm.wait()
        yield started


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]


async def _wait_until(condition: object, seconds: float = 10) -> None:
    assert callable(condition)
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - another process is watched
            await anyio.sleep(0.005)


def _process(equivalence: AnswerEquivalence) -> int:
    assert equivalence._worker is not None  # pyright: ignore[reportPrivateUsage] - the process is what is tested
    return equivalence._worker.process.pid  # pyright: ignore[reportPrivateUsage]


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
async def test_symbolic_comparison_is_symmetric(equivalence: AnswerEquivalence, a: str, b: str, expected: str):
    """Answers that text leaves undecided are compared symbolically, with the same result in either order."""
    assert await equivalence.equivalent(a, b) == expected
    assert await equivalence.equivalent(b, a) == expected


async def test_an_endless_comparison_is_unknown_and_blocks_nothing(equivalence: AnswerEquivalence):
    """It ends at its time limit without blocking the event loop; its fork is gone and the next comparison works."""
    ticks = 0
    started = anyio.current_time()

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        assert await equivalence.equivalent(ENDLESS, "2") == "unknown"
        group.cancel_scope.cancel()
    assert LIMIT_SECONDS - 0.1 <= anyio.current_time() - started < LIMIT_SECONDS + 1
    assert ticks > 50
    await _wait_until(lambda: not _children(_process(equivalence)))
    assert await equivalence.equivalent("x+1", "1+x") == "same"


async def test_cancelling_kills_the_comparison(equivalence: AnswerEquivalence):
    """A cancelled comparison stops computing, and the worker stays warm for the next one."""
    process = _process(equivalence)
    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(equivalence.equivalent, ENDLESS, "2")
        await _wait_until(lambda: _children(process))
        started = anyio.current_time()
        group.cancel_scope.cancel()
    assert anyio.current_time() - started < LIMIT_SECONDS / 2
    assert not _children(process)
    assert await equivalence.equivalent("x+1", "1+x") == "same"
    assert _process(equivalence) == process


async def test_concurrent_comparisons(equivalence: AnswerEquivalence):
    """Concurrent callers wait for each other and get their own results."""
    results: dict[int, str] = {}

    async def compare(index: int) -> None:
        results[index] = await equivalence.equivalent(f"x+{index}", f"{index}+x" if index % 2 else f"{index}-x")

    async with anyio.create_task_group() as group:
        for index in range(8):
            group.start_soon(compare, index)
    assert results == {index: "same" if index % 2 else "different" for index in range(8)}


async def test_text_is_compared_before_symbols(equivalence: AnswerEquivalence):
    """A representative that is the same as text is chosen at once, whatever the symbolic cost of the others."""
    started = anyio.current_time()
    assert await equivalence.group_of("42", [ENDLESS, "41", r"\boxed{42}"]) == 2
    assert anyio.current_time() - started < LIMIT_SECONDS / 2


async def test_a_group_is_identified_symbolically(equivalence: AnswerEquivalence):
    """The index is that of the first equivalent representative, or None if there is none."""
    assert await equivalence.group_of("1+x", ["x", "x+2", "x+1", "x+1"]) == 2
    assert await equivalence.group_of("x+9", ["x", "7"]) is None


async def test_the_cost_of_grouping_is_bounded(equivalence: AnswerEquivalence):
    """Few representatives are compared symbolically, all of them within one time limit."""
    far = [f"x+{index}" for index in range(10, 10 + MAX_COMPARISONS)]
    assert await equivalence.group_of("1+x", [*far, "x+1"]) is None
    started = anyio.current_time()
    assert await equivalence.group_of("x", [ENDLESS] * 50) is None
    assert anyio.current_time() - started < LIMIT_SECONDS + 1


async def test_long_answers_are_not_compared_symbolically(equivalence: AnswerEquivalence):
    """An answer longer than `MAX_CHARS` is compared as text only."""
    long = "+".join(["x"] * MAX_CHARS)
    assert await equivalence.equivalent(long, "1+x") == "unknown"
    assert await equivalence.equivalent(long, f" {long} ") == "same"


async def test_model_text_is_not_evaluated(equivalence: AnswerEquivalence, tmp_path: Path):
    """Python code in an answer is not executed."""
    target = tmp_path / "made"
    await equivalence.equivalent(f"__import__('os').mkdir('{target}')", "1")
    assert not target.exists()


async def test_a_dead_worker_is_restarted(equivalence: AnswerEquivalence):
    """After its death, symbolic comparison works again as soon as a new worker is warm."""
    before = _process(equivalence)
    os.kill(before, 9)
    await _wait_until(lambda: equivalence._worker is not None and _process(equivalence) != before, 60)  # pyright: ignore[reportPrivateUsage]
    assert await equivalence.equivalent("x+1", "1+x") == "same"


async def test_a_cold_start_does_not_wait_and_closing_leaves_no_process():
    """Before the worker is warm, text and numbers are compared and symbols are `unknown`; closing ends the worker."""
    own = os.getpid()
    before = set(_children(own))
    equivalence = AnswerEquivalence()
    async with equivalence.running():
        with anyio.fail_after(1):
            assert await equivalence.equivalent("x+1", "1+x") == "unknown"
            assert await equivalence.equivalent("1/2", "0.5") == "same"
        await _wait_until(lambda: set(_children(own)) - before)
    assert set(_children(own)) == before
