"""What a strategy sees: the actor's verbs, the critic's depths, branches and the incumbent.

The three endings are kept apart here. A limit raises `LimitReached`, which the runner turns into an answer. A failed call
raises `CallFailed` where no candidate exists without it, and is noted as degraded where it costs only a candidate or a
judgement. A hang-up is cancellation and passes through.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import anyio

from orchestrator import estimate, judging, rounds, writing
from orchestrator.budget import LimitReached, Want
from orchestrator.candidates import Candidate
from orchestrator.outcomes import Attempt, Outcome
from orchestrator.ports import CallFailed
from orchestrator.rounds import Mode
from orchestrator.selection import Poll
from orchestrator.solve import Solve
from orchestrator.watching import Watch, Watcher
from orchestrator.writing import Each, Manner, Seen, Slot
from services.contracts.calls import MAX_STEPS, WrittenStep
from services.contracts.critique import DEPTHS, Critique, Depth
from services.contracts.events import AnySolveEvent, CandidateFinished, CandidateJudged

ResultT = TypeVar("ResultT")

WARM = 0.5
"""Samples that must differ are drawn no colder: a second one at temperature 0 would be the first one again."""

LIKELY_STEPS = 8
"""Steps of a solution that is not yet written."""


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
    def warm(self) -> float:
        """The request's temperature, or one at which samples differ."""
        return max(WARM, self.solve.sampling.temperature)

    @property
    def gate(self) -> Depth:
        """The cheapest depth that tells right from wrong: where a verdict reads a whole critique, having it written."""
        card = self.solve.critic.card
        return "explain" if estimate.reads(card, "verdict") > estimate.reads(card, "explain") else "verdict"

    async def draft(
        self,
        *,
        judge: Depth | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        watch: Watch | None = None,
    ) -> Candidate:
        """Write one first attempt; see `drafts`. With `watch` it is read while it is written, and may be cut short.

        `temperature` and `max_tokens` stand in for the request's; no completion is longer than the request allows.
        """
        if watch is None and max_tokens is None:
            written = await self.drafts(1, judge=judge, temperature=temperature)
            return next(candidate for candidate in written if candidate is not None)
        number, self._drafted = self._drafted, self._drafted + 1
        slot = Slot(self._name(number))

        async def write(seen: Seen) -> Candidate | None:
            place = (*self.path, number, 0)
            manner = Manner(temperature, max_tokens, seen=seen)
            return (await writing.draft(self.solve, [slot], self._judging(judge), place, manner))[0]

        place = (*self.path, 0, 4, number)
        candidate = await (write(_unseen) if watch is None else Watcher(self.solve, slot, watch, place).follow(write))
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
        manner = Manner(temperature, each=each)
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
        max_tokens: int | None = None,
        watch: Watch | None = None,
    ) -> Candidate | None:
        """Write a new attempt given `original`'s critique, after its first `keep_steps` steps; None if the actor failed.

        Raises `LimitReached` unless the attempt and its judgement can both be leased; where the attempt alone can, it is
        made and offered first, since it promises more than a candidate that was rejected. `watch`: see `draft`.
        """
        number = original.round + 1
        slot = Slot(f"{original.id.split('.')[0]}.{number}", parent=original.id, round=number)
        place = (*self.path, number, 0, *_numbers(original.id))

        async def write(seen: Seen) -> Candidate | None:
            manner = Manner(temperature, max_tokens, seen=seen)

            async def attempt(judging: Want | None) -> Candidate | None:
                return (await writing.refine(self.solve, original, [slot], keep_steps, judging, place, manner))[0]

            try:
                return await attempt(self._judging(judge, original))
            except LimitReached:
                rounds.require(self.solve, original, explained=True)
                self._offer_unjudged(await attempt(None))
                raise

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
        written = await writing.refine(
            self.solve, original, slots, keep_steps, self._judging(judge, original), place, manner
        )
        return [candidate for candidate in written if candidate is not None]

    async def resume(self, candidate: Candidate, trigger: str, *, judge: Depth, max_tokens: int) -> Candidate | None:
        """Let `candidate` go on below `trigger`, which becomes part of the solution; see `refine`."""
        below = replace(candidate, text=f"{candidate.text.rstrip()}\n{trigger}\n", critique=None)
        return await self.refine(below, keep_steps=MAX_STEPS, judge=judge, max_tokens=max_tokens)

    def kept(self, candidate: Candidate, mode: Mode) -> int:
        """Steps that a refinement of `candidate` keeps; see `rounds.kept`."""
        return rounds.kept(self.solve, candidate, mode)

    def begin_round(self, candidate: Candidate) -> None:
        """Raise `LimitReached` unless an explanation and a refinement are likely to fit together."""
        rounds.require(self.solve, candidate, explained=candidate.judged_at("explain"))

    def _offer_unjudged(self, refined: Candidate | None) -> None:
        """Make a refinement that nobody will judge the incumbent where it is likelier right than that one."""
        doubted = self.incumbent is None or (self.incumbent.confidence or 0.0) < self.prior
        if refined is not None and refined.answer is not None and doubted:
            self.offer(refined, replace=True)

    async def judge(self, candidate: Candidate, depth: Depth, *, explain: Literal["first", "all"] = "first") -> Candidate:
        """The candidate with a critique at `depth` or deeper; unchanged where the critic is unavailable.

        A critique that cannot be parsed is `unsure` and degraded. Raises `LimitReached`.
        """
        if candidate.judged_at(depth) or self.solve.critic_unavailable:
            return candidate
        found = await self._critique(candidate, depth, explain)
        if found is None:
            return candidate
        critique, tokens = found
        if critique.unparsable:
            self.solve.note("critique_unparsable", f"the critique of {candidate.id} at depth {depth} could not be read")
        judged = candidate.judged(critique, tokens)
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

    async def together(self, works: Sequence[Callable[[], Awaitable[ResultT]]]) -> list[Attempt[ResultT]]:
        """Run parts of a strategy side by side; how each ended, in their order."""
        ended: dict[int, Attempt[ResultT]] = {}

        async def one(number: int, work: Callable[[], Awaitable[ResultT]]) -> None:
            ended[number] = await self.attempt(work())

        async with anyio.create_task_group() as group:
            for number, work in enumerate(works):
                group.start_soon(one, number, work)
        return [ended[number] for number in range(len(works))]

    def branch(self, number: int) -> "Context":
        """The context of the `number`-th strategy that runs inside this one."""
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
        found = await self.solve.equivalence.group_of(answer, [text for _, text in known])
        poll.add(candidate, None if found is None else known[found][0])

    async def cancel_unfinished(self) -> None:
        """Tell of candidates whose writing was cancelled in this branch."""
        prefix = "c" + "".join(f"{k}-" for k in self.path)
        for name in [name for name in self.solve.unfinished if name.startswith(prefix)]:
            del self.solve.unfinished[name]
            await self.emit(CandidateFinished(candidate=name, answer=None, finish_reason="cancelled"))

    async def emit(self, event: AnySolveEvent) -> None:
        """Send an event to whoever follows the solve."""
        await self.solve.emit(event)

    async def _critique(
        self, candidate: Candidate, depth: Depth, explain: Literal["first", "all"]
    ) -> tuple[Critique, int] | None:
        if not candidate.steps:
            return Critique(depth=depth, verdict="unsure", unparsable=True), 0
        place = (*self.path, candidate.round, 1 + DEPTHS.index(depth), *_numbers(candidate.id))
        return await judging.critique(self.solve, candidate, depth, explain, place)

    def _name(self, number: int) -> str:
        return "c" + "-".join(str(k) for k in (*self.path, number))

    def _judging(self, depth: Depth | None, like: Candidate | None = None) -> Want | None:
        if depth is None or self.solve.critic_unavailable:
            return None
        turns = [turn.content for turn in self.solve.turns]
        steps = LIKELY_STEPS if like is None else len(like.steps)
        return estimate.judging(self.solve.critic.card, depth, turns, steps, estimate.explanation(like))


async def _unseen(_number: int, _step: WrittenStep) -> None:
    return


def _numbers(candidate_id: str) -> tuple[int, ...]:
    """The numbers in a candidate's name: its place among its kind."""
    return tuple(int(digits) for digits in re.findall(r"\d+", candidate_id))
