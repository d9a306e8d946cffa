"""Prefix caching, cancellation and batching of vLLM: `make bench-vllm`, on its CPU build in a separate environment.

Three real processes run the pocket pair on vLLM. Shares and ratios are those of one run:

- prompt tokens read from the prefix cache, by vLLM's own counters, against the full blocks that an earlier request had
  computed (the best possible cache), for best-of-8 whose samples are explained and rewound;
- the time until vLLM runs no request after a client disconnects;
- best-of-8 solves per second with one call of eight samples against eight calls of one.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx

from benchmarks import VLLM_START_SECONDS, Figure, metric, print_line, report, vllm_process, vllm_variables
from benchmarks.recording_vllm import RECORD
from counterpoint.stack import RunningStack, run_stack
from pocket.problems import problems
from services.contracts.solve import ROLES

BLOCK = 32
"""Tokens in a cache block."""
CACHED, IDLE_MS = 0.8, 300.0
SOLVES, HANGUPS, TIMED = 20, 20, 12
HITS, RUNNING = "vllm:prefix_cache_hits_total", "vllm:num_requests_running"
REWOUND = {"name": "refine", "rounds": 1, "mode": "rewind"}
VOTE = {"name": "best_of_n", "n": 8, "select": "weighted", "stop_early": False}


async def main() -> int:
    """Measure and print; return the number of figures that miss their limit."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory)
        processes = {name: {**vllm_process(core), RECORD: str(record / name)} for core, name in enumerate(ROLES)}
        stack = run_stack(vllm_variables(*ROLES), processes, VLLM_START_SECONDS, "benchmarks.recording_vllm")
        async with stack as running:
            failed += await _cache(running, record)
            failed += await _hangups(running)
            await _one_call(running)
    return failed


async def _cache(running: RunningStack, record: Path) -> int:
    """Print the share of reusable prompt tokens that were read from the cache; return 1 if it is too low."""
    before = {role: await metric(client, HITS) for role, client in _roles(running)}
    for number, problem in enumerate(itertools.islice(problems(91, split="dev", level=6), SOLVES)):
        vote = {**VOTE, "inner": REWOUND}
        await _solve(running.orchestrator, problem.text, vote, number)
    cached, total = 0.0, 0
    for role, client in _roles(running):
        hits = await metric(client, HITS) - before[role]
        possible = reusable([json.loads(line) for line in (record / role).read_text("utf-8").splitlines()])
        print_line(f"{role}: {hits:.0f} of {possible} prompt tokens in previously computed blocks were read from the cache")
        cached, total = cached + hits, total + possible
    print_line(
        f"prefix cache, {SOLVES} solves of best-of-8 with critique and rewind: {cached / total:.1%}, at least {CACHED:.0%}"
    )
    return int(cached / total < CACHED)


def reusable(requests: Sequence[dict[str, Any]]) -> int:
    """Count the prompt tokens in full blocks that an earlier request had computed; requests are in the order they started.

    A request `{"ids", "n", "completions", "scored"}` computes its prompt and its completions. Each of its `n` samples looks
    up the prompt, at most all but its last token. A scored request does not read the cache.
    """
    known: set[tuple[int, ...]] = set()
    total = 0
    for request in requests:
        ids: list[int] = request["ids"]
        for _ in range(1 if request["scored"] else request["n"]):
            ends = range(BLOCK, len(ids), BLOCK)
            if not request["scored"]:
                total += BLOCK * sum(1 for _ in itertools.takewhile(lambda end: tuple(ids[:end]) in known, ends))  # noqa: B023
            known.update(tuple(ids[:end]) for end in range(BLOCK, len(ids) + 1, BLOCK))
        for completion in request["completions"]:
            whole = [*ids, *completion]
            known.update(tuple(whole[:end]) for end in range(BLOCK, len(whole), BLOCK))
    return total


async def _hangups(running: RunningStack) -> int:
    """Measure the milliseconds from a disconnect to an idle engine; return 1 if the median is too high."""
    times: list[float] = []
    for number in range(HANGUPS):
        sampling = {"max_tokens": 400, "temperature": 1.5, "seed": number}
        body = {"problem": "Go on. " * (20 + number), "strategy": {**VOTE, "n": 64}, "sampling": sampling, "stream": True}
        async with running.orchestrator.stream("POST", "/solve", json=body):
            while not await metric(running.actor, RUNNING):  # noqa: ASYNC110 - another process
                await anyio.sleep(0.002)
        started = time.perf_counter()
        while await metric(running.actor, RUNNING):  # noqa: ASYNC110 - another process
            await anyio.sleep(0.002)
        times.append((time.perf_counter() - started) * 1e3)
    return report([Figure("no running requests after a disconnect, median", statistics.median(times), IDLE_MS, "ms")])


async def _one_call(running: RunningStack) -> None:
    """Compare one call of eight samples with eight calls, alternating."""
    apart = {**VOTE, "select": "majority", "inner": {"name": "best_of_n", "n": 1, "select": "majority"}}
    together = {**VOTE, "select": "majority"}
    seconds: dict[str, float] = {"together": 0.0, "apart": 0.0}
    for number, problem in enumerate(itertools.islice(problems(92, split="dev", level=6), TIMED)):
        for name, strategy in (("together", together), ("apart", apart)):
            started = time.perf_counter()
            await _solve(running.orchestrator, problem.text, strategy, number)
            seconds[name] += time.perf_counter() - started
    rates = {name: TIMED / total for name, total in seconds.items()}
    print_line(f"best-of-8: {rates['together']:.2f} solves/s with one call, {rates['apart']:.2f} with eight")
    print_line(f"one call of eight samples / eight calls, solves per second: {rates['together'] / rates['apart']:.2f} x")


def _roles(running: RunningStack) -> tuple[tuple[str, httpx.AsyncClient], ...]:
    return (("actor", running.actor), ("critic", running.critic))


async def _solve(client: httpx.AsyncClient, problem: str, strategy: object, seed: int) -> None:
    body = {"problem": problem, "strategy": strategy, "sampling": {"seed": seed, "temperature": 0.8}}
    (await client.post("/solve", json=body, timeout=300)).raise_for_status()


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
