"""Splitting of solutions into steps, incrementally or all at once, with the same result.

A line that begins with `Step 3` (or `**Step 3`) starts a step, which continues until the next such line. Without such
lines, every non-blank line is a step, as in the published data (arXiv 2411.16579). The line that states the answer always
starts a new step.
"""

import re

from services.contracts.calls import MAX_STEPS, WrittenStep

_MARKER = re.compile(r"[^\w\n]*step\s*\d+", re.IGNORECASE)
_ANSWER = re.compile(r"[^\w\n]*(?:(?:so |thus |therefore,? )?the (?:final )?answer is|final answer|####)", re.IGNORECASE)
_LINE = re.compile(r"[^\n]*\n?")


class StepWriter:
    """An incremental splitter that returns each step as soon as it is complete. Only an unfinished line is parsed again.

    `starts` lists the positions of the steps in the text. The `MAX_STEPS`th step extends to the end of the text.
    """

    def __init__(self) -> None:
        self.text = ""
        self.starts: list[int] = []
        self._returned = 0
        self._line = 0
        self._marked = False

    def feed(self, text: str) -> list[WrittenStep]:
        """Add text, and return the steps that it completes."""
        self.text += text
        for match in _LINE.finditer(self.text, self._line):
            start, line = match.start(), match.group()
            marker = _MARKER.match(line) is not None
            opens = line.strip() and (marker or not self._marked or _ANSWER.match(line))
            if self.starts and start == self.starts[-1]:
                self._marked = marker
            elif opens and len(self.starts) < MAX_STEPS:
                self.starts.append(start)
                self._marked = marker
            if line.endswith("\n"):
                self._line = match.end()
        return self._complete(self.starts[1:])

    def close(self) -> list[WrittenStep]:
        """End the text, and return the last step, if there is one."""
        return self._complete([*self.starts[1:], len(self.text)])

    def _complete(self, ends: list[int]) -> list[WrittenStep]:
        """Return the steps with a known end that have not been returned before."""
        done = [
            WrittenStep(index=index, text=self.text[start:end].strip())
            for index, (start, end) in enumerate(zip(self.starts, ends, strict=False), start=1)
            if index > self._returned
        ]
        self._returned += len(done)
        return done


def steps_of(text: str) -> tuple[WrittenStep, ...]:
    """Return the steps of a complete solution, numbered from 1."""
    writer = StepWriter()
    return (*writer.feed(text), *writer.close())


def prefix_of(text: str, keep_steps: int) -> str:
    """Return the exact prefix of `text` with its first `keep_steps` steps, up to the start of the next one."""
    writer = StepWriter()
    writer.feed(text)
    if keep_steps <= 0 or not writer.starts:
        return ""
    return text if keep_steps >= len(writer.starts) else text[: writer.starts[keep_steps]]
