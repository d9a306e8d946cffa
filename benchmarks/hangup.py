"""Time until the engines are idle after a client disconnects: `python -m benchmarks.hangup`, part of `make bench`.

Three real processes run a real model on the embedded engine. Half of the clients disconnect while the actor writes, half
while the critic's engine computes a long prompt; in each group, half stream and half wait for plain JSON. The time is
measured from the disconnect until both services report that their engines have released every generation.
"""

import argparse
import itertools
import statistics
import time
from typing import Literal

import anyio
import httpx

from benchmarks import Figure, metric, print_line, report
from counterpoint.stack import RunningStack, run_stack

IDLE_MS = 300.0
SETTINGS = {"COUNTERPOINT_ACTOR_MODEL": "smollm2", "COUNTERPOINT_CRITIC_MODEL": "smollm2"}
"""A model that is slow enough to be interrupted."""
POLL_SECONDS = 0.003
WORDS = 500
"""Words in the long problem. A small model needs seconds on one core for the prompt of its critique."""

During = Literal["writing", "prefill"]
Mode = Literal["stream", "plain"]


async def main(repeats: int) -> int:
    """Measure and print; return 0 if the median is within its limit."""
    times: dict[tuple[During, Mode], list[float]] = {}
    async with run_stack(SETTINGS) as running:
        kinds = itertools.cycle(itertools.product(("writing", "prefill"), ("stream", "plain")))
        for number, (during, mode) in zip(range(repeats), kinds, strict=False):
            times.setdefault((during, mode), []).append(await idle_after(running, during, mode, number) * 1e3)
    for (during, mode), samples in times.items():
        middle, most = statistics.median(samples), max(samples)
        print_line(f"disconnect during {during}, {mode}: median {middle:.0f} ms, max {most:.0f} ms of {len(samples)}")
    median = statistics.median(itertools.chain(*times.values()))
    return report([Figure(f"engines idle after a disconnect, median of {repeats}", median, IDLE_MS, "ms")])


async def idle_after(running: RunningStack, during: During, mode: Mode, number: int) -> float:
    """Disconnect a client; return the seconds until both engines are idle."""
    role = running.actor if during == "writing" else running.critic
    client, seconds = anyio.CancelScope(), float("nan")
    async with anyio.create_task_group() as group:
        group.start_soon(_solve, running.orchestrator, _body(during, mode, number), client)
        await _until(1, role)
        await anyio.sleep(0.05 + 0.01 * number)  # disconnect at different points of the generation
        if await generating(role) != 1:
            raise RuntimeError(f"the {during} was over before the client disconnected")
        started = time.perf_counter()
        client.cancel()
        await _until(0, running.actor, running.critic)
        seconds = time.perf_counter() - started
    return seconds  # noqa: RET504 - by its type, the task group could swallow a return inside it


async def _solve(orchestrator: httpx.AsyncClient, body: object, scope: anyio.CancelScope) -> None:
    with scope:
        async with orchestrator.stream("POST", "/solve", json=body) as response:
            async for _ in response.aiter_raw():
                pass


def _body(during: During, mode: Mode, number: int) -> dict[str, object]:
    """Return the body of a solve with a long draft, or with a long prompt for the critic."""
    long = " ".join(f"Box {k} holds {number + k} pencils." for k in range(WORDS // 5))
    return {
        "problem": f"{long if during == 'prefill' else number} How many pencils are there?",
        "strategy": "single" if during == "writing" else "refine",
        "sampling": {"max_tokens": 900 if during == "writing" else 4, "seed": number},
        "stream": mode == "stream",
    }


async def generating(*services: httpx.AsyncClient) -> float:
    """Return the number of generations in the engines of role services."""
    return sum([await metric(service, "counterpoint_engine_in_flight") for service in services])


async def _until(expected: int, *services: httpx.AsyncClient) -> None:
    with anyio.fail_after(60):
        while await generating(*services) != expected:  # noqa: ASYNC110 - the value is in another process
            await anyio.sleep(POLL_SECONDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20, help="number of disconnects")
    raise SystemExit(anyio.run(main, parser.parse_args().repeats, backend_options={"use_uvloop": True}))
