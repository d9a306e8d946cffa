"""Fitting `auto`: which of its thresholds reach the best accuracy with the fewest tokens, by replaying recorded solves.

`RECORDED` is `auto` with nothing ever accepted and no vote ever clear, so that every draft and refinement that any
thresholds would have bought is in the record, from the same seeds. Replaying walks the record as the strategy walks the
solve, by the same rules, and stops where the thresholds say. Only problems of a development split belong in the record.

A candidate's price is its share of the recorded solve's tokens, by its length; a refinement of the same length costs
`REFINING` times a draft (its prompt holds the draft and its critique; measured on the pocket pair).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from orchestrator.answers.text import compare
from orchestrator.candidates import Candidate
from orchestrator.selection import Poll, choose, weight
from orchestrator.stopping import likelihood
from services.contracts.critique import Critique

Row = dict[str, Any]

PRIOR = 0.5
REFINING = 1.5
TOLERANCE = 0.005
"""Thresholds are as good as the best if they lose no more accuracy than this; of those the cheapest are taken."""
GROWTH = 2

RECORDED: dict[str, Any] = {"name": "auto", "accept_at": 1.0, "agree_at": 1.0, "rounds": 2, "wave": 4, "most": 13}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is fitted: fields of `auto`."""

    accept_at: float
    agree_at: float
    rounds: int
    wave: int


ACCEPT_AT, AGREE_AT = (0.5, 0.8, 0.9, 0.95, 0.98), (0.5, 0.8, 0.9, 0.95, 0.975, 0.99)
GRID = tuple(Thresholds(*values) for values in product(ACCEPT_AT, AGREE_AT, (1, 2), (1, 2, 4)))


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a solve would have ended: whether its answer is right, and its tokens."""

    right: bool
    tokens: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Thresholds with their mean accuracy and tokens over the record."""

    thresholds: Thresholds
    accuracy: float
    tokens: float


@dataclass(slots=True)
class _Replay:
    """One recorded solve, walked through."""

    row: Row
    thresholds: Thresholds
    tokens: float = 0.0

    def run(self) -> Replayed:
        """Chain after chain, as `auto` does."""
        chains = _chains(self.row)
        best = self.improved(next(chains))
        if best.accepted(self.thresholds.accept_at):
            return self.ended(best)
        poll, width = Poll(), self.thresholds.wave
        _add(poll, best)
        while likelihood(poll, PRIOR) <= self.thresholds.agree_at:
            wave = [chain for _, chain in zip(range(width), chains, strict=False)]
            if not wave:
                break
            for chain in wave:
                _add(poll, self.improved(chain))
            width *= GROWTH
        choice = choose(poll, "weighted", PRIOR)
        return self.ended(best if choice is None else choice.candidate)

    def improved(self, chain: Sequence[Row]) -> Candidate:
        """The best of a draft and as many of its refinements as would have been bought."""
        bought = list(chain[: self.thresholds.rounds + 1])
        self.tokens += sum(_price(self.row, each) for each in bought)
        return max((_candidate(each) for each in bought), key=lambda candidate: weight(candidate, PRIOR))

    def ended(self, chosen: Candidate) -> Replayed:
        """The end of the walk."""
        right = next(bool(each["right"]) for each in self.row["candidates"] if each["id"] == chosen.id)
        return Replayed(right, self.tokens)


def replay(row: Row, thresholds: Thresholds) -> Replayed:
    """How a recorded solve would have ended under other thresholds."""
    return _Replay(row, thresholds).run()


def fits(rows: Sequence[Row], grid: Sequence[Thresholds] = GRID) -> list[Fit]:
    """Every point of the grid over the record, in the grid's order."""
    found: list[Fit] = []
    for thresholds in grid:
        ended = [replay(row, thresholds) for row in rows]
        accuracy = sum(each.right for each in ended) / len(ended)
        found.append(Fit(thresholds, accuracy, sum(each.tokens for each in ended) / len(ended)))
    return found


def fit(rows: Sequence[Row], grid: Sequence[Thresholds] = GRID) -> Fit:
    """The cheapest thresholds that are as accurate as any, within `TOLERANCE`."""
    found = fits(rows, grid)
    best = max(each.accuracy for each in found)
    return min((each for each in found if each.accuracy >= best - TOLERANCE), key=lambda each: each.tokens)


def store(path: Path, found: Fit, fitted_on: str, count: int) -> None:
    """Write the file that `auto` reads its defaults from."""
    stored = {
        "fitted_on": fitted_on,
        "problems": count,
        "accuracy": round(found.accuracy, 4),
        "tokens": round(found.tokens),
        "command": "counterpoint eval fit-auto",
        "values": asdict(found.thresholds),
    }
    path.write_text(json.dumps(stored, indent=2) + "\n", "utf-8")


def _chains(row: Row) -> Iterator[list[Row]]:
    """Every draft with its refinements, in the order of their places."""
    chains: dict[int, list[Row]] = {}
    for candidate in row["candidates"]:
        chains.setdefault(int(candidate["id"][1:].split(".")[0]), []).append(candidate)
    for _, chain in sorted(chains.items()):
        yield sorted(chain, key=lambda candidate: candidate["id"].count(".") and int(candidate["id"].split(".")[1]))


def _price(row: Row, candidate: Row) -> float:
    shares = {each["id"]: _share(each) for each in row["candidates"]}
    return row["tokens"] * shares[candidate["id"]] / sum(shares.values())


def _share(candidate: Row) -> float:
    return (1 + len(candidate["text"])) * (REFINING if candidate["parent"] else 1.0)


def _candidate(sample: Row) -> Candidate:
    critique = Critique(depth="explain", verdict=sample["verdict"] or "unsure", p_correct=sample["p_correct"])
    return Candidate(sample["id"], sample["parent"], 0, sample["text"], (), sample["answer"], "stop", critique)


def _add(poll: Poll, candidate: Candidate) -> None:
    """Add to the group of its answer, by text and number."""
    known = [(k, group.answer) for k, group in enumerate(poll.groups)]
    same = (k for k, other in known if candidate.answer and other and compare(candidate.answer, other) == "same")
    poll.add(candidate, next(same, None))
