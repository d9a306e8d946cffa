"""Problem sets: what is asked, and what would be right.

`pocket[:SPLIT]`, `gsm8k`, `math` (500 problems, arXiv 2305.20050), `gym:NAME` (a generator of reasoning-gym),
or a JSONL file.
"""

import importlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from pocket.problems import BANDS, SPLITS, Problem, Split, problems

EXTRA = "it needs the optional libraries: pip install 'counterpoint[evaluation]'"


class BadProblemSet(Exception):
    """A problem set cannot be had; the message names the file and the line, or what is missing."""


@dataclass(frozen=True, slots=True)
class Item:
    """A problem with its right answer.

    `level` is how hard it is, 0 where that is unknown. `source` is the problem of the pocket domain. `accepts` is the set's
    own test of an answer, where it has one.
    """

    id: str
    problem: str
    answer: str
    level: int = 0
    source: Problem | None = None
    accepts: Callable[[str], bool] | None = None

    @property
    def group(self) -> str:
        """What tables group it under: the band of a pocket problem, else its level."""
        if self.source is None:
            return f"level {self.level}" if self.level else "all"
        return next(band for band, levels in BANDS.items() if self.level in levels)


def load(name: str, count: int, seed: int) -> list[Item]:
    """`count` problems of a set, or as many as it has. Raises `BadProblemSet`."""
    kind, _, part = name.partition(":")
    if kind == "pocket":
        return pocket(_split(part or "test"), count, seed)
    if kind == "gym":
        return _gym(part, count, seed)
    if kind in _HUB:
        return list(islice(_hub(kind), count))
    if not Path(name).is_file():
        raise BadProblemSet(f"{name} is neither a file nor one of pocket, gsm8k, math, gym:NAME")
    return from_file(Path(name), count)


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


def _split(name: str) -> Split:
    if name not in SPLITS:
        raise BadProblemSet(f"pocket:{name}: the splits are {', '.join(SPLITS)}")
    return name


Row = dict[str, Any]

_HUB: dict[str, tuple[tuple[str, ...], Callable[[Row], tuple[str, str, int]]]] = {
    "gsm8k": (("openai/gsm8k", "main"), lambda row: (row["question"], row["answer"].rpartition("####")[2].strip(), 0)),
    "math": (("HuggingFaceH4/MATH-500",), lambda row: (row["problem"], row["answer"], int(row["level"]))),
}
"""Where a set lies on the hub, and its rows as problem, answer and level."""


def _hub(kind: str) -> Iterator[Item]:
    where, read = _HUB[kind]
    datasets = _library("datasets", kind)
    try:
        rows = cast("Iterable[Row]", datasets.load_dataset(*where, split="test"))
    except Exception as error:  # the hub's client raises anything at all where there is no network
        raise BadProblemSet(f"{kind} could not be fetched from the hub: {error}") from error
    for place, row in enumerate(rows):
        yield Item(f"{kind}-{place}", *read(row))


def _gym(name: str, count: int, seed: int) -> list[Item]:
    """Problems of a reasoning-gym generator, with its own scoring: an answer is right at the full score."""
    gym = _library("reasoning_gym", f"gym:{name}")
    try:
        made = gym.create_dataset(name, size=count, seed=seed)
    except ValueError as error:
        raise BadProblemSet(f"gym:{name}: {error}") from error

    def accepts(entry: Row) -> Callable[[str], bool]:
        return lambda answer: made.score_answer(answer=answer, entry=entry) >= 1.0

    return [
        Item(f"{name}-{seed}-{place}", entry["question"], str(entry["answer"]), accepts=accepts(entry))
        for place, entry in enumerate(made)
    ]


def _library(module: str, problem_set: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadProblemSet(f"{problem_set}: {EXTRA}") from error
