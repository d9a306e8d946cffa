"""Problem sets: problems with their reference answers.

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

MISSING_EXTRA = "optional libraries are missing: pip install 'counterpoint[evaluation]'"


class BadProblemSet(Exception):
    """A problem set cannot be loaded; the message names the file and the line, or what is missing."""


@dataclass(frozen=True, slots=True)
class ProblemItem:
    """A problem with its reference answer.

    `level` is its difficulty, 0 if unknown. `source` is the problem of the pocket domain, None in other sets. `accepts` is
    the set's own test of an answer, if it has one.
    """

    id: str
    problem: str
    answer: str
    level: int = 0
    source: Problem | None = None
    accepts: Callable[[str], bool] | None = None

    @property
    def group(self) -> str:
        """The group of the problem in tables: the band of a pocket problem, else its level."""
        if self.source is None:
            return f"level {self.level}" if self.level else "all"
        return next(band for band, levels in BANDS.items() if self.level in levels)


def load(name: str, count: int, seed: int) -> list[ProblemItem]:
    """Load `count` problems of a set, or as many as it has. Raises `BadProblemSet`."""
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


def pocket(split: Split, count: int, seed: int) -> list[ProblemItem]:
    """Generate `count` distinct problems of the pocket domain."""
    distinct: dict[str, Problem] = {}
    for problem in problems(seed, split=split):
        distinct[problem.text] = problem
        if len(distinct) == count:
            break
    return [
        ProblemItem(f"{split}-{seed}-{place}", problem.text, str(problem.answer), problem.level, problem)
        for place, problem in enumerate(distinct.values())
    ]


def from_file(path: Path, count: int | None = None) -> list[ProblemItem]:
    """Read a file of JSON objects with `problem`, `answer` and optionally `level`, one per line. Raises `BadProblemSet`."""
    return list(islice(_lines(path), count))


def _lines(path: Path) -> Iterator[ProblemItem]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                yield ProblemItem(f"{path.stem}-{number}", row["problem"], str(row["answer"]), int(row.get("level", 0)))
            except (ValueError, KeyError, TypeError) as error:
                raise BadProblemSet(f"{path}, line {number}: {error!r}") from error


def _split(name: str) -> Split:
    if name not in SPLITS:
        raise BadProblemSet(f"pocket:{name}: the splits are {', '.join(SPLITS)}")
    return name


Entry = dict[str, Any]
"""A row of a data set of others, whose fields differ by set."""

_HUB: dict[str, tuple[tuple[str, ...], Callable[[Entry], tuple[str, str, int]]]] = {
    "gsm8k": (("openai/gsm8k", "main"), lambda row: (row["question"], row["answer"].rpartition("####")[2].strip(), 0)),
    "math": (("HuggingFaceH4/MATH-500",), lambda row: (row["problem"], row["answer"], int(row["level"]))),
}
"""The arguments that load a set from the hub, and the function that maps a row to problem, answer and level."""


def _hub(kind: str) -> Iterator[ProblemItem]:
    arguments, fields_of = _HUB[kind]
    datasets = _library("datasets", kind)
    try:
        rows = cast("Iterable[Entry]", datasets.load_dataset(*arguments, split="test"))
    except Exception as error:  # the hub's client raises exceptions of any kind without a network
        raise BadProblemSet(f"{kind} could not be fetched from the hub: {error}") from error
    for place, row in enumerate(rows):
        yield ProblemItem(f"{kind}-{place}", *fields_of(row))


def _gym(name: str, count: int, seed: int) -> list[ProblemItem]:
    """Generate problems with reasoning-gym, which scores answers itself: an answer is right at the full score."""
    gym = _library("reasoning_gym", f"gym:{name}")
    try:
        dataset = gym.create_dataset(name, size=count, seed=seed)
    except ValueError as error:
        raise BadProblemSet(f"gym:{name}: {error}") from error

    def accepts(entry: Entry) -> Callable[[str], bool]:
        return lambda answer: dataset.score_answer(answer=answer, entry=entry) >= 1.0

    return [
        ProblemItem(f"{name}-{seed}-{place}", entry["question"], str(entry["answer"]), accepts=accepts(entry))
        for place, entry in enumerate(dataset)
    ]


def _library(module: str, problem_set: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadProblemSet(f"{problem_set}: {MISSING_EXTRA}") from error
