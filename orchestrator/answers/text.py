"""What can be told of two answers without mathematics: by their text, as numbers, as letters of a choice.

A percent sign is a hundredth, commas between thousands and currency signs are dress. A unit that only one of two answers
has is ignored; `5 cm` and `5 m` are different. Whatever this cannot tell is `unknown`.
"""

import re
from fractions import Fraction
from typing import Literal

Equivalent = Literal["same", "different", "unknown"]

_WRAPPED = re.compile(r"\\(?:boxed|fbox|text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_DRESS = re.compile(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\[,;!:]|\\?\$|[€£]")
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_WORDS = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]+)*")
_DIGITS = r"[0-9]{1,30}"
_DECIMAL = rf"(?:[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,9}}|{_DIGITS})(?:\.[0-9]{{1,30}})?|\.[0-9]{{1,30}}"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:(?P<whole>{_DIGITS})??\\frac\{{(?P<above>-?{_DIGITS})\}}\{{(?P<below>-?{_DIGITS})\}}"
    rf"|(?:(?P<units>{_DIGITS}) )?(?P<over>{_DIGITS})/(?P<under>{_DIGITS})|(?P<decimal>{_DECIMAL}))"
    r"(?P<percent>\\?%)?(?P<unit> ?[A-Za-z]+(?:\^\{?[23]\}?)?|\^\{?\\circ\}?|°)?"
)
_CHOICE = re.compile(r"\(([A-Ja-j])\)|([A-J])\)?")

Quantity = tuple[Fraction, str]
"""A number and its unit, which may be empty."""


def normalise(answer: str) -> str:
    """The answer without boxes, dollar signs, sizing commands, text wrappers, loose spaces and a closing period."""
    text = answer.replace("\N{MINUS SIGN}", "-").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").strip()
    boxed = _BOXED.fullmatch(text.strip("$ "))
    text = boxed.group(1) if boxed else text
    text = _DRESS.sub("", _WRAPPED.sub(r" \1", text))
    text = " ".join(text.replace("\\ ", " ").replace("~", " ").split()).rstrip(".")
    text = _LOOSE_SPACE.sub("", text)
    return text.lower() if _WORDS.fullmatch(text) else text


def quantity(text: str) -> Quantity | None:
    """The exact number that a normalised answer is, and its unit: `1,234.5`, `3/4`, `1 3/4`, `50%`, `7 cm`; else None."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    above, below = found["above"] or found["over"], found["below"] or found["under"]
    if above is not None and int(below) == 0:
        return None
    whole = int(found["whole"] or found["units"] or 0)
    value = whole + Fraction(int(above), int(below)) if above is not None else Fraction(found["decimal"].replace(",", ""))
    scale = Fraction(-1 if found["sign"] == "-" else 1, 100 if found["percent"] else 1)
    return value * scale, (found["unit"] or "").strip()


def compare(a: str, b: str) -> Equivalent:
    """What can be told at once of two answers as somebody wrote them."""
    left, right = normalise(a), normalise(b)
    if left == right:
        return "same"
    one, other = _CHOICE.fullmatch(left), _CHOICE.fullmatch(right)
    if one and other:
        return "same" if _letter(one) == _letter(other) else "different"
    numbers = quantity(left), quantity(right)
    if numbers[0] is not None and numbers[1] is not None:
        return _compare_quantities(numbers[0], numbers[1])
    return "unknown"


def _letter(choice: re.Match[str]) -> str:
    return (choice[1] or choice[2]).upper()


def _compare_quantities(left: Quantity, right: Quantity) -> Equivalent:
    clash = left[1] and right[1] and left[1] != right[1]
    return "same" if left[0] == right[0] and not clash else "different"
