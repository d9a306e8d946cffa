"""The answer that a solution states."""

import re

_STATED = re.compile(r"the (?:final )?answer is:?\s*([^\n]+)", re.IGNORECASE)
_MARKED = re.compile(r"####\s*([^\n]+)")
_BOXED = "\\boxed"

MAX_ANSWER_CHARS = 512
"""Longer than any answer to a problem; what is longer states none."""


def answer_of(text: str) -> str | None:
    r"""The last `\\boxed{...}` with its braces balanced, else the last `The answer is ...`, else `#### ...`; else None."""
    found = _boxed(text)
    for pattern in (_STATED, _MARKED):
        if found is None:
            stated = pattern.findall(text)
            found = stated[-1] if stated else None
    if found is None:
        return None
    answer = found.strip().removesuffix(".").strip().strip("$*").strip()
    return answer if 0 < len(answer) <= MAX_ANSWER_CHARS else None


def _boxed(text: str) -> str | None:
    """The content of the last complete box."""
    for at in reversed([match.end() for match in re.finditer(re.escape(_BOXED) + r"\s*\{", text)]):
        depth = 1
        for place, character in enumerate(text[at:], start=at):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                return text[at:place]
    return None
