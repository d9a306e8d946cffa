"""Selection of the answer among several candidates. Pure functions.

Candidates come in place order, never in order of arrival, and the earlier one wins a tie.
"""

from dataclasses import dataclass, field
from typing import Literal

from orchestrator.candidates import Candidate
from services.contracts.solve import VoteGroup

Select = Literal["critic", "majority", "weighted"]


@dataclass(slots=True)
class Group:
    """Candidates with equivalent answers."""

    members: list[Candidate] = field(default_factory=list[Candidate])

    @property
    def answer(self) -> str | None:
        """The answer, as its first member wrote it."""
        return self.members[0].answer

    def weight(self, select: Select, prior: float) -> float:
        """Return the votes under `majority`, else the sum of p_correct, where an unjudged candidate has the prior."""
        if select == "majority":
            return float(len(self.members))
        return sum(weight(member, prior) for member in self.members)

    def best(self, prior: float) -> Candidate:
        """Return the member with the highest p_correct, the earlier one of a tie."""
        return max(self.members, key=lambda member: weight(member, prior))


@dataclass(slots=True)
class Poll:
    """Candidates in place order, and the groups of equivalent answers among them."""

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    groups: list[Group] = field(default_factory=list[Group])

    def add(self, candidate: Candidate, group: int | None) -> None:
        """Add a candidate to the group at index `group`, or to one of its own."""
        self.candidates.append(candidate)
        if group is None:
            self.groups.append(Group([candidate]))
        else:
            self.groups[group].members.append(candidate)

    @property
    def answered(self) -> list[Group]:
        """The groups that state an answer; all groups if none does."""
        return [group for group in self.groups if group.answer is not None] or self.groups

    def vote_groups(self, select: Select, prior: float) -> tuple[VoteGroup, ...]:
        """Return the groups as an event shows them."""
        return tuple(
            VoteGroup(answer=group.answer, votes=len(group.members), weight=group.weight(select, prior))
            for group in self.groups
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """A selected candidate, and the confidence of the selection: its p_correct, or its group's share of the weight."""

    candidate: Candidate
    confidence: float | None


def weight(candidate: Candidate, prior: float) -> float:
    """Return a candidate's weight in a vote: p_correct, or the dialect's prior if it is null."""
    return prior if candidate.p_correct is None else candidate.p_correct


def choose(poll: Poll, select: Select, prior: float) -> Choice | None:
    """Select the answer. A candidate without one wins only if none has one. None without candidates."""
    groups = poll.answered
    if not groups:
        return None
    if select == "critic":
        eligible = [candidate for candidate in poll.candidates if any(candidate in group.members for group in groups)]
        best = max(eligible, key=lambda candidate: weight(candidate, prior))
        return Choice(best, best.p_correct)
    leader = max(groups, key=lambda group: group.weight(select, prior))
    total = sum(group.weight(select, prior) for group in groups)
    return Choice(leader.best(prior), min(1.0, leader.weight(select, prior) / total) if total > 0 else None)
