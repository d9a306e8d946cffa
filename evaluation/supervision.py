"""What only the oracle can measure, by calling the role services themselves: the critic alone, and what refining could do.

- A critic on the actor's own samples: its verdict and the place of the first error.
- The ceiling: refining by the oracle's critique. It tells a weak critic from an actor that does not listen.
- The control: refining without any critique.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from evaluation.items import Item
from evaluation.runs import Row, right, seed_of
from pocket import oracle
from services.client import stream_events
from services.contracts.calls import CandidateEvent, CritiqueEvent, Draft, Judge, Refine, UsageEvent
from services.contracts.critique import Critique, StepExplanation, StepLabel
from services.contracts.sampling import Sampling
from services.contracts.usage import Usage

GREEDY = Sampling(temperature=0.0, max_tokens=512)


@dataclass(frozen=True, slots=True)
class Services:
    """Clients of the role services."""

    actor: httpx.AsyncClient
    critic: httpx.AsyncClient

    async def draft(self, item: Item, seed: int, temperature: float) -> tuple[CandidateEvent, Usage]:
        """One draft."""
        sampling = Sampling(temperature=temperature, max_tokens=GREEDY.max_tokens, seed=seed_of(item, seed))
        events = await _events(self.actor, "/v1/draft", Draft(problem=item.problem, sampling=sampling))
        return CandidateEvent.model_validate_json(events["candidate"]), UsageEvent.model_validate_json(events["usage"])

    async def refine(self, item: Item, solution: str, critique: Critique | None) -> tuple[CandidateEvent, Usage]:
        """One refinement."""
        body = Refine(problem=item.problem, solution=solution, critique=critique, sampling=GREEDY)
        events = await _events(self.actor, "/v1/refine", body)
        return CandidateEvent.model_validate_json(events["candidate"]), UsageEvent.model_validate_json(events["usage"])

    async def explain(self, item: Item, steps: Sequence[str]) -> tuple[Critique, Usage]:
        """One critique in words."""
        body = Judge(problem=item.problem, steps=tuple(steps), depth="explain", sampling=GREEDY)
        events = await _events(self.critic, "/v1/critique", body)
        return CritiqueEvent.model_validate_json(events["critique"]), UsageEvent.model_validate_json(events["usage"])


async def _events(client: httpx.AsyncClient, path: str, body: Any) -> dict[str, str]:  # noqa: ANN401 - any request
    """The last event of each name."""
    async with stream_events(client, path, body, {}) as events:
        return {event.event: event.data async for event in events}
    raise AssertionError("a stream swallowed its error")


def first_error(item: Item, solution: str) -> int | None:
    """The oracle's first wrong line, from 1; None in a right solution."""
    assert item.source is not None  # noqa: S101 - only the pocket domain has an oracle
    return oracle.judge(item.source.steps, solution).first_error


def oracles(item: Item, solution: str) -> Critique:
    """The oracle's critique, as the critic would have told it."""
    assert item.source is not None  # noqa: S101 - as above
    judged = oracle.judge(item.source.steps, solution)
    if judged.first_error is None:
        return Critique(depth="explain", verdict="correct", p_correct=1.0)
    at = judged.first_error
    words = judged.critique.split("\n")[at - 1].partition(": ")[2]
    labels = [StepLabel(index=index, label="correct") for index in range(1, at)]
    return Critique(
        depth="explain",
        labels=(*labels, StepLabel(index=at, label="incorrect")),
        explanations=(StepExplanation(index=at, text=words),),
        first_error=at,
        verdict="incorrect",
        p_correct=0.0,
    )


async def ceiling(services: Services, item: Item, solution: str, rounds: int = 2) -> Row:
    """Refine by the oracle's critique until it finds nothing, for at most `rounds` rounds."""
    tokens = 0
    answer: str | None = None
    for _ in range(rounds):
        critique = oracles(item, solution)
        if critique.verdict == "correct":
            break
        candidate, usage = await services.refine(item, solution, critique)
        solution, answer = candidate.text, candidate.answer
        tokens += usage.total_tokens
    ok = first_error(item, solution) is None if answer is None else right(answer, item)
    return {"right": ok, "tokens": tokens, "solution": solution}


async def control(services: Services, item: Item, solution: str) -> Row:
    """Refine once without a critique."""
    candidate, usage = await services.refine(item, solution, None)
    return {"right": right(candidate.answer, item), "tokens": usage.total_tokens, "solution": candidate.text}


async def judged(services: Services, item: Item, candidates: Sequence[Row]) -> Row:
    """The critic's words on the first right and the first wrong one of a problem's samples."""
    found: list[Row] = []
    for kind in (True, False):
        chosen = next((c for c in candidates if c["text"] and (first_error(item, c["text"]) is None) is kind), None)
        if chosen is None:
            continue
        critique, usage = await services.explain(item, chosen["text"].split("\n"))
        found.append(
            {
                "right": kind,
                "verdict": critique.verdict,
                "first_error": critique.first_error,
                "true_first_error": first_error(item, chosen["text"]),
                "p_correct": chosen["p_correct"],
                "tokens": usage.total_tokens,
            }
        )
    return {"critiques": found}
