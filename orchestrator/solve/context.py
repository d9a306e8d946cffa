"""A strategy's view of its solve: the actor's verbs, the critic's depths, branches and the incumbent.

Three endings are kept apart. A limit raises `LimitReached`, for which the runner answers with the incumbent. A failed call
raises `CallFailed` if no candidate exists without it, and is recorded as degraded if it costs only one candidate or
judgement. A client's disconnect is cancellation and passes through.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import anyio

from orchestrator.budget import CallSize, LimitReached
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed
from orchestrator.selection import Poll
from orchestrator.solve import actor_calls, critic_calls, estimates
from orchestrator.solve.actor_calls import DraftOptions, OnCandidate, OnStep, PendingCandidate, ignore_progress
from orchestrator.solve.estimates import Mode
from orchestrator.solve.pipelining import PipelinedDraft, PipelineOptions
from orchestrator.solve.state import Attempt, Outcome, Solve
from services.contracts.calls import MAX_STEPS
from services.contracts.critique import DEPTHS, Critique, Depth
from services.contracts.events import AnySolveEvent, CandidateFinished, CandidateJudged

ResultT = TypeVar("ResultT")

WARM = 0.5
"""The lowest temperature of samples that must differ; a second sample at temperature 0 would repeat the first."""

EXPECTED_STEPS = 8
"""The expected number of steps of a solution that is not yet written."""


@dataclass(slots=True)
class Context:
    """The view of a strategy, or of one of its branches, whose place is `path`."""

    solve: Solve
    path: tuple[int, ...] = ()
    incumbent: Outcome | None = None
    _drafted: int = field(default=0)

    @property
    def prior(self) -> float:
        """p_correct of a candidate that the critic did not judge."""
        card = self.solve.critic.card
        return card.prior if card else 0.5

    @property
    def warm(self) -> float:
        """The request's temperature, raised to one at which samples differ."""
        return max(WARM, self.solve.sampling.temperature)

    @property
    def gate(self) -> Depth:
        """The cheapest depth that tells right from wrong: `explain` if a verdict has to read a whole critique."""
        card = self.solve.critic.card
        return "explain" if estimates.reads(card, "verdict") > estimates.reads(card, "explain") else "verdict"

    async def draft(
        self,
        *,
        judge: Depth | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        pipeline: PipelineOptions | None = None,
    ) -> Candidate:
        """Write one first attempt; see `drafts`. With `pipeline` it is read while it is written, and may be cut short.

        `temperature` and `max_tokens` replace the request's, but no completion is longer than the request allows.
        """
        if pipeline is None and max_tokens is None:
            written = await self.drafts(1, judge=judge, temperature=temperature)
            return next(candidate for candidate in written if candidate is not None)
        number, self._drafted = self._drafted, self._drafted + 1
        pending = PendingCandidate(self._id(number))

        async def write(on_step: OnStep) -> Candidate | None:
            place = (*self.path, number, 0)
            options = DraftOptions(temperature, max_tokens, on_step=on_step)
            return (await actor_calls.draft(self.solve, [pending], self._judgement(judge), place, options))[0]

        if pipeline is None:
            candidate = await write(ignore_progress)
        else:
            candidate = await PipelinedDraft(self.solve, pending, pipeline, (*self.path, 0, 4, number)).run(write)
        assert candidate is not None  # noqa: S101 - a draft of one sample is a candidate or an error
        self.offer(candidate)
        return candidate

    async def drafts(
        self,
        n: int,
        *,
        judge: Depth | None = None,
        temperature: float | None = None,
        on_candidate: OnCandidate = ignore_progress,
    ) -> list[Candidate | None]:
        """Write `n` first attempts in one call, or as many as the budget allows; None stands for one that failed.

        `on_candidate` is called with each candidate and its number as soon as it is complete. With `judge`, the tokens for
        judging each at that depth are reserved before the call is leased. Raises `LimitReached` if not one fits,
        `CallFailed` if the actor answered every attempt with an error.
        """
        first = self._drafted
        pending = [PendingCandidate(self._id(first + k)) for k in range(n)]
        options = DraftOptions(temperature, on_candidate=on_candidate)
        written = await actor_calls.draft(self.solve, pending, self._judgement(judge), (*self.path, first, 0), options)
        self._drafted += len(written)
        for candidate in written:
            if candidate is not None:
                self.offer(candidate)
        return written

    async def refine(
        self,
        original: Candidate,
        *,
        keep_steps: int = 0,
        judge: Depth = "verdict",
        temperature: float | None = None,
        max_tokens: int | None = None,
        pipeline: PipelineOptions | None = None,
    ) -> Candidate | None:
        """Write a new attempt given `original`'s critique, after its first `keep_steps` steps; None if the actor failed.

        Raises `LimitReached` unless the attempt and its judgement can both be leased. If only the attempt can, it is made
        and offered first, since it is likelier right than a candidate that was rejected. `pipeline`: see `draft`.
        """
        number = original.round + 1
        pending = PendingCandidate(f"{original.id.split('.')[0]}.{number}", parent=original.id, round=number)
        place = (*self.path, number, 0, *_numbers(original.id))

        async def write(on_step: OnStep) -> Candidate | None:
            options = DraftOptions(temperature, max_tokens, on_step=on_step)

            async def attempt(judgement: CallSize | None) -> Candidate | None:
                return (await actor_calls.refine(self.solve, original, [pending], keep_steps, judgement, place, options))[0]

            try:
                return await attempt(self._judgement(judge, original))
            except LimitReached:
                estimates.require_round(self.solve, original, explained=True)
                self._offer_unjudged(await attempt(None))
                raise

        if pipeline is None:
            return await write(ignore_progress)
        check_place = (*self.path, number, 4, *_numbers(original.id))
        return await PipelinedDraft(self.solve, pending, pipeline, check_place).run(write)

    async def expand(
        self, original: Candidate, n: int, *, keep_steps: int, judge: Depth, temperature: float | None = None
    ) -> list[Candidate]:
        """Write `n` new attempts in one call, or as many as the budget allows; see `refine`."""
        number = original.round + 1
        pending = [PendingCandidate(f"{original.id}.{k}", parent=original.id, round=number) for k in range(n)]
        place = (*self.path, number, 0, *_numbers(original.id))
        judgement, options = self._judgement(judge, original), DraftOptions(temperature)
        written = await actor_calls.refine(self.solve, original, pending, keep_steps, judgement, place, options)
        return [candidate for candidate in written if candidate is not None]

    async def resume(self, candidate: Candidate, trigger: str, *, judge: Depth, max_tokens: int) -> Candidate | None:
        """Continue `candidate` below `trigger`, which becomes part of the solution; see `refine`."""
        triggered = replace(candidate, text=f"{candidate.text.rstrip()}\n{trigger}\n", critique=None)
        return await self.refine(triggered, keep_steps=MAX_STEPS, judge=judge, max_tokens=max_tokens)

    def steps_to_keep(self, candidate: Candidate, mode: Mode) -> int:
        """Return the number of steps that a refinement of `candidate` keeps; see `estimates.steps_to_keep`."""
        return estimates.steps_to_keep(self.solve, candidate, mode)

    def require_round(self, candidate: Candidate) -> None:
        """Raise `LimitReached` unless an explanation and a refinement are expected to fit together."""
        estimates.require_round(self.solve, candidate, explained=candidate.judged_at("explain"))

    def _offer_unjudged(self, refined: Candidate | None) -> None:
        """Make a refinement that will not be judged the incumbent, if it is likelier right than the current one."""
        doubted = self.incumbent is None or (self.incumbent.confidence or 0.0) < self.prior
        if refined is not None and refined.answer is not None and doubted:
            self.offer(refined, replace=True)

    async def judge(self, candidate: Candidate, depth: Depth, *, explain: Literal["first", "all"] = "first") -> Candidate:
        """Return the candidate with a critique at `depth` or deeper; unchanged if the critic is unavailable.

        A critique that cannot be parsed is `unsure` and degraded. Raises `LimitReached`.
        """
        if candidate.judged_at(depth) or self.solve.critic_unavailable:
            return candidate
        critique, tokens = Critique(depth=depth, verdict="unsure", unparsable=True), 0
        if candidate.steps:
            place = (*self.path, candidate.round, 1 + DEPTHS.index(depth), *_numbers(candidate.id))
            judgement = await critic_calls.critique(self.solve, candidate, depth, explain, place)
            if judgement is None:
                return candidate
            critique, tokens = judgement
        if critique.unparsable:
            self.solve.degrade("critique_unparsable", f"the critique of {candidate.id} at depth {depth} could not be read")
        judged = candidate.judged(critique, tokens)
        self.solve.candidates.update(judged)
        await self.emit(
            CandidateJudged(
                candidate=judged.id,
                verdict=judged.verdict,
                p_correct=judged.p_correct,
                first_error=judged.first_error,
            )
        )
        return judged

    async def attempt(self, work: Awaitable[ResultT]) -> Attempt[ResultT]:
        """Run a part of a strategy whose limit or failure must not end its siblings."""
        try:
            return Attempt(await work)
        except LimitReached as limit:
            return Attempt(None, limit)
        except CallFailed as failure:
            self.solve.degrade("actor_failed", failure.cause.detail)
            return Attempt(None, failure)

    async def together(self, works: Sequence[Callable[[], Awaitable[ResultT]]]) -> list[Attempt[ResultT]]:
        """Run parts of a strategy side by side; return how each ended, in their order."""
        ended: dict[int, Attempt[ResultT]] = {}

        async def run(number: int, work: Callable[[], Awaitable[ResultT]]) -> None:
            ended[number] = await self.attempt(work())

        async with anyio.create_task_group() as group:
            for number, work in enumerate(works):
                group.start_soon(run, number, work)
        return [ended[number] for number in range(len(works))]

    def branch(self, number: int) -> "Context":
        """Return the context of the `number`-th strategy that runs inside this one."""
        return Context(self.solve, (*self.path, number))

    def offer(self, candidate: Candidate, confidence: float | None = None, *, replace: bool = False) -> None:
        """Make a candidate the incumbent if there is none, or in any case with `replace`."""
        if replace or self.incumbent is None:
            self.incumbent = Outcome(candidate, "budget", confidence)
            if not self.path:
                self.solve.answer_now.offer()

    async def add_to(self, poll: Poll, candidate: Candidate) -> None:
        """Add a candidate to a poll under the group of its answer."""
        answer = candidate.answer
        if answer is None:
            poll.add(candidate, None)
            return
        known = [(index, group.answer) for index, group in enumerate(poll.groups) if group.answer is not None]
        match = await self.solve.equivalence.group_of(answer, [text for _, text in known])
        poll.add(candidate, None if match is None else known[match][0])

    async def cancel_unfinished(self) -> None:
        """Emit the end of the candidates in this branch whose writing was cancelled."""
        for candidate_id in self.solve.candidates.cancel("c" + "".join(f"{k}-" for k in self.path)):
            await self.emit(CandidateFinished(candidate=candidate_id, answer=None, finish_reason="cancelled"))

    async def emit(self, event: AnySolveEvent) -> None:
        """Send an event to the followers of the solve."""
        await self.solve.emit(event)

    def _id(self, number: int) -> str:
        return "c" + "-".join(str(k) for k in (*self.path, number))

    def _judgement(self, depth: Depth | None, like: Candidate | None = None) -> CallSize | None:
        """Return the size of judging a candidate at a depth, one that resembles `like`; None without a judgement."""
        if depth is None or self.solve.critic_unavailable:
            return None
        steps = EXPECTED_STEPS if like is None else len(like.steps)
        return estimates.judgement_size(self.solve, depth, steps, estimates.explanation_tokens(like))


def _numbers(candidate_id: str) -> tuple[int, ...]:
    """Return the numbers in a candidate's id: its place among its kind."""
    return tuple(int(digits) for digits in re.findall(r"\d+", candidate_id))
