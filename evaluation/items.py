"""Problem sets: what is asked, and what would be right."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pocket.problems import Problem, Split, problems


class BadProblemSet(Exception):
    """A problem set cannot be read; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Item:
    """A problem with its right answer. `level` groups problems in tables; `source` is the problem of the pocket domain."""

    id: str
    problem: str
    answer: str
    level: int = 0
    source: Problem | None = None


def pocket(split: Split, count: int, seed: int) -> list[Item]:
    """`count` different problems of the pocket domain."""
    found: dict[str, Problem] = {}
    for problem in problems(seed, split=split):
        found[problem.text] = problem
        if len(found) == count:
            break
    return [
        Item(f"{split}-{seed}-{place}", problem.text, str(problem.answer), problem.level, problem)
        for place, problem in enumerate(found.values())
    ]


def from_file(path: Path, count: int | None = None) -> list[Item]:
    """One JSON object a line with `problem` and `answer`, and `level` if it has one. Raises `BadProblemSet`."""
    return list(islice(_lines(path), count))


def _lines(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                found = json.loads(line)
                yield Item(f"{path.stem}-{number}", found["problem"], str(found["answer"]), int(found.get("level", 0)))
            except (ValueError, KeyError, TypeError) as error:
                raise BadProblemSet(f"{path}, line {number}: {error!r}") from error
