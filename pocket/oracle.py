"""The exact judge of the domain. It labels training data and measures ceilings; it never runs at inference.

A line is right when it arrives at the quantity that the story has reached there, and the line after the last step when it
states the answer. Judging stops at the first error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pocket import wording
from pocket.problems import Step
from pocket.wording import Claim

NOTHING = Claim("nothing", "nothing")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The first wrong line (from 1), None for a right solution, and the critique that says so."""

    first_error: int | None
    critique: str


def expected(steps: Sequence[Step]) -> list[Claim]:
    """What the lines of a solution should say."""
    return [*(Claim(step.expression, str(step.value)) for step in steps), Claim("", str(steps[-1].value))]


def judge(steps: Sequence[Step], solution: str) -> Judgement:
    """Judge a solution; a missing line is an error, lines after the answer are not read."""
    found: list[str] = []
    for index, right, given in _pairs(steps, solution):
        if right.has != given.has:
            found += [wording.wrong_line(index, right, given), wording.verdict_line(index)]
            return Judgement(index, "\n".join(found))
        found.append(wording.right_line(index, right))
    return Judgement(None, "\n".join([*found, wording.verdict_line(None)]))


def review(steps: Sequence[Step], solution: str) -> str:
    """Judge every line by the right quantity, whatever the lines before it say (training only)."""
    return "\n".join(
        f"Step {index}: {right.derivation}, has {given.has}: {'correct' if right.has == given.has else 'incorrect'}."
        for index, right, given in _pairs(steps, solution)
    )


def _pairs(steps: Sequence[Step], solution: str) -> Iterator[tuple[int, Claim, Claim]]:
    given = [wording.claim(line) for line in solution.splitlines() if line.strip()]
    for index, right in enumerate(expected(steps)):
        yield index + 1, right, given[index] if index < len(given) else NOTHING
