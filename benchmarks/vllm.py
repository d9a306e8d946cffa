"""What vLLM does for a solve: `make bench-vllm`, on its CPU build in an environment of its own.

Three real processes, the pocket pair under vLLM. Shares and ratios are those of one run:

- prompt tokens read from the prefix cache, as vLLM's own counters have them, against the full blocks that an earlier request
  had computed (the best a cache could do), for best-of-8 whose samples are critiqued in words and rewound;
- how soon vLLM runs nothing after a client hangs up;
- best-of-8 solves a second with one call of eight samples against eight calls of one.
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
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import say
from benchmarks.recording import RECORD
from counterpoint.stack import Stack, run_stack
from pocket.problems import problems

BLOCK = 32
"""Tokens of a block of the cache; the CPU build takes multiples of 32."""
CACHED, IDLE_MS = 0.8, 300.0
SOLVES, HANGUPS, TIMED = 20, 20, 12
REWOUND = {"name": "refine", "rounds": 1, "mode": "rewind"}
VOTE = {"name": "best_of_n", "n": 8, "select": "weighted", "stop_early": False}


def settings() -> dict[str, str]:
    """Both roles on vLLM."""
    fields = {"engine": "vllm", "vllm_dtype": "float32", "vllm_block_size": BLOCK, "vllm_enforce_eager": True}
    fields["context_length"] = 1024
    return {f"COUNTERPOINT_{role}_{k}".upper(): str(v) for role in ("actor", "critic") for k, v in fields.items()}


def own(record: Path) -> dict[str, dict[str, str]]:
    """A core and a record of its requests for each role."""
    names = ("actor", "critic")
    return {
        name: {"VLLM_CPU_OMP_THREADS_BIND": str(core), "VLLM_CPU_KVCACHE_SPACE": "1", RECORD: str(record / name)}
        for core, name in enumerate(names)
    }


async def main() -> int:
    """Measure and print; 0 if everything is within its limit."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        async with run_stack(settings(), own(Path(directory)), start_seconds=400, module="benchmarks.recording") as running:
            failed += await _cache(running, Path(directory))
            failed += await _hangups(running)
            await _one_call(running)
    return failed


async def _cache(running: Stack, record: Path) -> int:
    """Share of what could be read from the cache that was."""
    before = {role: await _hits(client) for role, client in _roles(running)}
    for number, problem in enumerate(itertools.islice(problems(91, split="dev", level=6), SOLVES)):
        vote = {**VOTE, "inner": REWOUND}
        await _solve(running.orchestrator, problem.text, vote, number)
    read, could = 0.0, 0
    for role, client in _roles(running):
        hits = await _hits(client) - before[role]
        possible = reusable([json.loads(line) for line in (record / role).read_text("utf-8").splitlines()])
        say(f"{role}: {hits:.0f} of {possible} prompt tokens in blocks computed before were read from the cache")
        read, could = read + hits, could + possible
    say(f"prefix cache, {SOLVES} solves of best-of-8 with critique and rewind: {read / could:.1%}, at least {CACHED:.0%}")
    return int(read / could < CACHED)


def reusable(requests: Sequence[dict[str, Any]]) -> int:
    """Prompt tokens in full blocks that an earlier request had computed, over requests in the order they began.

    A request `{"ids", "n", "told", "read"}` computes its prompt and what it told; each of its `n` samples reads the prompt,
    all but its last token at most. One that is scored (`read`) asks the cache for nothing.
    """
    known: set[tuple[int, ...]] = set()
    found = 0
    for request in requests:
        ids: list[int] = request["ids"]
        for _ in range(1 if request["read"] else request["n"]):
            ends = range(BLOCK, len(ids), BLOCK)
            if not request["read"]:
                found += BLOCK * sum(1 for _ in itertools.takewhile(lambda end: tuple(ids[:end]) in known, ends))  # noqa: B023
            known.update(tuple(ids[:end]) for end in range(BLOCK, len(ids) + 1, BLOCK))
        for told in request["told"]:
            whole = [*ids, *told]
            known.update(tuple(whole[:end]) for end in range(BLOCK, len(whole), BLOCK))
    return found


async def _hangups(running: Stack) -> int:
    """Milliseconds from a hang-up to an engine that runs nothing."""
    times: list[float] = []
    for number in range(HANGUPS):
        sampling = {"max_tokens": 400, "temperature": 1.5, "seed": number}
        body = {"problem": "Go on. " * (20 + number), "strategy": {**VOTE, "n": 64}, "sampling": sampling, "stream": True}
        async with running.orchestrator.stream("POST", "/solve", json=body):
            while not await _counted(running.actor, "vllm:num_requests_running"):  # noqa: ASYNC110 - another process
                await anyio.sleep(0.002)
        started = time.perf_counter()
        while await _counted(running.actor, "vllm:num_requests_running"):  # noqa: ASYNC110 - another process
            await anyio.sleep(0.002)
        times.append((time.perf_counter() - started) * 1e3)
    middle, most = statistics.median(times), max(times)
    say(f"running requests are 0 after a hang-up: median {middle:.0f} ms, most {most:.0f} ms, limit {IDLE_MS:.0f} ms")
    return int(middle > IDLE_MS)


async def _one_call(running: Stack) -> None:
    """Eight samples of one call against eight calls, alternating."""
    apart = {**VOTE, "select": "majority", "inner": {"name": "best_of_n", "n": 1, "select": "majority"}}
    together = {**VOTE, "select": "majority"}
    seconds: dict[str, float] = {"together": 0.0, "apart": 0.0}
    for number, problem in enumerate(itertools.islice(problems(92, split="dev", level=6), TIMED)):
        for name, strategy in (("together", together), ("apart", apart)):
            started = time.perf_counter()
            await _solve(running.orchestrator, problem.text, strategy, number)
            seconds[name] += time.perf_counter() - started
    rates = {name: TIMED / total for name, total in seconds.items()}
    say(f"best-of-8: {rates['together']:.2f} solves/s with one call, {rates['apart']:.2f} with eight")
    say(f"one call of eight samples / eight calls, solves a second: {rates['together'] / rates['apart']:.2f} x")


def _roles(running: Stack) -> tuple[tuple[str, httpx.AsyncClient], ...]:
    return (("actor", running.actor), ("critic", running.critic))


async def _hits(client: httpx.AsyncClient) -> float:
    return await _counted(client, "vllm:prefix_cache_hits_total")


async def _counted(client: httpx.AsyncClient, name: str) -> float:
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def _solve(client: httpx.AsyncClient, problem: str, strategy: object, seed: int) -> None:
    body = {"problem": problem, "strategy": strategy, "sampling": {"seed": seed, "temperature": 0.8}}
    (await client.post("/solve", json=body, timeout=300)).raise_for_status()


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend_options={"use_uvloop": True}))
