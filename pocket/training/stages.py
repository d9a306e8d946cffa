"""Training stages of the pair, each a command such as `python -m pocket.training.stages actor-base`.

`actor-base` and `critic-base` learn to solve, in parallel. `actor` continues with refining its own mistakes, `critic` with
judging solutions of the finished actor. All output goes to `RUN`; the same seeds give the same data.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from random import Random

import torch

from pocket import mistakes, oracle, wording
from pocket.problems import BANDS, Problem, Step, problems
from pocket.training import data
from pocket.training.data import Segments
from pocket.training.model import Model, Shape
from pocket.training.sample import sample
from pocket.training.train import Stage, load, train

RUN = Path(".pocket-run")
ACTOR = {"hidden": 128, "layers": 4, "feed": 384}
CRITIC = {"hidden": 192, "layers": 4, "feed": 576}

STAGES = {
    "actor-base": Stage("actor-base", 6_000_000, rate=4e-3),
    "actor": Stage("actor", 7_000_000, rate=2e-3, decay=0.5),
    "critic-base": Stage("critic-base", 14_000_000, rate=3e-3, decay=0.0),
    "critic": Stage("critic", 7_000_000, rate=3e-3, decay=0.0),
    "critic-own": Stage("critic-own", 36_000_000, rate=3e-3, decay=1.0, workers=2),
    "critic-unfinished": Stage("critic-unfinished", 12_000_000, rate=1.5e-3, decay=1.0, workers=2),
}
_OWN = 0.6
_RIGHT = 0.4
_RIGHT_OWN = 0.5
_UNFINISHED = 0.4
_CHECKED = 400
"""Shares: of the actor's own mistakes among all mistakes; of right solutions for the critic, and for the critic of the
finished actor, which is right more often; of unfinished solutions. `_CHECKED` solutions are held out for validation.
"""

Written = tuple[Problem, str]
"""A problem and a solution by the actor."""


def actor_base() -> None:
    """Train the actor on drills and solving."""
    _train("actor-base", _model(ACTOR), _based(0.15, 0.0))


def critic_base() -> None:
    """Train the critic on drills, solving, and line-by-line judgements of solutions with many errors."""
    _train("critic-base", _model(CRITIC), _based(0.2, 0.4))


def actor() -> None:
    """Train the actor on refining, with some solving so that it is not forgotten."""
    _train("actor", load(RUN / "actor-base.pt"), _refining(_read("actor-base")))


def critic() -> None:
    """Train the critic on solutions of the half-trained actor and on constructed mistakes."""
    _train("critic", load(RUN / "critic-base.pt"), _judging(13, _read("actor-base")[:-_CHECKED], _RIGHT))


def critic_own(worker: int = 0) -> None:
    """Train the critic on solutions of the finished actor, in two processes."""
    _train("critic-own", load(RUN / "critic.pt"), _judging(14 + worker, _read("actor")[:-_CHECKED], _RIGHT_OWN), worker)


def critic_unfinished(worker: int = 0) -> None:
    """Train the critic on those and on unfinished solutions, in two processes."""
    examples = _judging(16 + worker, _read("actor")[:-_CHECKED], _RIGHT_OWN, _UNFINISHED)
    _train("critic-unfinished", load(RUN / "critic-own.pt"), examples, worker)


def _based(drills: float, reviews: float) -> Iterator[Segments]:
    random, stream = Random(11), problems(11, split="train", varied=0.0)
    while True:
        kind = random.random()
        if kind < drills:
            yield data.drill(random)
        else:
            yield data.review(random, next(stream)) if kind < drills + reviews else data.solve(next(stream))


def _refining(written: list[Written]) -> Iterator[Segments]:
    random, stream = Random(12), problems(12, split="train")
    own = _forever(random, [pair for pair in written if not _is_right(pair)])
    right = _forever(random, [pair for pair in written if _is_right(pair)])
    while True:
        kind = random.random()
        if kind < 0.05:
            yield data.drill(random)
        elif kind < 0.3:
            yield data.solve(next(stream))
        elif kind < 0.37:
            yield data.refine(*next(right))
        else:
            problem, solution = next(own) if random.random() < _OWN else _constructed(random, next(stream))
            if kind < 0.65:
                yield data.refine_partial_story(random, problem, solution)
            else:
                yield data.refine(problem, solution, silent=kind > 0.95)


def _judging(seed: int, written: list[Written], share: float, unfinished: float = 0.0) -> Iterator[Segments]:
    random, stream = Random(seed), problems(seed, split="train")
    own = _forever(random, [pair for pair in written if not _is_right(pair)])
    right = _forever(random, [pair for pair in written if _is_right(pair)])
    while True:
        kind = random.random()
        if kind < 0.1:
            yield data.drill(random)
        elif kind < 0.25:
            yield data.review(random, next(stream))
        else:
            if random.random() < share:
                problem, solution = next(right) if random.random() < _OWN else _solved(next(stream))
            else:
                problem, solution = next(own) if random.random() < _OWN else _constructed(random, next(stream))
            lines = solution.split("\n")
            if random.random() < unfinished and len(lines) > 1:
                yield data.critique_unfinished(problem, lines[: random.randrange(1, len(lines))])
            else:
                yield data.critique(problem, solution)


def _constructed(random: Random, problem: Problem) -> Written:
    return problem, mistakes.mistaken(random, problem)


def _solved(problem: Problem) -> Written:
    return problem, wording.solution(problem.steps)


def _is_right(pair: Written) -> bool:
    problem, solution = pair
    return oracle.judge(problem.steps, solution).first_error is None


def _forever(random: Random, pairs: list[Written]) -> Iterator[Written]:
    return chain.from_iterable(random.sample(pairs, len(pairs)) for _ in repeat(None))


def _model(size: dict[str, int]) -> Model:
    torch.manual_seed(0)
    return Model(Shape(data.tokenizer().get_vocab_size(), **size), 1024)


def _train(name: str, model: Model, examples: Iterator[Segments], worker: int = 0) -> None:
    RUN.mkdir(exist_ok=True)
    train(model, STAGES[name], examples, RUN, _CHECKS[name], worker)


def _write(name: str, count: int) -> None:
    """Write the actor's solutions of training problems to a file; solutions that do not end are left out."""
    model = load(RUN / f"{name}.pt")
    chosen = list(islice(problems(21, split="train"), count))
    with (RUN / f"{name}.written.jsonl").open("w") as file:
        for place, temperature in enumerate((1.0, 0.7, 0.0)):
            part = chosen[place::3]
            solutions = sample(model, [wording.prompt(problem.text) for problem in part], temperature, seed=21)
            for problem, solution in zip(part, solutions, strict=True):
                steps = [(step.left, step.symbol, step.right) for step in problem.steps]
                if solution:
                    file.write(f"{json.dumps({'text': problem.text, 'steps': steps, 'solution': solution})}\n")


def _read(name: str) -> list[Written]:
    with (RUN / f"{name}.written.jsonl").open() as file:
        lines = [json.loads(line) for line in file]
    return [(Problem(line["text"], tuple(Step(*step) for step in line["steps"])), line["solution"]) for line in lines]


def _solved_check(model: Model) -> tuple[list[Written], dict[str, float]]:
    """Return greedy solutions of development problems, and the share of right ones by band."""
    chosen = list(islice(problems(31, split="dev"), 300))
    written = list(zip(chosen, sample(model, [wording.prompt(problem.text) for problem in chosen]), strict=True))
    bands = {band: _mean([_is_right(pair) for pair in written if pair[0].level in levels]) for band, levels in BANDS.items()}
    return written, {"greedy": _mean([_is_right(pair) for pair in written]), **bands}


def _actor_check(model: Model) -> dict[str, float]:
    """Return also the share of wrong solutions corrected after the oracle's critique, and the resulting accuracy."""
    written, figures = _solved_check(model)
    wrong = [(p, s) for p, s in written if not _is_right((p, s))]
    turns = [wording.prompt(p.text, s, oracle.judge(p.steps, s).critique) for p, s in wrong]
    mended = [_is_right((p, s)) for (p, _), s in zip(wrong, sample(model, turns), strict=True)]
    return {**figures, "mended": _mean(mended), "ceiling": figures["greedy"] + sum(mended) / len(written)}


def _critic_check(name: str, model: Model) -> dict[str, float]:
    """Return accuracy on held-out solutions of the actor: verdicts on right and wrong ones, and located first errors."""
    chosen = _read(name)[-_CHECKED:]
    critiques = sample(model, [wording.prompt(problem.text, solution) for problem, solution in chosen])
    truth = [oracle.judge(problem.steps, solution) for problem, solution in chosen]
    verdicts = [text.endswith(wording.verdict_line(None)) for text in critiques]
    right = [v for v, t in zip(verdicts, truth, strict=True) if t.first_error is None]
    wrong = [not v for v, t in zip(verdicts, truth, strict=True) if t.first_error is not None]
    placed = [
        text.endswith(wording.verdict_line(t.first_error))
        for text, t in zip(critiques, truth, strict=True)
        if t.first_error is not None
    ]
    return {"passes": _mean(right), "catches": _mean(wrong), "located": _mean(placed)}


def _mean(values: list[bool]) -> float:
    return sum(values) / max(1, len(values))


_CHECKS: dict[str, Callable[[Model], dict[str, float]]] = {
    "actor-base": lambda model: _solved_check(model)[1],
    "critic-base": lambda model: _solved_check(model)[1],
    "actor": _actor_check,
    "critic": partial(_critic_check, "actor-base"),
    "critic-own": partial(_critic_check, "actor"),
    "critic-unfinished": partial(_critic_check, "actor"),
}
_COMMANDS: dict[str, Callable[[], None]] = {
    "actor-base": actor_base,
    "critic-base": critic_base,
    "actor-base-writes": partial(_write, "actor-base", 24_000),
    "actor": actor,
    "actor-writes": partial(_write, "actor", 30_000),
    "critic": critic,
    "critic-own": critic_own,
    "critic-own-too": partial(critic_own, 1),
    "critic-unfinished": critic_unfinished,
    "critic-unfinished-too": partial(critic_unfinished, 1),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    os.nice(19)
    for command in sys.argv[1:]:
        _COMMANDS[command]()
