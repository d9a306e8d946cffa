"""Comparison of answers without symbolic mathematics: as text, as numbers, or as the letters of a multiple choice.

A percent sign means a hundredth; commas between thousands and currency signs are ignored. A unit that only one of two
answers has is ignored; `5 cm` and `5 m` are different. Everything else is `unknown`.
"""

import re
from fractions import Fraction
from typing import Literal

Comparison = Literal["same", "different", "unknown"]

_WRAPPED = re.compile(r"\\(?:boxed|fbox|text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_DECORATION = re.compile(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\[,;!:]|\\?\$|[€£]")
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_WORDS = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]+)*")
_DIGITS = r"[0-9]{1,30}"
_DECIMAL = rf"(?:[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,9}}|{_DIGITS})(?:\.[0-9]{{1,30}})?|\.[0-9]{{1,30}}"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:(?P<whole>{_DIGITS})??\\frac\{{(?P<numerator>-?{_DIGITS})\}}\{{(?P<denominator>-?{_DIGITS})\}}"
    rf"|(?:(?P<units>{_DIGITS}) )?(?P<over>{_DIGITS})/(?P<under>{_DIGITS})|(?P<decimal>{_DECIMAL}))"
    r"(?P<percent>\\?%)?(?P<unit> ?[A-Za-z]+(?:\^\{?[23]\}?)?|\^\{?\\circ\}?|°)?"
)
_CHOICE = re.compile(r"\(([A-Ja-j])\)|([A-J])\)?")

Quantity = tuple[Fraction, str]
"""A number and its unit, which may be empty."""


def normalise(answer: str) -> str:
    """Return an answer without boxes, dollar signs, sizing commands, text wrappers, loose spaces and a final period."""
    text = answer.replace("\N{MINUS SIGN}", "-").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").strip()
    boxed = _BOXED.fullmatch(text.strip("$ "))
    text = boxed.group(1) if boxed else text
    text = _DECORATION.sub("", _WRAPPED.sub(r" \1", text))
    text = " ".join(text.replace("\\ ", " ").replace("~", " ").split()).rstrip(".")
    text = _LOOSE_SPACE.sub("", text)
    return text.lower() if _WORDS.fullmatch(text) else text


def quantity(text: str) -> Quantity | None:
    """Parse a normalised answer as an exact number with a unit: `1,234.5`, `3/4`, `1 3/4`, `50%`, `7 cm`; else None."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    numerator, denominator = match["numerator"] or match["over"], match["denominator"] or match["under"]
    if numerator is None:
        value = Fraction(match["decimal"].replace(",", ""))
    elif int(denominator) == 0:
        return None
    else:
        value = int(match["whole"] or match["units"] or 0) + Fraction(int(numerator), int(denominator))
    scale = Fraction(-1 if match["sign"] == "-" else 1, 100 if match["percent"] else 1)
    return value * scale, (match["unit"] or "").strip()


def compare(a: str, b: str) -> Comparison:
    """Compare two answers as a model or a person wrote them."""
    left, right = normalise(a), normalise(b)
    if left == right:
        return "same"
    first, second = _CHOICE.fullmatch(left), _CHOICE.fullmatch(right)
    if first and second:
        return "same" if _letter(first) == _letter(second) else "different"
    numbers = quantity(left), quantity(right)
    if numbers[0] is not None and numbers[1] is not None:
        return _compare_quantities(numbers[0], numbers[1])
    return "unknown"


def _letter(choice: re.Match[str]) -> str:
    return (choice[1] or choice[2]).upper()


def _compare_quantities(left: Quantity, right: Quantity) -> Comparison:
    clash = left[1] and right[1] and left[1] != right[1]
    return "same" if left[0] == right[0] and not clash else "different"
