"""Savings of pipelining with abort compared with sequential refinement: `python -m benchmarks.pipelining`.

Three services in this process run the pocket pair at 20 ms per token (`benchmarks.paced_engine`) on problems of the
development split. Sequential and pipelined solves alternate, with the same seeds and the same texts. A first pass computes
the texts without delays; the second pass is measured.

- Tokens sampled for wrong drafts, pipelined / sequential.
- Tokens of both roles, prompts included, pipelined / sequential.
- Seconds to an outcome, pipelined / sequential.
"""

import argparse
import statistics
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

import orchestrator.app
from benchmarks import Figure, print_line, report
from benchmarks.paced_engine import Pace, PacedEngine
from benchmarks.role_app import role_app
from evaluation.problem_sets import ProblemItem, is_right, pocket
from orchestrator.settings import OrchestratorSettings
from services.engines.factory import embedded_options
from services.observability.logging import configure
from services.settings import ActorSettings, CriticSettings, RoleSettings
from services.testing import serve

TOKEN_SECONDS = 0.02
IN_FLIGHT = 8
"""Solves at a time; they spend their time waiting."""
WRONG_SAVED = 0.7
"""Largest ratio of tokens sampled for wrong drafts: 30% saved."""
SEQUENTIAL: dict[str, Any] = {"name": "refine", "mode": "auto", "rounds": 2}


@dataclass(frozen=True, slots=True)
class Solved:
    """One solve: seconds, tokens of both roles, tokens of its first draft, and whether answer and draft are right."""

    seconds: float
    tokens: int
    drafted: int
    right: bool
    draft_right: bool


async def main(count: int, every: int, sure: float) -> int:
    """Measure and print; return 0 if every ratio is within its limit."""
    configure("error", "console")
    pipelined = {**SEQUENTIAL, "abort_on_error": True, "check_every": every, "abort_at": sure}
    pace = Pace()
    problems = pocket("dev", count, 7)
    pairs: list[tuple[Solved, Solved]] = []
    async with services(pace) as client:
        for seconds in (0.0, TOKEN_SECONDS):
            pace.first = pace.token = seconds
            pairs.clear()
            limiter = anyio.CapacityLimiter(IN_FLIGHT if seconds else 1)

            async def both(number: int, item: ProblemItem, limiter: anyio.CapacityLimiter = limiter) -> None:
                async with limiter:
                    sequential = await solve(client, item, SEQUENTIAL, number)
                    pairs.append((sequential, await solve(client, item, pipelined, number)))

            async with anyio.create_task_group() as group:
                for number, item in enumerate(problems):
                    group.start_soon(both, number, item)
    return compare(pairs, every, sure)


def compare(pairs: Sequence[tuple[Solved, Solved]], every: int, sure: float) -> int:
    """Print the ratios; return 0 if every one is within its limit."""
    wrong = [(a, b) for a, b in pairs if not a.draft_right]
    shares = [sum(side.right for side in sides) / len(pairs) for sides in zip(*pairs, strict=True)]
    drafted = sum(b.drafted for _, b in wrong) / sum(a.drafted for a, _ in wrong)
    tokens = sum(b.tokens for _, b in pairs) / sum(a.tokens for a, _ in pairs)
    seconds = sum(b.seconds for _, b in pairs) / sum(a.seconds for a, _ in pairs)
    slow = statistics.mean(b.seconds for _, b in wrong) / statistics.mean(a.seconds for a, _ in wrong)
    print_line(f"{len(pairs)} problems, {len(wrong)} with a wrong draft; a check every {every} steps, abort at {sure}")
    print_line(f"right, sequential and pipelined{'':<27}{100 * shares[0]:6.1f} {100 * shares[1]:6.1f} %")
    return report(
        [
            Figure("tokens sampled for wrong drafts, pipelined / sequential", drafted, WRONG_SAVED),
            Figure("tokens of both roles, prompts included, pipelined / sequential", tokens, 1.0),
            Figure("seconds to an outcome, pipelined / sequential", seconds, 1.0),
            Figure("seconds to an outcome where the draft was wrong, pipelined / sequential", slow, 1.0),
        ]
    )


async def solve(client: httpx.AsyncClient, item: ProblemItem, strategy: dict[str, Any], seed: int) -> Solved:
    """Solve a problem at temperature 0."""
    sampling = {"temperature": 0.0, "max_tokens": 256, "seed": seed}
    body = {"problem": item.problem, "strategy": strategy, "sampling": sampling, "trace": "full"}
    result = (await client.post("/solve", json=body)).raise_for_status().json()
    draft = result["candidates"][0]
    return Solved(
        result["usage"]["seconds"],
        result["usage"]["total_tokens"],
        draft["completion_tokens"],
        is_right(result["answer"], item),
        is_right(draft["answer"], item),
    )


@asynccontextmanager
async def services(pace: Pace) -> AsyncGenerator[httpx.AsyncClient]:
    """Run all three services on paced engines; yield a client of the orchestrator."""

    async def paced(settings: RoleSettings) -> PacedEngine:
        return await PacedEngine.at(embedded_options(settings), pace)

    async with (
        serve(role_app(ActorSettings.load(model="pocket-actor"), paced)) as actor_url,
        serve(role_app(CriticSettings.load(model="pocket-critic"), paced)) as critic_url,
        serve(orchestrator.app.create(OrchestratorSettings.load(actor_url=actor_url, critic_url=critic_url))) as url,
        httpx.AsyncClient(base_url=url, timeout=300) as client,
    ):
        yield client


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="number of problems")
    parser.add_argument("--every", type=int, default=4, help="steps between checks")
    parser.add_argument("--sure", type=float, default=0.9, help="the critic's confidence that aborts a draft")
    arguments = parser.parse_args()
    raise SystemExit(anyio.run(main, arguments.count, arguments.every, arguments.sure, backend_options={"use_uvloop": True}))
