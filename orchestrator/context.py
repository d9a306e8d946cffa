"""What a strategy sees: the actor's verbs, the critic's depths, branches and the incumbent.

The three endings are kept apart here. A limit raises `LimitReached`, which the runner turns into an answer. A failed call
raises `CallFailed` where no candidate exists without it, and is noted as degraded where it costs only a candidate or a
judgement. A hang-up is cancellation and passes through.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from orchestrator import calls, estimate
from orchestrator.budget import LimitReached, Want
from orchestrator.calls import Each, Slot
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed
from orchestrator.selection import Poll
from orchestrator.solve import Solve
from services.contracts.critique import Critique, Depth
from services.contracts.events import CandidateFinished, CandidateJudged, SolveEvent
from services.contracts.solve import StopReason

ResultT = TypeVar("ResultT")

LIKELY_STEPS = 8
"""Steps of a solution that is not yet written."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy decides, and why it ended. `confidence` is null where nothing judged the answer."""

    candidate: Candidate
    stop_reason: StopReason
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt(Generic[ResultT]):
    """How a part of a strategy ended: with a result, or stopped by a limit or a failed call."""

    result: ResultT | None
    stopped: LimitReached | CallFailed | None = None


async def _ignore(_number: int, _candidate: Candidate) -> None:
    return


@dataclass(slots=True)
class Context:
    """A strategy's view of its solve, or of its own branch of it. `path` is the branch's place."""

    solve: Solve
    path: tuple[int, ...] = ()
    incumbent: Outcome | None = None
    _drafted: int = field(default=0)
    _refined: int = field(default=0)

    @property
    def prior(self) -> float:
        """p_correct of a candidate that the critic did not judge."""
        card = self.solve.critic.card
        return card.prior if card else 0.5

    @property
    def can_rewind(self) -> bool:
        """Whether the actor's engine can continue a solution after its kept steps."""
        card = self.solve.actor.card
        return card is None or card.capabilities.prefix

    async def draft(self, *, judge: Depth | None = None, temperature: float | None = None) -> Candidate:
        """Write one first attempt; see `drafts`."""
        written = await self.drafts(1, judge=judge, temperature=temperature)
        return next(candidate for candidate in written if candidate is not None)

    async def drafts(
        self, n: int, *, judge: Depth | None = None, each: Each = _ignore, temperature: float | None = None
    ) -> list[Candidate | None]:
        """Write `n` first attempts in one call, or as many as the budget allows; None stands for one that failed.

        `each` is told a candidate and its number as soon as it is complete. With `judge`, what judging each at that depth
        takes is reserved before the call is leased. `temperature` replaces the solve's. Raises `LimitReached` when not one
        fits, `CallFailed` when the actor answered every try with an error.
        """
        first = self._drafted
        slots = [Slot(self._name(first + k)) for k in range(n)]
        written = await calls.draft(self.solve, slots, self._judging(judge), (*self.path, first, 0), each, temperature)
        self._drafted += len(written)
        for candidate in written:
            if candidate is not None:
                self.offer(candidate)
        return written

    async def refine(
        self, original: Candidate, *, keep_steps: int = 0, judge: Depth = "verdict", temperature: float | None = None
    ) -> Candidate | None:
        """Write a new attempt given `original`'s critique, after its first `keep_steps` steps; None if the actor failed.

        Raises `LimitReached` unless the attempt and its judgement can both be leased.
        """
        number = original.round + 1
        slot = Slot(f"{original.id.split('.')[0]}.{number}", parent=original.id, round=number)
        self._refined += 1
        place = (*self.path, number, 0, self._refined)
        return await calls.refine(self.solve, original, slot, keep_steps, self._judging(judge), place, temperature)

    def begin_round(self, candidate: Candidate, judge: Depth) -> None:
        """Raise `LimitReached` unless an explanation, a refinement and its judgement are likely to fit together."""
        turns = [turn.content for turn in self.solve.turns]
        explain, refine, verdict = estimate.round_of(self.solve.critic.card, self.solve.actor.card, turns, candidate, judge)
        known = candidate.judged_at("explain")
        self.solve.ledger.require(actor=refine, critic=verdict if known else explain + verdict)

    async def judge(self, candidate: Candidate, depth: Depth, *, explain: Literal["first", "all"] = "first") -> Candidate:
        """The candidate with a critique at `depth` or deeper; unchanged where the critic is unavailable.

        A critique that cannot be parsed is `unsure` and degraded. Raises `LimitReached`.
        """
        if candidate.judged_at(depth) or self.solve.critic_unavailable:
            return candidate
        critique = await self._critique(candidate, depth, explain)
        if critique is None:
            return candidate
        if critique.unparsable:
            self.solve.note("critique_unparsable", f"the critique of {candidate.id} at depth {depth} could not be read")
        judged = candidate.judged(critique)
        self.solve.candidates[judged.id] = judged
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
            self.solve.note("actor_failed", failure.cause.detail)
            return Attempt(None, failure)

    def branch(self, number: int) -> "Context":
        """The context of the `number`-th strategy that runs inside this one."""
        return Context(self.solve, (*self.path, number))

    def offer(self, candidate: Candidate, confidence: float | None = None, *, replace: bool = False) -> None:
        """Make a candidate the incumbent if there is none, or in any case with `replace`."""
        if replace or self.incumbent is None:
            self.incumbent = Outcome(candidate, "budget", confidence)

    async def add_to(self, poll: Poll, candidate: Candidate) -> None:
        """Add a candidate to a poll under the group of its answer."""
        answer = candidate.answer
        if answer is None:
            poll.add(candidate, None)
            return
        known = [(index, group.answer) for index, group in enumerate(poll.groups) if group.answer is not None]
        found = await self.solve.equivalence.group_of(answer, [text for _, text in known])
        poll.add(candidate, None if found is None else known[found][0])

    async def cancel_unfinished(self) -> None:
        """Tell of candidates whose writing was cancelled in this branch."""
        prefix = "c" + "".join(f"{k}-" for k in self.path)
        for name in [name for name in self.solve.unfinished if name.startswith(prefix)]:
            del self.solve.unfinished[name]
            await self.emit(CandidateFinished(candidate=name, answer=None, finish_reason="cancelled"))

    async def emit(self, event: SolveEvent) -> None:
        """Send an event to whoever follows the solve."""
        await self.solve.emit(event)

    async def _critique(self, candidate: Candidate, depth: Depth, explain: Literal["first", "all"]) -> Critique | None:
        if not candidate.steps:
            return Critique(depth=depth, verdict="unsure", unparsable=True)
        place = (*self.path, candidate.round, 1 + ["verdict", "labels", "explain"].index(depth), _number(candidate.id))
        return await calls.critique(self.solve, candidate, depth, explain, place)

    def _name(self, number: int) -> str:
        return "c" + "-".join(str(k) for k in (*self.path, number))

    def _judging(self, depth: Depth | None) -> Want | None:
        if depth is None or self.solve.critic_unavailable:
            return None
        return estimate.judging(self.solve.critic.card, depth, [t.content for t in self.solve.turns], LIKELY_STEPS)


def _number(candidate_id: str) -> int:
    return int(candidate_id.split(".", maxsplit=1)[0].rsplit("-", maxsplit=1)[-1].lstrip("c"))
