"""The text formats that training and the services share: solutions, prompts, critiques.

A prompt is a chain of turns, each opened by a token of its own: problem, solution, critique, refine. Whoever writes a turn
ends it with `END`. So every prompt begins with the one before it, and prefix caches hit. A solution that is rewound is the
refine prompt followed by the lines that are kept, each with its line break.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pocket.problems import Step

OPENINGS = ("<problem>", "<solution>", "<critique>", "<refine>")
"""Openings of the turns, in their order. The last turn of a prompt is opened and left to the model."""
END = "<end>"
DRILL, REVIEW = "<drill>", "<review>"
"""Training only: plain arithmetic, and a critique that goes on after errors."""
SPECIALS = (END, *OPENINGS, DRILL, REVIEW)

CHAT_TEMPLATE = (
    f"{{% set openings = {list(OPENINGS)!r} %}}"
    "{% for message in messages %}{{ openings[loop.index0] + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ openings[messages | length] }}{% endif %}"
)
"""The same chain for an engine that applies a template: the place of a message, not its role, says what it is."""


def prompt(*turns: str) -> str:
    """The prompt with these turns: a problem to draft, with a solution to critique, with both and a critique to refine."""
    opened = zip(OPENINGS, (*turns, ""), strict=False)
    return "".join(f"{opening}{turn}" for opening, turn in opened)


def step_line(index: int, expression: str, value: object) -> str:
    """A step of a solution, as `Step 1: 12 + 7 = 19`."""
    return f"Step {index}: {expression} = {value}"


def answer_line(answer: object) -> str:
    r"""The last line of a solution, as `The answer is \boxed{19}.`."""
    return f"The answer is \\boxed{{{answer}}}."


def solution(steps: Sequence[Step]) -> str:
    """The right solution."""
    lines = [step_line(index, step.expression, step.value) for index, step in enumerate(steps, start=1)]
    return "\n".join([*lines, answer_line(steps[-1].value)])


def unfinished(lines: Sequence[str]) -> str:
    """The beginning of a solution: its open last line says that more will come."""
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a line of a solution says: an expression and its value, or, without an expression, the answer."""

    expression: str
    value: str

    @property
    def derivation(self) -> str:
        """The claim as a derivation."""
        return f"{self.expression} = {self.value}" if self.expression else self.has

    @property
    def has(self) -> str:
        """The claim in short."""
        return self.value if self.expression else f"answer {self.value}"


def claim(line: str) -> Claim:
    """What a line of a solution says; a line of another form is an expression without a value."""
    before, boxed, answer = line.partition("\\boxed{")
    if boxed:
        return Claim("", answer.partition("}")[0])
    text = line.strip()
    if text.startswith("Step "):
        text = text.partition(": ")[2]
    expression, equals, value = text.rpartition(" = ")
    return Claim(expression, value) if equals else Claim(text or before, "nothing")


def right_line(index: int, given: Claim) -> str:
    """A critique's line on a right step, as `Step 2: 19 - 5 = 14, has 14: correct.`."""
    return f"Step {index}: {given.derivation}, has {given.has}: correct."


def wrong_line(index: int, right: Claim, given: Claim) -> str:
    """A critique's line on a wrong step: `Step 2: 19 - 5 = 14, has 13: incorrect: 19 - 5 is 14, not 13.`."""
    subject = right.expression or "the answer"
    return f"Step {index}: {right.derivation}, has {given.has}: incorrect: {subject} is {right.value}, not {given.has}."


def verdict_line(first_error: int | None) -> str:
    """A critique's last line."""
    return "Verdict: correct." if first_error is None else f"Verdict: incorrect. First error: step {first_error}."


def all_correct(lines: Sequence[str]) -> str:
    """The critique that finds every one of a solution's lines right. Its likelihood is the critic's trust in them."""
    found = [right_line(index, claim(line)) for index, line in enumerate(lines, start=1)]
    return "\n".join([*found, verdict_line(None)])
