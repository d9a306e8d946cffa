"""Text formats of solutions, prompts and critiques, shared by training and the services.

A prompt is a chain of turns, each opened by its own token: problem, solution, critique, refine. The model ends its turn with
`END`. Every prompt begins with the previous one, which allows prefix caching. For a rewind, the refine prompt is followed by
the kept lines, each with its line break.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pocket.problems import Step

OPENINGS = ("<problem>", "<solution>", "<critique>", "<refine>")
"""Opening tokens of the turns, in order. The model writes the last turn of a prompt."""
END = "<end>"
DRILL, REVIEW = "<drill>", "<review>"
"""Opening tokens for training only: plain arithmetic, and a critique that continues after errors."""
SPECIALS = (END, *OPENINGS, DRILL, REVIEW)

CHAT_TEMPLATE = (
    f"{{% set openings = {list(OPENINGS)!r} %}}"
    "{% for message in messages %}{{ openings[loop.index0] + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ openings[messages | length] }}{% endif %}"
)
"""The same chain as a chat template. The position of a message, not its role, decides its turn."""


def prompt(*turns: str) -> str:
    """Return the prompt with these turns: a problem to draft, plus a solution to critique, plus a critique to refine."""
    return "".join(f"{opening}{turn}" for opening, turn in zip(OPENINGS, (*turns, ""), strict=False))


def step_line(index: int, expression: str, value: object) -> str:
    """Return a step of a solution, as `Step 1: 12 + 7 = 19`."""
    return f"Step {index}: {expression} = {value}"


def answer_line(answer: object) -> str:
    r"""Return the last line of a solution, as `The answer is \boxed{19}.`."""
    return f"The answer is \\boxed{{{answer}}}."


def solution(steps: Sequence[Step]) -> str:
    """Return the right solution."""
    lines = [step_line(index, step.expression, step.value) for index, step in enumerate(steps, start=1)]
    return "\n".join([*lines, answer_line(steps[-1].value)])


def unfinished(lines: Sequence[str]) -> str:
    """Return the beginning of a solution. The trailing line break marks it as unfinished."""
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of one solution line: an expression and its value, or, without an expression, the answer."""

    expression: str
    value: str

    @property
    def derivation(self) -> str:
        """The claim as a derivation, such as `19 - 5 = 14`."""
        return f"{self.expression} = {self.value}" if self.expression else self.has

    @property
    def has(self) -> str:
        """The value, or `answer` and the value."""
        return self.value if self.expression else f"answer {self.value}"


def claim(line: str) -> Claim:
    """Parse a line of a solution. A line of another form is an expression without a value."""
    before, boxed, answer = line.partition("\\boxed{")
    if boxed:
        return Claim("", answer.partition("}")[0])
    text = line.strip()
    if text.startswith("Step "):
        text = text.partition(": ")[2]
    expression, equals, value = text.rpartition(" = ")
    return Claim(expression, value) if equals else Claim(text or before, "nothing")


def right_line(index: int, given: Claim) -> str:
    """Return a critique's line on a right step, as `Step 2: 19 - 5 = 14, has 14: correct.`."""
    return f"Step {index}: {given.derivation}, has {given.has}: correct."


def wrong_line(index: int, right: Claim, given: Claim) -> str:
    """Return a critique's line on a wrong step, as `Step 2: 19 - 5 = 14, has 13: incorrect: 19 - 5 is 14, not 13.`."""
    subject = right.expression or "the answer"
    return f"Step {index}: {right.derivation}, has {given.has}: incorrect: {subject} is {right.value}, not {given.has}."


def verdict_line(first_error: int | None) -> str:
    """Return a critique's last line."""
    return "Verdict: correct." if first_error is None else f"Verdict: incorrect. First error: step {first_error}."


def all_correct(lines: Sequence[str]) -> str:
    """Return the critique that finds every line right. Its likelihood measures the critic's confidence in the solution."""
    critique = [right_line(index, claim(line)) for index, line in enumerate(lines, start=1)]
    return "\n".join([*critique, verdict_line(None)])
