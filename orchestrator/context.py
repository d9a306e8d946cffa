"""What a strategy sees: the actor's verbs, the critic's depths, branches and the incumbent.

The three endings are kept apart here. A limit raises `LimitReached`, which the runner turns into an answer. A failed call
raises `CallFailed` where no candidate exists without it, and is noted as degraded where it costs only a candidate or a
judgement. A hang-up is cancellation and passes through.
"""

import re
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from orchestrator import estimate, judging, writing
from orchestrator.budget import LimitReached, Want
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed
from orchestrator.selection import Poll
from orchestrator.solve import Solve
from orchestrator.watching import Watch, Watcher
from orchestrator.writing import Each, Manner, Seen, Slot
from services.contracts.calls import WrittenStep
from services.contracts.critique import DEPTHS, Critique, Depth
from services.contracts.events import CandidateFinished, CandidateJudged, SolveEvent
from services.contracts.solve import StopReason

ResultT = TypeVar("ResultT")

Mode = Literal["rewrite", "rewind", "auto"]
"""How a refinement begins: anew, after the steps before the first error, or after them where that promises more."""

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

    async def draft(
        self, *, judge: Depth | None = None, temperature: float | None = None, watch: Watch | None = None
    ) -> Candidate:
        """Write one first attempt; see `drafts`. With `watch` it is read while it is written, and may be cut short."""
        if watch is None:
            written = await self.drafts(1, judge=judge, temperature=temperature)
            return next(candidate for candidate in written if candidate is not None)
        number, self._drafted = self._drafted, self._drafted + 1
        slot = Slot(self._name(number))

        async def write(seen: Seen) -> Candidate | None:
            place = (*self.path, number, 0)
            manner = Manner(temperature, seen=seen)
            return (await writing.draft(self.solve, [slot], self._judging(judge), place, manner))[0]

        candidate = await Watcher(self.solve, slot, watch, (*self.path, 0, 4, number)).follow(write)
        assert candidate is not None  # noqa: S101 - a draft of one sample is a candidate or an error
        self.offer(candidate)
        return candidate

    async def drafts(
        self, n: int, *, judge: Depth | None = None, temperature: float | None = None, each: Each = _ignore
    ) -> list[Candidate | None]:
        """Write `n` first attempts in one call, or as many as the budget allows; None stands for one that failed.

        `each` is told a candidate and its number as soon as it is complete. With `judge`, what judging each at that depth
        takes is reserved before the call is leased. Raises `LimitReached` when not one fits, `CallFailed` when the actor
        answered every try with an error.
        """
        first = self._drafted
        slots = [Slot(self._name(first + k)) for k in range(n)]
        manner = Manner(temperature, each)
        written = await writing.draft(self.solve, slots, self._judging(judge), (*self.path, first, 0), manner)
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
        watch: Watch | None = None,
    ) -> Candidate | None:
        """Write a new attempt given `original`'s critique, after its first `keep_steps` steps; None if the actor failed.

        Raises `LimitReached` unless the attempt and its judgement can both be leased. `watch`: see `draft`.
        """
        number = original.round + 1
        slot = Slot(f"{original.id.split('.')[0]}.{number}", parent=original.id, round=number)
        place = (*self.path, number, 0, *_numbers(original.id))

        async def write(seen: Seen) -> Candidate | None:
            manner = Manner(temperature, seen=seen)
            attempts = writing.refine(self.solve, original, [slot], keep_steps, self._judging(judge), place, manner)
            return (await attempts)[0]

        if watch is None:
            return await write(_unseen)
        return await Watcher(self.solve, slot, watch, (*self.path, number, 4, *_numbers(original.id))).follow(write)

    async def expand(
        self, original: Candidate, n: int, *, keep_steps: int, judge: Depth, temperature: float | None = None
    ) -> list[Candidate]:
        """Write `n` new attempts in one call, or as many as the budget allows; see `refine`."""
        number = original.round + 1
        slots = [Slot(f"{original.id}.{k}", parent=original.id, round=number) for k in range(n)]
        place = (*self.path, number, 0, *_numbers(original.id))
        manner = Manner(temperature)
        written = await writing.refine(self.solve, original, slots, keep_steps, self._judging(judge), place, manner)
        return [candidate for candidate in written if candidate is not None]

    def kept(self, candidate: Candidate, mode: Mode) -> int:
        """Steps that a refinement of `candidate` keeps: those before its first error, all of one that was cut short.

        None in mode `rewrite`, where the error is unknown, and where the engine cannot continue a solution (degraded in
        mode `rewind`). Mode `auto` keeps none either where `candidate` was itself rewound and errs where its parent did.
        """
        cut = candidate.finish_reason == "cancelled"
        first = candidate.first_error or (len(candidate.steps) + 1 if cut else 1)
        if (mode == "rewrite" and not cut) or first == 1:
            return 0
        if not self.can_rewind:
            if mode == "rewind":
                self.solve.note("rewind_unavailable", "the actor's engine cannot continue a solution; it was rewritten")
            return 0
        parent = self.solve.candidates.get(candidate.parent or "")
        again = mode == "auto" and parent is not None and parent.first_error == first
        return 0 if again else first - 1

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
        place = (*self.path, candidate.round, 1 + DEPTHS.index(depth), *_numbers(candidate.id))
        return await judging.critique(self.solve, candidate, depth, explain, place)

    def _name(self, number: int) -> str:
        return "c" + "-".join(str(k) for k in (*self.path, number))

    def _judging(self, depth: Depth | None) -> Want | None:
        if depth is None or self.solve.critic_unavailable:
            return None
        return estimate.judging(self.solve.critic.card, depth, [t.content for t in self.solve.turns], LIKELY_STEPS)


async def _unseen(_number: int, _step: WrittenStep) -> None:
    return


def _numbers(candidate_id: str) -> tuple[int, ...]:
    """The numbers in a candidate's name: its place among its kind."""
    return tuple(int(digits) for digits in re.findall(r"\d+", candidate_id))
