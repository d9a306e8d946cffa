"""What Counterpoint adds to the time that models take: `python -m benchmarks.overhead`, or `make bench`.

Three real processes on the scripted engine at 50 ms a call, and this one as their client. Every figure is a median, and
every ratio compares medians of one run; direct calls and solves take turns, so that a noisy machine slows both.

- `single` against the engine's own time, over both hops, and against a direct call of the actor.
- best-of-16 with 16 critiques against two engine times.
- The first event of a streamed solve, from the request.
- 128 solves in flight: whether all answer, how busy the engines' time is, and whether memory stays flat.
"""

import argparse
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import httpx

from benchmarks import say
from counterpoint.stack import Stack, run_stack
from services.contracts.problem import Message
from services.contracts.sampling import Sampling
from services.engines.protocol import Generation, Prompt
from services.engines.scripted import ScriptedEngine, ScriptedOptions
from services.sse import MEDIA_TYPE

ENGINE_SECONDS = 0.05
SINGLE_ADDS_MS = 5.0
WIDE_ADDS_MS = 40.0
FIRST_EVENT_MS = 50.0
IN_FLIGHT = 128
FLAT = 1.05
"""Memory after many solves against memory after the first tenth of them."""

PROBLEM = "Add 12 and 30 and 7."
SETTINGS = {
    "COUNTERPOINT_ACTOR_ENGINE": "scripted",
    "COUNTERPOINT_CRITIC_ENGINE": "scripted",
    "COUNTERPOINT_ACTOR_SCRIPTED_FIRST_TOKEN_SECONDS": str(ENGINE_SECONDS),
    "COUNTERPOINT_CRITIC_SCRIPTED_FIRST_TOKEN_SECONDS": str(ENGINE_SECONDS),
}
BEST_OF_16 = {"name": "best_of_n", "n": 16, "stop_early": False}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure and the limit it is held to."""

    name: str
    value: float
    limit: float
    unit: str

    def line(self) -> str:
        """The figure as a line of the report."""
        verdict = "ok" if self.value <= self.limit else "ABOVE"
        return f"{self.name:<58}{self.value:>9.2f} {self.unit:<3} limit {self.limit:>7.2f}  {verdict}"


async def main(repeats: int, solves: int) -> int:
    """Measure and print; 0 if every figure is within its limit."""
    async with run_stack(SETTINGS) as running:
        await _warm(running)
        figures = [
            *await _single(running, repeats),
            *await _wide(running, repeats),
            *await _first_event(running, repeats),
            *await _in_flight(running, solves),
        ]
    for figure in figures:
        say(figure.line())
    return int(any(figure.value > figure.limit for figure in figures))


async def _warm(running: Stack) -> None:
    for _ in range(10):
        await _direct(running)
        await _solve(running.orchestrator, "single")
        await _solve(running.orchestrator, BEST_OF_16)


async def _single(running: Stack, repeats: int) -> list[Figure]:
    direct: list[float] = []
    solved: list[float] = []
    engine: list[float] = []
    for _ in range(repeats):
        direct.append(await _timed(lambda: _direct(running)))
        solved.append(await _timed(lambda: _solve(running.orchestrator, "single")))
        engine.append(await _timed(_engine_alone))
    through, alone, itself = (statistics.median(times) for times in (solved, direct, engine))
    say(f"single {_ms(through)}, direct call {_ms(alone)}, engine {_ms(itself)}; p50 of {repeats}")
    return [
        Figure("single adds to the engine's time, both hops, p50", (through - itself) * 1e3, SINGLE_ADDS_MS, "ms"),
        Figure("single / direct call of the actor", through / alone, 1.1, "x"),
    ]


async def _wide(running: Stack, repeats: int) -> list[Figure]:
    times = [await _timed(lambda: _solve(running.orchestrator, BEST_OF_16)) for _ in range(repeats)]
    wide = statistics.median(times)
    say(f"best-of-16 with 16 critiques {_ms(wide)}, two engine times {_ms(2 * ENGINE_SECONDS)}; p50 of {repeats}")
    return [
        Figure(
            "best-of-16 + 16 critiques adds to two engine times, p50", (wide - 2 * ENGINE_SECONDS) * 1e3, WIDE_ADDS_MS, "ms"
        ),
        Figure("best-of-16 + 16 critiques / two engine times", wide / (2 * ENGINE_SECONDS), 1.4, "x"),
    ]


async def _first_event(running: Stack, repeats: int) -> list[Figure]:
    times: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        async with running.orchestrator.stream("POST", "/solve", json={"problem": PROBLEM, "stream": True}) as response:
            async for _ in response.aiter_raw():
                times.append(time.perf_counter() - started)
                break
    return [Figure("first event of a streamed solve, p95", sorted(times)[int(0.95 * repeats)] * 1e3, FIRST_EVENT_MS, "ms")]


async def _in_flight(running: Stack, solves: int) -> list[Figure]:
    """`solves` solves, `IN_FLIGHT` at a time."""
    room = anyio.CapacityLimiter(IN_FLIGHT)
    memory: list[float] = []
    done = failed = 0

    async def one() -> None:
        nonlocal done, failed
        async with room:
            try:
                await _solve(running.orchestrator, "refine")
            except httpx.HTTPError as error:
                say(f"a solve failed: {error!r}")
                failed += 1
            done += 1
            if done in {solves // 10, solves}:
                memory.append(running.resident_mib())

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(solves):
                group.start_soon(one)

    seconds = await _timed(all_of_them)
    rate, mib = solves / seconds, " -> ".join(f"{amount:.0f}" for amount in memory)
    say(f"{solves} refine solves, {IN_FLIGHT} in flight: {rate:.0f} a second, memory {mib} MiB")
    return [
        Figure(f"failures with {IN_FLIGHT} in flight", failed, 0, ""),
        Figure("memory at the end / after a tenth", memory[1] / memory[0], FLAT, "x"),
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def _solve(client: httpx.AsyncClient, strategy: object) -> None:
    response = await client.post("/solve", json={"problem": PROBLEM, "strategy": strategy, "budget": {"max_seconds": 120}})
    response.raise_for_status()


async def _engine_alone() -> None:
    """The engine in this process: its time with what a timer is late."""
    engine = ScriptedEngine(ScriptedOptions(first_token_seconds=ENGINE_SECONDS))
    prompt = Prompt((Message(role="user", content=PROBLEM),))
    async with engine.generate(Generation(prompt, Sampling(max_tokens=256))) as running:
        async for _ in running:
            pass


async def _direct(running: Stack) -> None:
    body = {"problem": PROBLEM, "sampling": {"max_tokens": 256}}
    response = await running.actor.post("/v1/draft", json=body, headers={"accept": MEDIA_TYPE})
    response.raise_for_status()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=60, help="measurements of each kind")
    arguments.add_argument("--solves", type=int, default=2000, help="solves for the memory figure")
    given = arguments.parse_args()
    raise SystemExit(anyio.run(main, given.repeats, given.solves, backend_options={"use_uvloop": True}))
