"""Constructed mistakes: right solutions with an error in one place, carried forward."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from pocket import wording
from pocket.oracle import judge
from pocket.problems import SYMBOLS, Problem, Step

Line = tuple[Step, int]
"""A written step and its stated value."""


def right(steps: Sequence[Step]) -> list[Line]:
    """Return the lines of the right solution."""
    return [(step, step.value) for step in steps]


def written(lines: Sequence[Line], answer: int | None = None) -> str:
    """Return the text of a solution with these lines. It states the last value unless `answer` is given."""
    steps = [wording.step_line(index, step.expression, value) for index, (step, value) in enumerate(lines, start=1)]
    return "\n".join([*steps, wording.answer_line(lines[-1][1] if answer is None else answer)])


def slip(random: Random, value: int) -> int:
    """Return another number, as from an arithmetic or reading error."""
    digits = str(value)
    place = random.randrange(len(digits))
    unit = 10 ** (len(digits) - 1 - place)
    swapped = int(digits[:place] + digits[place : place + 2][::-1] + digits[place + 2 :])
    candidate = random.choice((value - unit, value + unit, value - 1, value + 1, value + 10, value - 10, value - 2, swapped))
    return candidate if candidate > 0 and candidate != value else value + random.choice((1, 2, 3, 10))


def carried(lines: Sequence[Line], before: int, after: int) -> list[Line]:
    """Carry a wrong value forward: the first step that used `before` uses `after`, and so on down the chain."""
    carried_lines: list[Line] = []
    for step, _ in lines:
        moved = Step(after, step.symbol, step.right) if step.left == before else step
        if step.left != before and step.right == before and step.symbol in "+-":
            moved = Step(step.left, step.symbol, after)
        value = max(moved.value, 0)
        if moved != step:
            before, after = step.value, value
        carried_lines.append((moved, value))
    return carried_lines


def _replaced(lines: Sequence[Line], at: int, line: Line) -> list[Line]:
    return [*lines[:at], line, *carried(lines[at + 1 :], lines[at][1], line[1])]


def _result(random: Random, _: Problem, lines: Sequence[Line]) -> str:
    at = random.randrange(len(lines))
    step, value = lines[at]
    return written(_replaced(lines, at, (step, slip(random, value))))


def _operand(random: Random, problem: Problem, lines: Sequence[Line], *, distracted: bool = False) -> str:
    operand = problem.distractor if distracted else None
    at = random.randrange(len(lines))
    step = lines[at][0]
    others = [other.right for other, _ in lines if other.right != step.right]
    wrong = random.choice([operand or slip(random, step.right), *others])
    changed = Step(step.left, step.symbol, wrong)
    return written(_replaced(lines, at, (changed, max(changed.value, 0))))


def _operation(random: Random, _: Problem, lines: Sequence[Line]) -> str:
    at = random.randrange(len(lines))
    step = lines[at][0]
    changed = Step(step.left, random.choice([symbol for symbol in SYMBOLS if symbol != step.symbol]), step.right)
    return written(_replaced(lines, at, (changed, max(changed.value, 0))))


def _dropped(random: Random, _: Problem, lines: Sequence[Line]) -> str:
    at = random.randrange(len(lines))
    return written([*lines[:at], *carried(lines[at + 1 :], lines[at][1], lines[at][0].left)] or lines[:1], None)


def _duplicate(random: Random, _: Problem, lines: Sequence[Line]) -> str:
    at = random.randrange(len(lines))
    step, value = lines[at]
    again = Step(value, step.symbol, step.right)
    after = max(again.value, 0)
    return written([*lines[: at + 1], (again, after), *carried(lines[at + 1 :], value, after)])


def _answer(random: Random, _: Problem, lines: Sequence[Line]) -> str:
    values = [value for _, value in lines[:-1]]
    return written(lines, random.choice([slip(random, lines[-1][1]), *values[-1:]]))


_distractor = partial(_operand, distracted=True)
_MISTAKES: Sequence[Callable[[Random, Problem, Sequence[Line]], str]] = (
    _result, _result, _result, _operand, _operand, _distractor, _operation, _dropped, _duplicate, _answer,
)  # fmt: skip


def mistaken(random: Random, problem: Problem) -> str:
    """Return a solution with a constructed mistake. One that the oracle finds right by chance is drawn again."""
    while True:
        solution = random.choice(_MISTAKES)(random, problem, right(problem.steps))
        if judge(problem.steps, solution).first_error is not None:
            return solution


def scrambled(random: Random, problem: Problem, share: float = 0.5) -> str:
    """Return the right solution with errors in a share of its values, not carried forward (training only)."""
    lines = [(step, slip(random, value) if random.random() < share else value) for step, value in right(problem.steps)]
    answer = problem.answer if random.random() < share else slip(random, problem.answer)
    return written(lines, answer)
