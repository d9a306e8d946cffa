"""The answer that a solution states."""

import re

_STATED = re.compile(r"the (?:final )?answer is:?\s*([^\n]+)", re.IGNORECASE)
_MARKED = re.compile(r"####\s*([^\n]+)")
_BOXED = "\\boxed"

MAX_ANSWER_CHARS = 512
"""Maximum length of an answer; a longer statement is not treated as one."""


def answer_of(text: str) -> str | None:
    r"""Return the last balanced `\\boxed{...}`, else the last `The answer is ...`, else the last `#### ...`, else None."""
    statement = _boxed(text)
    for pattern in (_STATED, _MARKED):
        if statement is None:
            matches = pattern.findall(text)
            statement = matches[-1] if matches else None
    if statement is None:
        return None
    answer = statement.strip().removesuffix(".").strip().strip("$*").strip()
    return answer if 0 < len(answer) <= MAX_ANSWER_CHARS else None


def _boxed(text: str) -> str | None:
    """Return the content of the last complete box, or None."""
    for at in reversed([match.end() for match in re.finditer(re.escape(_BOXED) + r"\s*\{", text)]):
        depth = 1
        for place, character in enumerate(text[at:], start=at):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                return text[at:place]
    return None
