"""Splitting a solution into steps, while it is written and afterwards, with the same result.

A line that begins with `Step 3` (or `**Step 3`) opens a step, which goes on until the next such line. Without such a line
every line that is not blank is a step, as in the published data (arXiv 2411.16579). The line that states the answer is
a step of its own.
"""

import re
from dataclasses import dataclass

from services.contracts.calls import MAX_STEPS, WrittenStep

_MARKER = re.compile(r"[^\w\n]*step\s*\d+", re.IGNORECASE)
_ANSWER = re.compile(r"[^\w\n]*(?:(?:so |thus |therefore,? )?the (?:final )?answer is|final answer|####)", re.IGNORECASE)
_LINE = re.compile(r"[^\n]*\n?")


@dataclass(frozen=True, slots=True)
class Span:
    """A step's place in its solution, in characters; `end` is where the next one starts."""

    start: int
    end: int


def split(text: str, start: int = 0) -> list[Span]:
    """The steps of `text` from `start`, where a step must begin. What comes after the `MAX_STEPS`th is part of it."""
    starts: list[int] = []
    marked = False
    for match in _LINE.finditer(text, start):
        line = match.group()
        if not line.strip():
            continue
        marker = _MARKER.match(line) is not None
        if marker or not marked or not starts or _ANSWER.match(line):
            starts.append(match.start())
            marked = marker
    starts = starts[:MAX_STEPS]
    return [Span(here, after) for here, after in zip(starts, [*starts[1:], len(text)], strict=False)]


def steps_of(text: str) -> tuple[WrittenStep, ...]:
    """The steps of a complete solution, numbered from 1."""
    return tuple(_step(text, index, span) for index, span in enumerate(split(text), start=1))


def prefix_of(text: str, keep_steps: int) -> str:
    """The exact beginning of `text` that holds its first `keep_steps` steps, up to where the next one starts."""
    spans = split(text)
    if keep_steps <= 0 or not spans:
        return ""
    return text if keep_steps >= len(spans) else text[: spans[keep_steps].start]


class StepWriter:
    """Follows a solution as it is written and tells each step as soon as it cannot change."""

    def __init__(self) -> None:
        self.text = ""
        self._told = 0
        self._open = 0

    def feed(self, text: str) -> list[WrittenStep]:
        """Take more text; the steps that it completed."""
        self.text += text
        spans = split(self.text, self._open)
        done = [self._next(span) for span in spans[:-1]] if self._told + len(spans) <= MAX_STEPS else []
        if done:
            self._open = spans[-1].start
        return done

    def close(self) -> list[WrittenStep]:
        """The text is complete; the steps not yet told."""
        spans = split(self.text, self._open)[: MAX_STEPS - self._told]
        if spans:
            spans[-1] = Span(spans[-1].start, len(self.text))
        return [self._next(span) for span in spans]

    def _next(self, span: Span) -> WrittenStep:
        self._told += 1
        return _step(self.text, self._told, span)


def _step(text: str, index: int, span: Span) -> WrittenStep:
    return WrittenStep(index=index, text=text[span.start : span.end].strip())
