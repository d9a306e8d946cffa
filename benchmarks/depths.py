"""What each depth of a critique costs and how often it is right: `python -m benchmarks.depths [--engine vllm]`.

The pocket critic on greedy drafts of the pocket actor, development split. Reading the likelihood of the all-correct critique
(`verdict`, `labels`) against having the critique written (`explain`): tokens and seconds a judgement, and the mean of the
shares of right and of wrong solutions told rightly.
"""

import argparse
import statistics
import time

import anyio
import httpx

from benchmarks import say
from counterpoint.stack import run_stack
from counterpoint.up import environment
from evaluation.items import Item, pocket
from evaluation.statistics import balanced
from evaluation.supervision import Services, first_error
from services.client import stream_events
from services.contracts.calls import CritiqueEvent, Judge, UsageEvent
from services.contracts.critique import DEPTHS, Depth
from services.contracts.sampling import Sampling

VLLM = {"engine": "vllm", "vllm_dtype": "float32", "vllm_block_size": 32, "vllm_enforce_eager": True, "context_length": 1024}
START_SECONDS = 400


async def main(engine: str, count: int) -> None:
    """Measure and print."""
    variables = environment("pocket", [])
    own: dict[str, dict[str, str]] = {}
    if engine == "vllm":
        variables |= {f"COUNTERPOINT_CRITIC_{key}".upper(): str(value) for key, value in VLLM.items()}
        own = {"critic": {"VLLM_CPU_OMP_THREADS_BIND": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}}
    async with run_stack(variables, own, start_seconds=START_SECONDS) as running:
        services = Services(running.actor, running.critic)
        problems = pocket("dev", count, 11)
        drafts = [(item, (await services.draft(item, 0, 0.0))[0].text) for item in problems]
        for depth in DEPTHS:
            await judged(running.critic, drafts[0], depth)  # what is compiled on first use
        for depth in DEPTHS:
            await told(running.critic, drafts, depth, engine)


async def told(critic: httpx.AsyncClient, drafts: list[tuple[Item, str]], depth: Depth, engine: str) -> None:
    """A line for a depth."""
    seconds: list[float] = []
    read = written = 0
    right: dict[bool, list[bool]] = {True: [], False: []}
    for item, text in drafts:
        started = time.perf_counter()
        said_right, usage = await judged(critic, (item, text), depth)
        seconds.append(time.perf_counter() - started)
        read, written = read + usage.prompt_tokens, written + usage.completion_tokens
        truth = first_error(item, text) is None
        right[truth].append(said_right == truth)
    figures = (
        f"{read / len(drafts):6.0f} read {written / len(drafts):6.1f} written {statistics.median(seconds) * 1e3:7.1f} ms"
    )
    say(f"{engine:<9} {depth:<8} {figures}   right {balanced(right[True], right[False])}")


async def judged(critic: httpx.AsyncClient, draft: tuple[Item, str], depth: Depth) -> tuple[bool, UsageEvent]:
    """Whether a draft is found right, and what that took."""
    item, text = draft
    body = Judge(problem=item.problem, steps=tuple(text.split("\n")), depth=depth, sampling=Sampling(temperature=0.0))
    async with stream_events(critic, "/v1/critique", body, {}) as events:
        found = {event.event: event.data async for event in events}
        critique = CritiqueEvent.model_validate_json(found["critique"])
        return critique.verdict == "correct", UsageEvent.model_validate_json(found["usage"])
    raise AssertionError("a stream swallowed its error")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--engine", choices=("embedded", "vllm"), default="embedded")
    arguments.add_argument("--count", type=int, default=100, help="drafts")
    given = arguments.parse_args()
    anyio.run(main, given.engine, given.count)
