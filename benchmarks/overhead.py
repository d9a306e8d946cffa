"""Time that Counterpoint adds to model calls: `python -m benchmarks.overhead`, or `make bench`.

Three real processes run the scripted engine at 50 ms per call; this process is their client. Ratios compare medians of one
run. Direct calls and solves alternate, so that a noisy machine slows both.

- `single` against the engine's own time, over both hops, and against a direct call to the actor.
- best-of-16 with 16 critiques against twice the engine's time.
- Time to the first event of a streamed solve, as a 95th percentile.
- 128 solves in flight: failures, throughput, and whether memory stays flat.
"""

import argparse
import statistics
import time
from collections.abc import Awaitable, Callable

import anyio
import httpx

from benchmarks import Figure, print_line, report
from counterpoint.stack import RunningStack, run_stack
from services.contracts.messages import Message
from services.contracts.sampling import Sampling
from services.engines.protocol import Generation, Prompt
from services.engines.scripted import ScriptedEngine, ScriptedOptions
from services.http.sse import MEDIA_TYPE

ENGINE_SECONDS = 0.05
SINGLE_ADDS_MS = 5.0
WIDE_ADDS_MS = 40.0
FIRST_EVENT_MS = 50.0
IN_FLIGHT = 128
FLAT = 1.05
"""Largest ratio of memory after all solves to memory after the first tenth."""

PROBLEM = "Add 12 and 30 and 7."
FIELDS = {"ENGINE": "scripted", "SCRIPTED_FIRST_TOKEN_SECONDS": str(ENGINE_SECONDS)}
SETTINGS = {f"COUNTERPOINT_{role}_{key}": value for role in ("ACTOR", "CRITIC") for key, value in FIELDS.items()}
BEST_OF_16 = {"name": "best_of_n", "n": 16, "stop_early": False}


async def main(repeats: int, solves: int) -> int:
    """Measure and print; return 0 if every figure is within its limit."""
    async with run_stack(SETTINGS) as running:
        await _warm(running)
        figures = [
            *await _single(running, repeats),
            *await _wide(running, repeats),
            *await _first_event(running, repeats),
            *await _in_flight(running, solves),
        ]
    return report(figures)


async def _warm(running: RunningStack) -> None:
    for _ in range(10):
        await _direct(running)
        await _solve(running.orchestrator, "single")
        await _solve(running.orchestrator, BEST_OF_16)


async def _single(running: RunningStack, repeats: int) -> list[Figure]:
    direct: list[float] = []
    solved: list[float] = []
    engine: list[float] = []
    for _ in range(repeats):
        direct.append(await _timed(lambda: _direct(running)))
        solved.append(await _timed(lambda: _solve(running.orchestrator, "single")))
        engine.append(await _timed(_engine_alone))
    solve, call, base = (statistics.median(times) for times in (solved, direct, engine))
    print_line(f"single {_ms(solve)}, direct call {_ms(call)}, engine {_ms(base)}; p50 of {repeats}")
    return [
        Figure("single adds to the engine's time, both hops, p50", (solve - base) * 1e3, SINGLE_ADDS_MS, "ms"),
        Figure("single / direct call to the actor", solve / call, 1.1),
    ]


async def _wide(running: RunningStack, repeats: int) -> list[Figure]:
    times = [await _timed(lambda: _solve(running.orchestrator, BEST_OF_16)) for _ in range(repeats)]
    wide, twice = statistics.median(times), 2 * ENGINE_SECONDS
    print_line(f"best-of-16 with 16 critiques {_ms(wide)}, two engine times {_ms(twice)}; p50 of {repeats}")
    return [
        Figure("best-of-16 + 16 critiques adds to two engine times, p50", (wide - twice) * 1e3, WIDE_ADDS_MS, "ms"),
        Figure("best-of-16 + 16 critiques / two engine times", wide / twice, 1.4),
    ]


async def _first_event(running: RunningStack, repeats: int) -> list[Figure]:
    times: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        async with running.orchestrator.stream("POST", "/solve", json={"problem": PROBLEM, "stream": True}) as response:
            async for _ in response.aiter_raw():
                times.append(time.perf_counter() - started)
                break
    return [Figure("first event of a streamed solve, p95", sorted(times)[int(0.95 * repeats)] * 1e3, FIRST_EVENT_MS, "ms")]


async def _in_flight(running: RunningStack, solves: int) -> list[Figure]:
    """Run `solves` solves, `IN_FLIGHT` at a time."""
    limiter = anyio.CapacityLimiter(IN_FLIGHT)
    memory: list[float] = []
    done = failed = 0

    async def solve_one() -> None:
        nonlocal done, failed
        async with limiter:
            try:
                await _solve(running.orchestrator, "refine")
            except httpx.HTTPError as error:
                print_line(f"a solve failed: {error!r}")
                failed += 1
            done += 1
            if done in {solves // 10, solves}:
                memory.append(running.resident_mib())

    async def solve_all() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(solves):
                group.start_soon(solve_one)

    seconds = await _timed(solve_all)
    rate, mib = solves / seconds, " -> ".join(f"{amount:.0f}" for amount in memory)
    print_line(f"{solves} refine solves, {IN_FLIGHT} in flight: {rate:.0f} per second, memory {mib} MiB")
    return [
        Figure(f"failures with {IN_FLIGHT} in flight", failed, 0, ""),
        Figure("memory at the end / after a tenth", memory[1] / memory[0], FLAT),
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
    """Run the engine in this process: its own time, including timer delays."""
    engine = ScriptedEngine(ScriptedOptions(first_token_seconds=ENGINE_SECONDS))
    prompt = Prompt((Message(role="user", content=PROBLEM),))
    async with engine.generate(Generation(prompt, Sampling(max_tokens=256))) as running:
        async for _ in running:
            pass


async def _direct(running: RunningStack) -> None:
    body = {"problem": PROBLEM, "sampling": {"max_tokens": 256}}
    response = await running.actor.post("/v1/draft", json=body, headers={"accept": MEDIA_TYPE})
    response.raise_for_status()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=60, help="number of measurements of each kind")
    parser.add_argument("--solves", type=int, default=2000, help="number of solves for the memory figure")
    arguments = parser.parse_args()
    raise SystemExit(anyio.run(main, arguments.repeats, arguments.solves, backend_options={"use_uvloop": True}))
