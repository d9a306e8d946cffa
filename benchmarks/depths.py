"""Cost and accuracy of each critique depth: `python -m benchmarks.depths [--engine vllm]`.

The pocket critic judges greedy drafts of the pocket actor on the development split. Scoring the all-correct critique
(`verdict`, `labels`) is compared with generating a critique (`explain`): tokens and seconds per judgement, and the balanced
accuracy, which is the mean of the shares of right and of wrong solutions that are classified correctly.
"""

import argparse
import statistics
import time

import anyio
import httpx

from benchmarks import print_line
from counterpoint.stack import run_stack
from counterpoint.up import environment
from evaluation.problem_sets import ProblemItem, pocket
from evaluation.role_clients import RoleClients, first_error
from evaluation.statistics import balanced
from services.contracts.calls import CritiqueEvent, CritiqueRequest, UsageEvent
from services.contracts.critique import DEPTHS, Depth
from services.contracts.sampling import Sampling
from services.http.client import stream_events

VLLM = {"engine": "vllm", "vllm_dtype": "float32", "vllm_block_size": 32, "vllm_enforce_eager": True, "context_length": 1024}
START_SECONDS = 400


async def main(engine: str, count: int) -> None:
    """Measure every depth and print a line for each."""
    variables = environment("pocket", [])
    role_variables: dict[str, dict[str, str]] = {}
    if engine == "vllm":
        variables |= {f"COUNTERPOINT_CRITIC_{key}".upper(): str(value) for key, value in VLLM.items()}
        role_variables = {"critic": {"VLLM_CPU_OMP_THREADS_BIND": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}}
    async with run_stack(variables, role_variables, start_seconds=START_SECONDS) as running:
        clients = RoleClients(running.actor, running.critic)
        problems = pocket("dev", count, 11)
        drafts = [(item, (await clients.draft(item, 0, 0.0))[0].text) for item in problems]
        for depth in DEPTHS:
            await judge(running.critic, drafts[0], depth)  # warm-up: some engines compile on first use
        for depth in DEPTHS:
            await measure(running.critic, drafts, depth, engine)


async def measure(critic: httpx.AsyncClient, drafts: list[tuple[ProblemItem, str]], depth: Depth, engine: str) -> None:
    """Judge the drafts at a depth and print its figures."""
    seconds: list[float] = []
    prompt_tokens = completion_tokens = 0
    correct: dict[bool, list[bool]] = {True: [], False: []}
    for item, text in drafts:
        started = time.perf_counter()
        judged_right, usage = await judge(critic, (item, text), depth)
        seconds.append(time.perf_counter() - started)
        prompt_tokens += usage.prompt_tokens
        completion_tokens += usage.completion_tokens
        truth = first_error(item, text) is None
        correct[truth].append(judged_right == truth)
    figures = (
        f"{prompt_tokens / len(drafts):6.0f} prompt {completion_tokens / len(drafts):6.1f} completion"
        f" {statistics.median(seconds) * 1e3:7.1f} ms"
    )
    print_line(f"{engine:<9} {depth:<8} {figures}   right {balanced(correct[True], correct[False])}")


async def judge(critic: httpx.AsyncClient, draft: tuple[ProblemItem, str], depth: Depth) -> tuple[bool, UsageEvent]:
    """Return whether the critic judges a draft correct, and the usage."""
    item, text = draft
    body = CritiqueRequest(
        problem=item.problem, steps=tuple(text.split("\n")), depth=depth, sampling=Sampling(temperature=0.0)
    )
    async with stream_events(critic, "/v1/critique", body, {}) as events:
        payloads = {event.event: event.data async for event in events}
        critique = CritiqueEvent.model_validate_json(payloads["critique"])
        return critique.verdict == "correct", UsageEvent.model_validate_json(payloads["usage"])
    raise AssertionError("a stream swallowed its error")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("embedded", "vllm"), default="embedded", help="engine of the critic")
    parser.add_argument("--count", type=int, default=100, help="number of drafts")
    arguments = parser.parse_args()
    anyio.run(main, arguments.engine, arguments.count)
