"""Problem sets: problems with their reference answers, and the grading of answers.

`pocket[:SPLIT]`, `gsm8k`, `math` (500 problems, arXiv 2305.20050), `gym:NAME` (a generator of reasoning-gym),
or a JSONL file.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import anyio
from pydantic import BaseModel, ValidationError

from orchestrator.answers import AnswerEquivalence
from orchestrator.answers.text import compare
from pocket.problems import BANDS, SPLITS, Problem, Split, distinct

MISSING_EXTRA = "optional libraries are missing: pip install 'counterpoint[evaluation]'"
WARM_UP_SECONDS = 60
"""The longest that the mathematics library may take to load."""


LineT = TypeVar("LineT", bound=BaseModel)


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
    return [
        ProblemItem(f"{split}-{seed}-{place}", problem.text, str(problem.answer), problem.level, problem)
        for place, problem in enumerate(distinct(seed, split, count))
    ]


def from_file(path: Path, count: int | None = None) -> list[ProblemItem]:
    """Read a file of JSON objects with `problem`, `answer` and optionally `level`, one per line. Raises `BadProblemSet`."""
    lines = islice(read_lines(path, _ProblemLine), count)
    return [ProblemItem(f"{path.stem}-{number}", line.problem, str(line.answer), line.level) for number, line in lines]


def read_lines(path: Path, line_type: type[LineT]) -> Iterator[tuple[int, LineT]]:
    """Yield the lines of a JSONL file with their numbers from 1, except blank ones. Raises `BadProblemSet`, `OSError`."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                if line.strip():
                    yield number, line_type.model_validate_json(line)
            except ValidationError as error:
                raise BadProblemSet(f"{path}, line {number}: {first_mistake(error, 'not JSON')}") from error


class _ProblemLine(BaseModel):
    problem: str
    answer: str | int | float
    level: int = 0


def first_mistake(error: ValidationError, otherwise: str) -> str:
    """Return the field and the message of an error's first mistake; `otherwise` stands for a mistake of no field."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or otherwise}: {first['msg']}"


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


async def grade(answers: AnswerEquivalence, answer: str | None, item: ProblemItem) -> bool:
    """Return whether an answer is right: by the set's own test if it has one, else by text, number and mathematics.

    Raises `TimeoutError` if the mathematics library is not loaded in `WARM_UP_SECONDS`.
    """
    if answer is None:
        return False
    if item.accepts is not None:
        return item.accepts(answer)
    if compare(answer, item.answer) == "unknown":
        with anyio.fail_after(WARM_UP_SECONDS):
            await answers.warm.wait()
    return await answers.equivalent(answer, item.answer) == "same"


def is_right(answer: str | None, item: ProblemItem) -> bool:
    """Return whether an answer equals the reference answer by text and number alone."""
    return answer is not None and compare(answer, item.answer) == "same"
