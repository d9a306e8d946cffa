"""Cost and accuracy of each critique depth: `python -m benchmarks.depths [--engine vllm]`.

The pocket critic judges greedy drafts of the pocket actor on the development split. Scoring the all-correct critique
(`verdict`, `labels`) is compared with generating a critique (`explain`): tokens and seconds per judgement, and the balanced
accuracy, which is the mean of the shares of right and of wrong solutions that are classified correctly.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import anyio

from benchmarks import VLLM_START_SECONDS, print_line, vllm_process, vllm_variables
from counterpoint.stack import run_stack
from counterpoint.up import environment
from evaluation.problem_sets import ProblemItem, pocket
from evaluation.role_clients import RoleClients, first_error
from evaluation.statistics import balanced
from services.contracts.critique import DEPTHS, Depth
from services.contracts.usage import Usage


async def main(engine: str, count: int) -> None:
    """Measure every depth and print a line for each."""
    variables = environment("pocket", []) | (vllm_variables("critic") if engine == "vllm" else {})
    processes = {"critic": vllm_process(1)} if engine == "vllm" else {}
    async with run_stack(variables, processes, start_seconds=VLLM_START_SECONDS) as running:
        clients = running.roles
        drafts = [(item, (await clients.draft(item, 0, 0.0))[0].text) for item in pocket("dev", count, 11)]
        for depth in DEPTHS:
            await clients.critique(
                drafts[0][0], drafts[0][1].split("\n"), depth
            )  # warm-up: some engines compile on first use
        for depth in DEPTHS:
            print_line(f"{engine:<9} {depth:<8} {await measure(clients, drafts, depth)}")


async def measure(clients: RoleClients, drafts: Sequence[tuple[ProblemItem, str]], depth: Depth) -> str:
    """Judge the drafts at a depth and return its figures."""
    seconds: list[float] = []
    total = Usage()
    correct: dict[bool, list[bool]] = {True: [], False: []}
    for item, text in drafts:
        started = time.perf_counter()
        critique, usage = await clients.critique(item, text.split("\n"), depth)
        seconds.append(time.perf_counter() - started)
        total += usage
        truth = first_error(item, text) is None
        correct[truth].append((critique.verdict == "correct") == truth)
    tokens = f"{total.prompt_tokens / len(drafts):6.0f} prompt {total.completion_tokens / len(drafts):6.1f} completion"
    return f"{tokens} {statistics.median(seconds) * 1e3:7.1f} ms   right {balanced(correct[True], correct[False])}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("embedded", "vllm"), default="embedded", help="engine of the critic")
    parser.add_argument("--count", type=int, default=100, help="number of drafts")
    arguments = parser.parse_args()
    anyio.run(main, arguments.engine, arguments.count)
