"""What pipelining with abort saves against the sequential order: `python -m benchmarks.pipelining`.

Three services in this process on the pocket pair, at 20 ms a token (`benchmarks.paced`), on problems of the development
split. Sequential and pipelined solves take turns, with the same seeds and the same texts. A first pass, without any pace,
computes the texts; the second is measured.

- Tokens sampled for drafts that are wrong, pipelined / sequential.
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

import actor_service.routes
import critic_service.routes
import orchestrator.app
from actor_service.service import ActorService
from benchmarks import say
from benchmarks.paced import Pace, PacedEngine
from critic_service.service import CriticService
from evaluation.items import Item, pocket
from evaluation.runs import right
from orchestrator.settings import OrchestratorSettings
from services.engines.factory import embedded_options
from services.role import create_role_app
from services.settings import ActorSettings, CriticSettings, RoleSettings
from services.telemetry import configure
from services.testing import serve

TOKEN_SECONDS = 0.02
IN_FLIGHT = 8
"""Solves at a time; waiting is all that they do."""
WRONG_SAVED = 0.7
"""The limit on tokens of wrong drafts: 30% saved."""
SEQUENTIAL: dict[str, Any] = {"name": "refine", "mode": "auto", "rounds": 2}


@dataclass(frozen=True, slots=True)
class Solved:
    """One solve: seconds, tokens of both roles, what its first draft sampled, and whether the answer is right."""

    seconds: float
    tokens: int
    drafted: int
    right: bool
    draft_right: bool


async def main(count: int, every: int, sure: float) -> int:
    """Measure and print; 0 if the claims hold."""
    configure("error", "console")
    pipelined = {**SEQUENTIAL, "abort_on_error": True, "check_every": every, "abort_at": sure}
    pace = Pace()
    problems = pocket("dev", count, 7)
    found: list[tuple[Solved, Solved]] = []
    async with services(pace) as client:
        for seconds in (0.0, TOKEN_SECONDS):
            pace.first = pace.token = seconds
            found.clear()
            room = anyio.CapacityLimiter(IN_FLIGHT if seconds else 1)

            async def both(number: int, item: Item, room: anyio.CapacityLimiter = room) -> None:
                async with room:
                    one = await solved(client, item, SEQUENTIAL, number)
                    found.append((one, await solved(client, item, pipelined, number)))

            async with anyio.create_task_group() as group:
                for number, item in enumerate(problems):
                    group.start_soon(both, number, item)
    return told(found, every, sure)


def told(found: Sequence[tuple[Solved, Solved]], every: int, sure: float) -> int:
    """Print the ratios; 0 if every one is within its limit."""
    wrong = [(a, b) for a, b in found if not a.draft_right]
    shares = [sum(side.right for side in sides) / len(found) for sides in zip(*found, strict=True)]
    drafted = sum(b.drafted for _, b in wrong) / sum(a.drafted for a, _ in wrong)
    tokens = sum(b.tokens for _, b in found) / sum(a.tokens for a, _ in found)
    seconds = sum(b.seconds for _, b in found) / sum(a.seconds for a, _ in found)
    slow = statistics.mean(b.seconds for _, b in wrong) / statistics.mean(a.seconds for a, _ in wrong)
    say(f"{len(found)} problems, {len(wrong)} drafted wrong; a check every {every} steps, abort at {sure}")
    say(f"right, sequential and pipelined{'':<27}{100 * shares[0]:6.1f} {100 * shares[1]:6.1f} %")
    limits = [
        ("tokens sampled for wrong drafts", drafted, WRONG_SAVED),
        ("tokens of both roles, prompts included", tokens, 1.0),
        ("seconds to an outcome", seconds, 1.0),
        ("seconds to an outcome where the draft was wrong", slow, 1.0),
    ]
    for name, ratio, limit in limits:
        say(f"{name + ', pipelined / sequential':<72}{ratio:6.3f}  limit {limit:.2f}  {'ok' if ratio <= limit else 'ABOVE'}")
    return int(any(ratio > limit for _, ratio, limit in limits))


async def solved(client: httpx.AsyncClient, item: Item, strategy: dict[str, Any], seed: int) -> Solved:
    """Solve a problem greedily."""
    sampling = {"temperature": 0.0, "max_tokens": 256, "seed": seed}
    body = {"problem": item.problem, "strategy": strategy, "sampling": sampling, "trace": "full"}
    result = (await client.post("/solve", json=body)).raise_for_status().json()
    draft = result["candidates"][0]
    return Solved(
        result["usage"]["seconds"],
        result["usage"]["total_tokens"],
        draft["completion_tokens"],
        right(result["answer"], item),
        right(draft["answer"], item),
    )


@asynccontextmanager
async def services(pace: Pace) -> AsyncGenerator[httpx.AsyncClient]:
    """All three, on paced engines; a client of the orchestrator."""

    async def paced(settings: RoleSettings) -> PacedEngine:
        return await PacedEngine.at(embedded_options(settings), pace)

    acting, judging = ActorSettings.load(model="pocket-actor"), CriticSettings.load(model="pocket-critic")
    actor = ActorService(acting, lambda: paced(acting))
    critic = CriticService(judging, lambda: paced(judging), b"benchmark")
    async with (
        serve(create_role_app(actor, "actor", [actor_service.routes.router(actor)])) as actor_url,
        serve(create_role_app(critic, "critic", [critic_service.routes.router(critic)])) as critic_url,
        serve(orchestrator.app.create(OrchestratorSettings.load(actor_url=actor_url, critic_url=critic_url))) as url,
        httpx.AsyncClient(base_url=url, timeout=300) as client,
    ):
        yield client


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=100, help="problems")
    arguments.add_argument("--every", type=int, default=4, help="steps between checks")
    arguments.add_argument("--sure", type=float, default=0.9, help="how sure the critic must be to abort")
    given = arguments.parse_args()
    raise SystemExit(anyio.run(main, given.count, given.every, given.sure, backend_options={"use_uvloop": True}))
