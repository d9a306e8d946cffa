"""The oracle: the exact judge of the domain. It labels training data and measures upper bounds; it never runs at inference.

A step is right if its value is the quantity that the story has reached at that point. The line after the last step is right
if it states the answer. Judging stops at the first error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pocket import wording
from pocket.problems import Step
from pocket.wording import Claim

NOTHING = Claim("nothing", "nothing")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The 1-based index of the first wrong line, None for a right solution, and the corresponding critique."""

    first_error: int | None
    critique: str


def judge(steps: Sequence[Step], solution: str) -> Judgement:
    """Judge a solution. A missing line is an error; lines after the answer are ignored."""
    lines: list[str] = []
    for index, right, given in _pairs(steps, solution):
        if right.has != given.has:
            lines += [wording.wrong_line(index, right, given), wording.verdict_line(index)]
            return Judgement(index, "\n".join(lines))
        lines.append(wording.right_line(index, right))
    return Judgement(None, "\n".join([*lines, wording.verdict_line(None)]))


def review(steps: Sequence[Step], solution: str) -> str:
    """Judge every line by the right quantity, regardless of the lines before it (training only)."""
    return "\n".join(
        f"Step {index}: {right.derivation}, has {given.has}: {'correct' if right.has == given.has else 'incorrect'}."
        for index, right, given in _pairs(steps, solution)
    )


def _pairs(steps: Sequence[Step], solution: str) -> Iterator[tuple[int, Claim, Claim]]:
    """Yield the index of each line of the right solution, from 1, with its claim and the claim of the given solution."""
    claims = [*(Claim(step.expression, str(step.value)) for step in steps), Claim("", str(steps[-1].value))]
    given = [wording.claim(line) for line in solution.splitlines() if line.strip()]
    for index, right in enumerate(claims):
        yield index + 1, right, given[index] if index < len(given) else NOTHING
