"""Whether two answers are the same: fast paths here, mathematics in a worker process that can be killed."""

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Literal

import anyio
from anyio import to_process

from orchestrator.answers.worker import verify

Equivalent = Literal["same", "different", "unknown"]

WORKER_SECONDS = 2.0
MAX_CHARS = 256
"""Longer answers are compared as text only."""
MOST_COMPARISONS = 4
"""Answers that are no numbers are compared by the worker with this many representatives at most."""

_DRESS = re.compile(r"\\(?:left|right|,|;|!|\s)|\\text\{\s*([^}]*)\}|[$\s]")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?\d{1,30})\}\{(-?\d{1,30})\}")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,30})?(?:\.\d{1,30})?")
_CHOICE = re.compile(r"\(?([A-Za-z])\)?\.?")


def normalise(answer: str) -> str:
    """The answer without dollar signs, white space, sizing commands and a closing period."""
    return _DRESS.sub(lambda match: match.group(1) or "", answer).rstrip(".").strip()


def number(answer: str) -> Fraction | None:
    r"""The number that an answer is: a decimal with thousands commas, `a/b`, `\frac{a}{b}`, with `%` a hundredth."""
    text = normalise(answer).removesuffix("\\%").removesuffix("%")
    scale = 100 if text != normalise(answer) else 1
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        sign, above, below = fraction.groups()
        return None if int(below) == 0 else Fraction(int(f"{sign}1") * int(above), int(below)) / scale
    if re.fullmatch(r"[-+]?\d{1,30}/\d{1,30}", text) and int(text.split("/")[1]) != 0:
        return Fraction(text) / scale
    if text and _NUMBER.fullmatch(text):
        try:
            return Fraction(Decimal(text.replace(",", ""))) / scale
        except InvalidOperation:
            return None
    return None


def compare(a: str, b: str) -> Equivalent:
    """What can be told without mathematics."""
    if normalise(a) == normalise(b):
        return "same"
    left, right = number(a), number(b)
    if left is not None and right is not None:
        return "same" if left == right else "different"
    one, other = _CHOICE.fullmatch(a.strip()), _CHOICE.fullmatch(b.strip())
    if one and other:
        return "same" if one.group(1).upper() == other.group(1).upper() else "different"
    return "unknown"


class Answers:
    """Equivalence of answers. A comparison that takes too long is `unknown`, and its worker is killed."""

    def __init__(self) -> None:
        """One worker process, started when it is first needed."""
        self._workers = anyio.CapacityLimiter(1)

    async def equivalent(self, a: str, b: str) -> Equivalent:
        """Whether `a` and `b` are the same answer."""
        found = compare(a, b)
        if found != "unknown" or max(len(a), len(b)) > MAX_CHARS:
            return found
        with anyio.move_on_after(WORKER_SECONDS):
            same = await to_process.run_sync(verify, a, b, cancellable=True, limiter=self._workers)
            return "same" if same else "different"
        return "unknown"

    async def group_of(self, answer: str, representatives: list[str]) -> int | None:
        """Index of the first representative that is the same answer; None if there is none."""
        found = [compare(answer, other) for other in representatives]
        if "same" in found:
            return found.index("same")
        unknown = [index for index, verdict in enumerate(found) if verdict == "unknown"]
        for index in unknown[:MOST_COMPARISONS]:
            if await self.equivalent(answer, representatives[index]) == "same":
                return index
        return None
