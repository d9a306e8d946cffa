"""Scripts for the scripted engine: plausible solutions, plausible critiques, and garbage.

A solution computes its problem's arithmetic, one `a + b = c` per step, and a seeded share of solutions has one wrong step.
A critique checks that arithmetic and errs in a seeded share of its judgements, so that strategies can make a difference.
"""

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add, mul, sub
from typing import Any

from services.engines.protocol import Generation, Guide, Prompt

Script = Callable[[Generation, random.Random], str]
"""A function that returns the text of a sample, given its own seeded source of randomness. It may raise `EngineFailed`."""

RIGHT = ("correct", "right", "yes", "true")
WRONG = ("incorrect", "wrong", "no", "false")

OPERATIONS: dict[str, Callable[[int, int], int]] = {"*": mul, "+": add, "-": sub}

REPAIR_FACTOR = 0.3
"""Factor on the error rate when the prompt contains an earlier solution or the beginning of one."""

_NUMBER = re.compile(r"\d{1,6}")
_EXPRESSION = re.compile(r"\d{1,6}(?:\s*[-+*]\s*\d{1,6})+")
_EQUATION = re.compile(r"(-?\d+) ([-+*]) (-?\d+) = (-?\d+)")
_SOLUTION_BLOCK = re.compile(r"<solution[^>]*>\n?(.*?)</solution", re.DOTALL)
_STEP = re.compile(r"^[^\n]*(?:\bStep \d+:|The answer is)[^\n]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plausible:
    """A script that writes what the guide or prompt requires: a choice, a document for a schema, a critique or a solution.

    `error_rate` is the share of wrong first attempts, `misjudge_rate` the share of wrong judgements.
    """

    error_rate: float = 0.3
    misjudge_rate: float = 0.1

    def __call__(self, generation: Generation, source: random.Random) -> str:
        """Return the text of one sample."""
        prompt, guide = generation.prompt, generation.guide
        if guide is not None:
            return self._guided(guide, self._labels(prompt, source), source)
        if "Correctness of the step" in prompt.messages[-1].content:
            return _critique(_steps(prompt), self._labels(prompt, source))
        return self._solution(prompt, source)

    def _guided(self, guide: Guide, labels: list[bool], source: random.Random) -> str:
        if guide.kind == "choice":
            return _choice(guide.value, source, right=all(labels))
        if guide.kind == "json" and isinstance(guide.value, str):
            return json.dumps(_document(json.loads(guide.value), labels, None, source))
        return source.choice(("0", "1", "42"))

    def _labels(self, prompt: Prompt, source: random.Random) -> list[bool]:
        """Judge each step, with seeded misjudgements; a step after a wrong one is wrong too."""
        labels: list[bool] = []
        for step in _steps(prompt):
            right = _holds(step) and all(labels)
            labels.append(right != (source.random() < self.misjudge_rate))
        return labels

    def _solution(self, prompt: Prompt, source: random.Random) -> str:
        kept = sum(1 for line in prompt.prefix.splitlines() if line.strip())
        repairs = bool(kept) or any(message.role == "assistant" for message in prompt.messages)
        error_rate = self.error_rate * (REPAIR_FACTOR if repairs else 1.0)
        terms, operations = _problem(prompt)
        erring = source.randrange(len(operations)) if source.random() < error_rate else None
        results, answer = _computed(terms, operations, erring if erring is None or erring >= kept else None, source)
        lines = [*(f"Step {k}: {line}" for k, line in enumerate(results, 1)), f"The answer is \\boxed{{{answer}}}."]
        return "\n".join(lines[kept:] or lines[-1:])


plausible: Script = Plausible()


def fixed(text: str) -> Script:
    """Return a script that always gives `text`."""
    return lambda _generation, _source: text


def garbage(source: random.Random) -> str:
    """Return useless output: empty, noise, or far too long."""
    return source.choice(["", "%$ ~~ \u2603 } {", "{" * 40, "label " * 400])


def alternatives(token: str, certainty: float, most: int) -> tuple[tuple[str, float], ...]:
    """Return up to `most` alternatives to a token: itself and, for a label, its opposites, which share the other mass."""
    word = token.lower()
    opposite = WRONG if word in RIGHT else RIGHT if word in WRONG else ()
    other = math.log((1 - certainty) / max(1, len(opposite)))
    cased = (name.capitalize() if token[:1].isupper() else name for name in opposite)
    return ((token, math.log(certainty)), *((name, other) for name in cased))[:most]


def _problem(prompt: Prompt) -> tuple[list[int], list[str]]:
    """Return the numbers and operations in the first user message: its expression, or else the sum of its first numbers."""
    content = next((m.content for m in prompt.messages if m.role == "user"), "")
    problem = content.rpartition("\n\n")[0] or content
    expression = _EXPRESSION.search(problem)
    if expression:
        terms = [int(number) for number in _NUMBER.findall(expression.group())]
        return terms, re.findall(r"[-+*]", expression.group())
    terms = [int(number) for number in _NUMBER.findall(problem)[:4]]
    terms = terms if len(terms) > 1 else [*terms, len(problem) % 10]
    terms = terms if len(terms) > 1 else [*terms, 1]
    return terms, ["+"] * (len(terms) - 1)


def _computed(
    terms: Sequence[int], operations: Sequence[str], erring: int | None, source: random.Random
) -> tuple[list[str], int]:
    """Return an equation for each operation, products first, with an error in the one at `erring`, and the result."""
    left, pending, lines = list(terms), list(operations), list[str]()
    while pending:
        at = pending.index("*") if "*" in pending else 0
        result = OPERATIONS[pending[at]](left[at], left[at + 1])
        if len(lines) == erring:
            result += source.randrange(1, 10)
        lines.append(f"{left[at]} {pending[at]} {left[at + 1]} = {result}")
        left[at : at + 2] = [result]
        del pending[at]
    return lines, left[0]


def _steps(prompt: Prompt) -> list[str]:
    """Return the steps in a critic's prompt: the lines of its solution block, else the lines that look like steps."""
    content = prompt.messages[-1].content
    block = _SOLUTION_BLOCK.search(content)
    if block:
        return [line.strip() for line in block.group(1).splitlines() if line.strip()]
    return [match.group().strip() for match in _STEP.finditer(content)] or ["Step 1"]


def _holds(step: str) -> bool:
    """Return whether every equation in a step is true."""
    return all(OPERATIONS[sign](int(a), int(b)) == int(c) for a, sign, b, c in _EQUATION.findall(step))


def _critique(steps: Sequence[str], labels: Sequence[bool]) -> str:
    """Write a critique in the published format (arXiv 2411.16579)."""
    blocks = [
        f"Step sentence: {step}\nCorrectness of the step: {'Correct' if right else 'Wrong'}\n"
        f"Explanation: {'This follows.' if right else 'The result is off.'}\n"
        for step, right in zip(steps, labels, strict=True)
    ]
    final = "Correct" if all(labels) else "Wrong"
    return "\n".join([*blocks, f"Correctness of the final answer: {final}\nExplanation: Checked.\n"])


def _choice(values: Sequence[object], source: random.Random, *, right: bool) -> str:
    """Return a value that expresses the judgement, or any value if none does."""
    words = RIGHT if right else WRONG
    fitting = [value for value in values if str(value).strip(' ".').lower() in words]
    return str(source.choice(fitting or list(values)))


def _document(schema: dict[str, Any], labels: Sequence[bool], step: int | None, source: random.Random) -> Any:  # noqa: ANN401 - any JSON
    """Return a document that a JSON schema allows; an enum at a step's number or position follows the step's label."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        right = labels[step] if step is not None and step < len(labels) else all(labels)
        return _choice(schema["enum"], source, right=right)
    kind = schema.get("type")
    if kind == "object":
        inner: dict[str, Any] = schema.get("properties", {})
        return {name: _document(part, labels, _place(name, step), source) for name, part in inner.items()}
    if kind == "array":
        count = min(max(len(labels), schema.get("minItems", 0)), schema.get("maxItems", len(labels)))
        return [_document(schema["items"], labels, place, source) for place in range(count)]
    simple: dict[str, Any] = {"integer": 1, "number": 0.5, "boolean": True, "null": None}
    return simple[kind] if kind in simple else "This does not follow from the step before."[: schema.get("maxLength")]


def _place(name: str, step: int | None) -> int | None:
    """Return the step (0-based) that a property belongs to."""
    return int(name) - 1 if name.isdecimal() else step
