"""Clients of the role services, for measurements that no strategy makes and that need the oracle.

- The critic on the actor's own samples: its verdict and its first error.
- The ceiling: refinement by the oracle's critique. It tells a weak critic from an actor that ignores critiques.
- The control: refinement without a critique.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx
from pydantic import BaseModel

from evaluation.problem_sets import ProblemItem, is_right
from evaluation.rows import CandidateRow, RefinementRow, SampleCritiqueRow, SampleCritiquesRow
from evaluation.runs import seed_of
from pocket import oracle
from services.contracts.calls import CandidateEvent, CritiqueEvent, CritiqueRequest, DraftRequest, RefineRequest, UsageEvent
from services.contracts.critique import Critique, Depth, StepExplanation, StepLabel
from services.contracts.sampling import Sampling
from services.contracts.usage import Usage
from services.http.client import stream_events

GREEDY = Sampling(temperature=0.0, max_tokens=512)
ORACLE_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class RoleClients:
    """Clients of the actor and the critic."""

    actor: httpx.AsyncClient
    critic: httpx.AsyncClient

    async def draft(self, item: ProblemItem, seed: int, temperature: float) -> tuple[CandidateEvent, Usage]:
        """Draft a solution; `seed` is the run's."""
        sampling = Sampling(temperature=temperature, max_tokens=GREEDY.max_tokens, seed=seed_of(item, seed))
        return await self._write("/v1/draft", DraftRequest(problem=item.problem, sampling=sampling))

    async def refine(self, item: ProblemItem, solution: str, critique: Critique | None) -> tuple[CandidateEvent, Usage]:
        """Refine a solution greedily."""
        body = RefineRequest(problem=item.problem, solution=solution, critique=critique, sampling=GREEDY)
        return await self._write("/v1/refine", body)

    async def critique(self, item: ProblemItem, steps: Sequence[str], depth: Depth = "explain") -> tuple[Critique, Usage]:
        """Critique the steps of a solution greedily."""
        body = CritiqueRequest(problem=item.problem, steps=tuple(steps), depth=depth, sampling=GREEDY)
        events = await _events(self.critic, "/v1/critique", body)
        return CritiqueEvent.model_validate_json(events["critique"]), UsageEvent.model_validate_json(events["usage"])

    async def _write(self, path: str, body: BaseModel) -> tuple[CandidateEvent, Usage]:
        events = await _events(self.actor, path, body)
        return CandidateEvent.model_validate_json(events["candidate"]), UsageEvent.model_validate_json(events["usage"])


async def _events(client: httpx.AsyncClient, path: str, body: BaseModel) -> dict[str, str]:
    """Return the data of the last event of each type."""
    async with stream_events(client, path, body, {}) as events:
        return {event.event: event.data async for event in events}
    raise AssertionError("a stream suppressed its error")


def _judge(item: ProblemItem, solution: str) -> oracle.Judgement:
    assert item.source is not None  # noqa: S101 - only the pocket domain has an oracle
    return oracle.judge(item.source.steps, solution)


def first_error(item: ProblemItem, solution: str) -> int | None:
    """Return the oracle's first wrong line, from 1; None in a right solution. The problem is of the pocket domain."""
    return _judge(item, solution).first_error


def oracle_critique(item: ProblemItem, solution: str) -> Critique:
    """Return the oracle's critique in the form of the critic's. The problem is of the pocket domain."""
    judgement = _judge(item, solution)
    if judgement.first_error is None:
        return Critique(depth="explain", verdict="correct", p_correct=1.0)
    first = judgement.first_error
    explanation = judgement.critique.split("\n")[first - 1].partition(": ")[2]
    labels = [StepLabel(index=index, label="correct") for index in range(1, first)]
    return Critique(
        depth="explain",
        labels=(*labels, StepLabel(index=first, label="incorrect")),
        explanations=(StepExplanation(index=first, text=explanation),),
        first_error=first,
        verdict="incorrect",
        p_correct=0.0,
    )


async def refine_by_oracle(clients: RoleClients, solutions: Mapping[str, str], item: ProblemItem) -> RefinementRow:
    """Refine a problem's solution by the oracle's critique until it finds no error, for at most `ORACLE_ROUNDS` rounds."""
    solution, answer, tokens = solutions[item.id], None, 0
    for _ in range(ORACLE_ROUNDS):
        critique = oracle_critique(item, solution)
        if critique.verdict == "correct":
            break
        candidate, usage = await clients.refine(item, solution, critique)
        solution, answer = candidate.text, candidate.answer
        tokens += usage.total_tokens
    right = first_error(item, solution) is None if answer is None else is_right(answer, item)
    return RefinementRow(id=item.id, level=item.level, right=right, tokens=tokens, solution=solution)


async def refine_without_critique(clients: RoleClients, solutions: Mapping[str, str], item: ProblemItem) -> RefinementRow:
    """Refine a problem's solution once without a critique."""
    candidate, usage = await clients.refine(item, solutions[item.id], None)
    right = is_right(candidate.answer, item)
    return RefinementRow(id=item.id, level=item.level, right=right, tokens=usage.total_tokens, solution=candidate.text)


async def critique_samples(
    clients: RoleClients, samples: Mapping[str, Sequence[CandidateRow]], item: ProblemItem
) -> SampleCritiquesRow:
    """Critique the first right and the first wrong one of a problem's samples in words."""
    critiques: list[SampleCritiqueRow] = []
    for right in (True, False):
        sample = next((c for c in samples[item.id] if c.text and (first_error(item, c.text) is None) is right), None)
        if sample is None:
            continue
        critique, usage = await clients.critique(item, sample.text.split("\n"))
        fields = {"right": right, "tokens": usage.total_tokens, "p_correct": sample.p_correct}
        critiques.append(SampleCritiqueRow.of(critique, first_error(item, sample.text), **fields))
    return SampleCritiquesRow(id=item.id, level=item.level, critiques=tuple(critiques))
