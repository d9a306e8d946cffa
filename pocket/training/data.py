"""Training examples: token ids with loss weights, and their batches.

An example is a list of text segments, each with a weight; a segment ends at a token boundary. Rows of similar length share a
batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from pocket import mistakes, oracle, wording
from pocket import tokenizer as tokenizers
from pocket.problems import Problem, Step

Segments = list[tuple[str, float]]

FOCUS = 4.0
"""Weight of the decisive line: the first error, or the corrected step."""
COPIED = 0.3
"""Weight of copied lines: those of a refined solution before the first error."""

BUCKETS = (64, 128, 192, 256, 320, 384, 448)
"""Row lengths, in tokens; longer examples are dropped."""


@cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer of the pair."""
    return tokenizers.build()


def solve(problem: Problem) -> Segments:
    """Return an example of a problem and its solution."""
    return [(wording.prompt(problem.text), 0.0), (wording.solution(problem.steps) + wording.END, 1.0)]


def drill(random: Random) -> Segments:
    """Return an example of plain arithmetic; only results have weight."""
    segments: Segments = [(wording.DRILL, 0.0)]
    for _ in range(10):
        step = _step(random)
        segments += [(f"{step.expression} = ", 0.0), (f"{step.value}\n", 1.0)]
    return segments


def review(random: Random, problem: Problem) -> Segments:
    """Return an example of a solution with many errors and a judgement of each line."""
    wrong = mistakes.scrambled(random, problem)
    opening = wording.prompt(problem.text, wrong).removesuffix(wording.OPENINGS[2])
    return [(opening + wording.REVIEW, 0.0), (oracle.review(problem.steps, wrong) + wording.END, 1.0)]


def critique(problem: Problem, solution: str) -> Segments:
    """Return an example of a solution and the oracle's critique."""
    judgement = oracle.judge(problem.steps, solution)
    lines = judgement.critique.splitlines(keepends=True)
    at = judgement.first_error
    return [
        (wording.prompt(problem.text, solution), 0.0),
        *((line, FOCUS if index == at else 1.0) for index, line in enumerate(lines, start=1)),
        (wording.END, 1.0),
    ]


def critique_unfinished(problem: Problem, lines: Sequence[str]) -> Segments:
    """Return an example of a solution's first lines and their critique; the missing rest is not an error."""
    judged = critique(problem, "\n".join(lines))
    missing = oracle.judge(problem.steps, "\n".join(lines)).first_error == len(lines) + 1
    critique_lines = [*judged[1 : 1 + len(lines)], (wording.verdict_line(None), 1.0), judged[-1]] if missing else judged[1:]
    return [(wording.prompt(problem.text, wording.unfinished(lines)), 0.0), *critique_lines]


def refine(problem: Problem, solution: str, *, silent: bool = False) -> Segments:
    """Return an example of a solution, the oracle's critique (empty if `silent`), and the right solution."""
    critique = "" if silent else oracle.judge(problem.steps, solution).critique
    return [(wording.prompt(problem.text, solution, critique), 0.0), *_refined(problem, solution, 1.0), (wording.END, 1.0)]


def refine_partial_story(random: Random, problem: Problem, solution: str) -> Segments:
    """Return a refinement with half of the story missing, so that only the critique reveals the corrected step.

    The steps after it have no weight.
    """
    *story, question = problem.text.split(". ")
    partial_story = ". ".join([*(sentence for sentence in story if random.random() < 0.5), question])
    opening = wording.prompt(partial_story, solution, oracle.judge(problem.steps, solution).critique)
    return [(opening, 0.0), *_refined(problem, solution, 0.0)]


def _refined(problem: Problem, solution: str, after: float) -> Segments:
    """Return the lines of the right solution; `after` is the weight of those after the corrected one."""
    lines = wording.solution(problem.steps).splitlines(keepends=True)
    at = oracle.judge(problem.steps, solution).first_error or len(lines) + 1
    return [(line, COPIED if k < at else FOCUS if k == at else after) for k, line in enumerate(lines, start=1)]


def _step(random: Random) -> Step:
    """Return an operation as in the stories, with large numbers as likely as small ones."""
    match random.choice("++--*/"):
        case "+":
            return Step(random.randint(2, 800), "+", random.randint(2, 200))
        case "-":
            left = random.randint(4, 999)
            return Step(left, "-", random.randint(2, min(left - 1, 300)))
        case "*":
            factor = random.randint(2, 9)
            other = random.randint(2, 999 // factor)
            return Step(factor, "*", other) if other < 80 and random.random() < 0.5 else Step(other, "*", factor)
        case _:
            divisor = random.randint(2, 9)
            return Step(divisor * random.randint(2, 999 // divisor), "/", divisor)


@dataclass(frozen=True, slots=True)
class Row:
    """One encoded example."""

    ids: np.ndarray
    weights: np.ndarray


def encode(examples: Sequence[Segments]) -> list[Row]:
    """Return token ids and weights of many examples."""
    texts = [text for segments in examples for text, _ in segments]
    encodings = iter(tokenizer().encode_batch_fast(texts, add_special_tokens=False))
    rows: list[Row] = []
    for segments in examples:
        parts = [next(encodings).ids for _ in segments]
        weights = np.concatenate([np.full(len(part), w, np.float32) for part, (_, w) in zip(parts, segments, strict=True)])
        rows.append(Row(np.concatenate([np.asarray(part, np.int64) for part in parts]), weights))
    return rows


Batch = tuple[Tensor, Tensor]
"""Ids and weights, both of shape (rows, length)."""


def batches(examples: Iterator[Segments], tokens: int, random: Random, pool: int = 1024) -> Iterator[Batch]:
    """Yield batches of about `tokens` tokens, including padding, without end."""
    waiting: dict[int, list[Row]] = {length: [] for length in BUCKETS}
    while True:
        for row in encode([next(examples) for _ in range(pool)]):
            length = next((length for length in BUCKETS if len(row.ids) <= length), None)
            if length:
                waiting[length].append(row)
        ready: list[Batch] = []
        for length, rows in waiting.items():
            count = tokens // length
            random.shuffle(rows)
            while len(rows) >= count:
                ready.append(_batch([rows.pop() for _ in range(count)], length))
        random.shuffle(ready)
        yield from ready


def _batch(rows: Sequence[Row], length: int) -> Batch:
    ids, weights = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.float32)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], weights[place, : len(row.ids)] = row.ids, row.weights
    return torch.from_numpy(ids), torch.from_numpy(weights)
