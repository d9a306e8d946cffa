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
    """A step's position in its solution, in characters; `end` is where the next one starts."""

    start: int
    end: int


def split(text: str) -> list[Span]:
    """Return the steps of `text`. Whatever follows the `MAX_STEPS`th is part of it."""
    starts: list[int] = []
    marked = False
    for match in _LINE.finditer(text):
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
    """Return the steps of a complete solution, numbered from 1."""
    return tuple(_step(text, index, span) for index, span in enumerate(split(text), start=1))


def prefix_of(text: str, keep_steps: int) -> str:
    """Return the exact beginning of `text` that holds its first `keep_steps` steps, up to where the next one starts."""
    spans = split(text)
    if keep_steps <= 0 or not spans:
        return ""
    return text if keep_steps >= len(spans) else text[: spans[keep_steps].start]


class StepWriter:
    """The steps of a solution while it is written, each returned once it cannot change. Only the last line is read twice."""

    def __init__(self) -> None:
        self.text = ""
        self._returned = 0
        self._line = 0
        self._open: int | None = None
        self._marked = False

    def feed(self, text: str) -> list[WrittenStep]:
        """Add more text; return the steps that it completed."""
        self.text += text
        done: list[WrittenStep] = []
        for match in _LINE.finditer(self.text, self._line):
            start, line = match.start(), match.group()
            marker = _MARKER.match(line) is not None
            opens = line.strip() and (marker or not self._marked or _ANSWER.match(line))
            if start == self._open:
                self._marked = marker
            elif opens and self._returned < MAX_STEPS - 1:
                done += [] if self._open is None else [self._next(Span(self._open, start))]
                self._open, self._marked = start, marker
            if line.endswith("\n"):
                self._line = match.end()
        return done

    def close(self) -> list[WrittenStep]:
        """End the text; return the last step, if there is one."""
        return [] if self._open is None else [self._next(Span(self._open, len(self.text)))]

    def _next(self, span: Span) -> WrittenStep:
        self._returned += 1
        return _step(self.text, self._returned, span)


def _step(text: str, index: int, span: Span) -> WrittenStep:
    return WrittenStep(index=index, text=text[span.start : span.end].strip())
