"""The embedded engine's slots: they are released promptly, granted fairly, and never block the event loop."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import anyio
import pytest

from services.contracts.sampling import Sampling
from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.models import SMOLLM2, model_path
from services.engines.protocol import Generation
from services.engines.testing import complete, user_prompt
from services.errors import EngineFailed
from services.testing import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]

Record = Callable[[str, object], None]

ABORT_SECONDS = 1.0
"""Generous: an abort takes two batches, about 0.1 s, on a machine that does nothing else."""


def sampling(**fields: object) -> Sampling:
    """Return sampling parameters with a seed and a small `max_tokens`."""
    return Sampling.model_validate({"seed": 7, "max_tokens": 12, **fields})


async def start_of_next_call(engine: EmbeddedEngine) -> float:
    """Start a call that needs both slots; return the `perf_counter` time at which its prompt is being computed."""
    async with engine.generate(Generation(user_prompt("Hi"), sampling(max_tokens=1), n=2)) as running:
        await wait_until(lambda: running.usage.prompt_tokens > 0)
        return perf_counter()


def record_measurement(record_property: Record, name: str, seconds: Sequence[float]) -> None:
    """Record the measurement in the test's result and print it."""
    record_property(name, round(statistics.median(seconds), 4))
    print(f"{name}: median {statistics.median(seconds):.3f}, max {max(seconds):.3f}")  # noqa: T201 - a measurement


async def test_leaving_during_the_prompt_releases_the_slots(embedded: EmbeddedEngine, record_property: Record) -> None:
    """A call that is abandoned during its prompt releases both slots, and another call starts soon after."""
    seconds: list[float] = []
    for attempt in range(7):
        call = Generation(user_prompt(f"{attempt} " + "word " * 400), sampling(max_tokens=50), n=2)
        async with embedded.generate(call) as running:
            await wait_until(lambda running=running: running.usage.prompt_tokens > 0)
            start = perf_counter()
        seconds.append(await start_of_next_call(embedded) - start)
        assert running.usage.completion_tokens == 0
    record_measurement(record_property, "abort_in_prefill_seconds", seconds)
    assert statistics.median(seconds) < ABORT_SECONDS


async def test_leaving_during_generation_releases_the_slots(embedded: EmbeddedEngine, record_property: Record) -> None:
    """A call that is abandoned while it generates charges what was delivered, and the next call starts soon after."""
    seconds: list[float] = []
    for seed in range(7):
        call = Generation(user_prompt("Tell a long story."), sampling(seed=seed, max_tokens=400), n=2)
        async with embedded.generate(call) as running:
            delivered = 0
            async for delta in running:
                delivered += delta.tokens
                if delivered >= 8:
                    break
            start = perf_counter()
        seconds.append(await start_of_next_call(embedded) - start)
        assert 8 <= running.usage.completion_tokens <= 12
    record_measurement(record_property, "abort_in_writing_seconds", seconds)
    assert statistics.median(seconds) < ABORT_SECONDS


async def test_waiting_for_a_slot_can_be_cancelled(embedded: EmbeddedEngine) -> None:
    """Cancelling a waiting call costs nothing, and the calls before and after it are served."""
    outcomes: list[str] = []

    async def call(name: str, seconds: float | None) -> None:
        with anyio.move_on_after(seconds) as scope:
            await complete(embedded, Generation(user_prompt(name), sampling(max_tokens=20), n=2))
        outcomes.append(f"{name} {'cancelled' if scope.cancelled_caught else 'served'}")

    async with anyio.create_task_group() as group:
        group.start_soon(call, "first", None)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(call, "second", 0.01)
        group.start_soon(call, "third", None)
    assert outcomes == ["second cancelled", "first served", "third served"]
    assert embedded.in_flight == 0


async def test_the_event_loop_is_not_blocked(embedded: EmbeddedEngine) -> None:
    """A task that wakes every few milliseconds is never late by much while prompts and tokens are computed."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            start = perf_counter()
            await anyio.sleep(0.005)
            late.append(perf_counter() - start - 0.005)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await complete(embedded, Generation(user_prompt("Tell a story of some length."), sampling(max_tokens=16), n=2))
        group.cancel_scope.cancel()
    assert len(late) > 20
    assert statistics.quantiles(late, n=20)[-1] < 0.1


async def test_the_engine_opens_no_listening_socket(embedded: EmbeddedEngine) -> None:
    """The engine opens no listening socket: no TCP port and no reachable Unix socket."""
    assert embedded.in_flight == 0
    own = {link.readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    listening = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()]
    assert not [row for row in listening if row[3] == "0A" and f"socket:[{row[9]}]" in own]
    unix = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    paths = [row[7] for row in unix if len(row) > 7 and f"socket:[{row[6]}]" in own]
    assert not [path for path in paths if Path(path).exists()]


async def test_a_closed_engine_refuses_calls(embedded: EmbeddedEngine) -> None:
    """Checks and calls of a closed engine fail. Closing one engine does not affect another."""
    other = await EmbeddedEngine.load(EmbeddedOptions(model_path(SMOLLM2), context_length=256, slots=1))
    await other.check()
    await other.close()
    with pytest.raises(EngineFailed):
        await other.check()
    with pytest.raises(EngineFailed):
        await complete(other, Generation(user_prompt("Hi"), sampling()))
    await embedded.check()


async def test_totals_add_up_the_usage_of_all_calls(embedded: EmbeddedEngine) -> None:
    """Totals grow by each generation's usage, finished or abandoned. Only abandoned ones count as aborted."""
    before, aborted = embedded.totals, embedded.aborted
    _, ended, _ = await complete(embedded, Generation(user_prompt("Hi"), sampling(max_tokens=4), n=3))
    assert (embedded.totals, embedded.aborted) == (before + ended, aborted)
    async with embedded.generate(Generation(user_prompt("Tell a story."), sampling(max_tokens=400))) as running:
        await wait_until(lambda: running.usage.completion_tokens > 0)
    assert (embedded.totals, embedded.aborted) == (before + ended + running.usage, aborted + 1)
    async with embedded.generate(Generation(user_prompt("Hi"), sampling())):
        pass
    assert (embedded.totals, embedded.aborted) == (before + ended + running.usage, aborted + 2)
