"""The table of figures, measured directly on the test split; a reference for the evaluation through the services.

Tokens are prompts and completions of both models. Samples of one prompt share it; nothing else is cached.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pocket import oracle, wording
from pocket.calibration import Calibration, calibration_error
from pocket.problems import BANDS, Problem
from pocket.training.data import tokenizer
from pocket.training.model import Model
from pocket.training.sample import likelihoods, sample

TEMPERATURE = 0.8
GATE = 0.5
MAJORITIES = (2, 4, 8, 16, 32)


@dataclass
class Bench:
    """Both models, a set of problems, and the tokens spent per problem."""

    actor: Model
    critic: Model
    calibration: Calibration
    problems: Sequence[Problem]
    spent: np.ndarray = field(init=False)
    _scores: dict[tuple[int, str], float] = field(default_factory=dict[tuple[int, str], float])

    def __post_init__(self) -> None:
        self.spent = np.zeros(len(self.problems))

    def take_spent(self) -> float:
        """Return the mean tokens per problem since the last call, and reset the count."""
        mean = float(self.spent.mean())
        self.spent[:] = 0
        return mean

    def generate(
        self, model: Model, places: Sequence[int], turns: Sequence[Sequence[str]], t: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Sample a turn of a model for the problems at `places`, given the turns after the problem."""
        prompts = [wording.prompt(self.problems[place].text, *given) for place, given in zip(places, turns, strict=True)]
        texts = sample(model, prompts, t, seed)
        for place, prompt, text in zip(places, prompts, texts, strict=True):
            self.spent[place] += _count(prompt) + _count(text) + 1
        return texts

    def log_likelihoods(self, places: Sequence[int], solutions: Sequence[str]) -> list[float]:
        """Return the log-likelihood of the all-correct critique of each solution."""
        keys = list(dict.fromkeys(zip(places, solutions, strict=True)))
        missing = [key for key in keys if key not in self._scores]
        prompts = [wording.prompt(self.problems[place].text, solution) for place, solution in missing]
        turns = [_all_correct(solution) for _, solution in missing]
        for key, scores in zip(missing, likelihoods(self.critic, prompts, turns), strict=True):
            self._scores[key] = float(scores.double().sum())
        for place, solution in zip(places, solutions, strict=True):
            self.spent[place] += _count(wording.prompt(self.problems[place].text, solution) + _all_correct(solution))
        return [self._scores[key] for key in zip(places, solutions, strict=True)]

    def rightness(self, solutions: Sequence[str]) -> list[bool]:
        """Return whether each answer is right, regardless of the steps; one solution per problem."""
        return [answer(text) == str(problem.answer) for problem, text in zip(self.problems, solutions, strict=True)]

    def probabilities(self, scores: Sequence[Sequence[float]]) -> list[list[float]]:
        """Return the calibrated probabilities of log-likelihoods."""
        return [[self.calibration.probability(score) for score in row] for row in scores]

    def judge(self, place: int, solution: str) -> oracle.Judgement:
        """Return the oracle's judgement."""
        return oracle.judge(self.problems[place].steps, solution)


def answer(solution: str) -> str | None:
    """Return the boxed answer, or None."""
    return solution.rpartition("\\boxed{")[2].partition("}")[0] if "\\boxed{" in solution else None


def _all_correct(solution: str) -> str:
    return wording.all_correct(solution.splitlines())


def _count(text: str) -> int:
    return len(tokenizer().encode(text, add_special_tokens=False).ids)


Critic = Callable[[Bench, list[int], list[str]], list[str]]
"""A function that critiques solutions; an empty critique requests no refinement."""


def by_critic(bench: Bench, places: list[int], solutions: list[str]) -> list[str]:
    """Return the critic's explanations of solutions whose calibrated probability is below one half."""
    scores = bench.log_likelihoods(places, solutions)
    doubted = [k for k, score in enumerate(scores) if bench.calibration.probability(score) < GATE]
    texts = bench.generate(bench.critic, [places[k] for k in doubted], [(solutions[k],) for k in doubted])
    critiques = [""] * len(solutions)
    for k, text in zip(doubted, texts, strict=True):
        critiques[k] = text if "incorrect" in text else ""
    return critiques


def by_oracle(bench: Bench, places: list[int], solutions: list[str]) -> list[str]:
    """Return the oracle's critiques of wrong solutions."""
    judgements = [bench.judge(place, solution) for place, solution in zip(places, solutions, strict=True)]
    return ["" if j.first_error is None else j.critique for j in judgements]


def refined(bench: Bench, solutions: list[str], critic: Critic, *, silent: bool = False) -> list[str]:
    """Run one gated round. With `silent` the actor writes a new solution without seeing the critique."""
    critiques = critic(bench, list(range(len(solutions))), solutions)
    open_ = [place for place, text in enumerate(critiques) if text]
    texts = bench.generate(bench.actor, open_, [(solutions[k], "" if silent else critiques[k]) for k in open_])
    after = list(solutions)
    for place, text in zip(open_, texts, strict=True):
        after[place] = text
    return after


def calibrate(bench: Bench) -> Calibration:
    """Fit the calibration on the actor's samples of the bench's (development) problems."""
    places = list(range(len(bench.problems)))
    scores: list[float] = []
    labels: list[bool] = []
    for seed, temperature in enumerate((0.0, TEMPERATURE, TEMPERATURE)):
        texts = bench.generate(bench.actor, places, [()] * len(places), temperature, seed)
        scores += bench.log_likelihoods(places, texts)
        labels += [bench.judge(place, text).first_error is None for place, text in zip(places, texts, strict=True)]
    return Calibration.fit(scores, labels)


def voted(answers: Sequence[str | None], weights: Sequence[float]) -> str | None:
    """Return the answer with the largest weight; the earliest among equals."""
    mass: dict[str | None, float] = defaultdict(float)
    for text, weight in zip(answers, weights, strict=True):
        mass[text] += weight if text is not None else 0.0
    return max(mass, key=lambda text: mass[text])


Outcomes = dict[str, Any]
"""`rows`: for each strategy the right answers and the tokens per problem; `critic`: its judgements; `levels`."""


def outcomes(bench: Bench) -> Outcomes:
    """Run all strategies on the problems of a bench."""
    rows: dict[str, dict[str, Any]] = {}
    places = list(range(len(bench.problems)))

    def keep(name: str, right: Sequence[bool], tokens: float) -> None:
        rows[name] = {"right": list(right), "tokens": tokens}
        print(name, _mean(right), round(tokens), flush=True)

    greedy = bench.generate(bench.actor, places, [()] * len(places))
    cost = bench.take_spent()
    keep("greedy", bench.rightness(greedy), cost)
    settings = ("critic", by_critic, False), ("oracle", by_oracle, False), ("no critique", by_critic, True)
    for name, critic, silent in settings:
        solutions, tokens = greedy, cost
        for turn in (1, 2):
            solutions = refined(bench, solutions, critic, silent=silent)
            tokens += bench.take_spent()
            keep(f"refined {turn}, {name}", bench.rightness(solutions), tokens)
    drafts = _votes(bench, keep)
    return {"rows": rows, "critic": _judged(bench, drafts[:4]), "levels": [problem.level for problem in bench.problems]}


def _votes(bench: Bench, keep: Callable[[str, Sequence[bool], float], None]) -> list[list[str]]:
    """Measure all strategies that sample many drafts, and return the drafts."""
    n, most = len(bench.problems), max(MAJORITIES)
    places = list(range(n))
    truth = [str(problem.answer) for problem in bench.problems]
    drafts = [bench.generate(bench.actor, places, [()] * n, TEMPERATURE, seed=100 + k) for k in range(most)]
    prompt_cost = sum(_count(wording.prompt(problem.text)) for problem in bench.problems) / n
    each = bench.take_spent() / most - prompt_cost
    right = [bench.rightness(row) for row in drafts]

    def vote(rows: Sequence[Sequence[str]], weights: Sequence[Sequence[float]]) -> list[bool]:
        return [voted([answer(row[p]) for row in rows], [weight[p] for weight in weights]) == truth[p] for p in places]

    for count in MAJORITIES:
        keep(f"majority of {count}", vote(drafts[:count], [[1.0] * n] * count), prompt_cost + each * count)
    keep("one sample", right[0], prompt_cost + each)
    keep("pass at 16", [any(row[p] for row in right[:16]) for p in places], prompt_cost + each * 16)
    scores = [bench.log_likelihoods(places, row) for row in drafts[:16]]
    scoring = bench.take_spent() / 16
    for count in (4, 8, 16):
        best = [max(range(count), key=lambda k, p=p: scores[k][p]) for p in places]
        tokens = prompt_cost + (each + scoring) * count
        keep(f"best of {count}", [right[k][p] for p, k in enumerate(best)], tokens)
        keep(f"weighted vote of {count}", vote(drafts[:count], bench.probabilities(scores[:count])), tokens)
    for count in (2, 8):
        mended = [refined(bench, row, by_critic) for row in drafts[:count]]
        after = bench.probabilities([bench.log_likelihoods(places, row) for row in mended])
        keep(f"weighted vote of {count}, refined", vote(mended, after), prompt_cost + each * count + bench.take_spent())
    return drafts


def _judged(bench: Bench, drafts: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    """Return for each sample the true first error (0 for none), the critic's first error, and its probability."""
    places = list(range(len(bench.problems)))
    judgements: dict[str, list[Any]] = {"true": [], "located": [], "probability": []}
    for row in drafts:
        texts = bench.generate(bench.critic, places, [(text,) for text in row])
        judgements["true"] += [bench.judge(place, text).first_error or 0 for place, text in zip(places, row, strict=True)]
        judgements["located"] += [_first_error(text) for text in texts]
        judgements["probability"] += bench.probabilities([bench.log_likelihoods(places, row)])[0]
    return judgements


def _first_error(critique: str) -> int:
    """Return the first error of a critique, 0 for none, -1 for a critique without a verdict."""
    last = critique.rpartition("\n")[2]
    if last == wording.verdict_line(None):
        return 0
    number = last.rpartition(" step ")[2].removesuffix(".")
    return int(number) if number.isdigit() else -1


def summary(parts: Sequence[Outcomes]) -> dict[str, Any]:
    """Return the table over the outcomes of several benches; shares between 0 and 1."""
    levels = [level for part in parts for level in part["levels"]]
    rows: dict[str, Any] = {}
    for name in parts[0]["rows"]:
        right = [ok for part in parts for ok in part["rows"][name]["right"]]
        tokens = sum(part["rows"][name]["tokens"] * len(part["levels"]) for part in parts) / len(levels)
        bands = {
            band: _mean([ok for ok, level in zip(right, levels, strict=True) if level in members])
            for band, members in BANDS.items()
        }
        rows[name] = {"all": _mean(right), **bands, "tokens": round(tokens)}
        first = [ok for part in parts for ok in part["rows"]["greedy"]["right"]]
        if name.startswith("refined"):
            rows[name]["broken"] = _mean([a and not b for a, b in zip(first, right, strict=True)])
            rows[name]["mended"] = _mean([b and not a for a, b in zip(first, right, strict=True)])
    return {"problems": len(levels), **rows, "critic": _critic([part["critic"] for part in parts])}


def _critic(parts: Sequence[dict[str, list[Any]]]) -> dict[str, float]:
    """Return the accuracy of the critic; `verdict` is the mean over right and wrong samples."""
    names = ("true", "located", "probability")
    true, located, probability = ([value for part in parts for value in part[name]] for name in names)
    pairs = list(zip(true, located, probability, strict=True))
    passes = [f == 0 for t, f, _ in pairs if t == 0]
    catches = [f != 0 for t, f, _ in pairs if t != 0]
    likely_right = [c >= GATE for t, _, c in pairs if t == 0]
    likely_wrong = [c < GATE for t, _, c in pairs if t != 0]
    return {
        "verdict": (_mean(passes) + _mean(catches)) / 2,
        "passes": _mean(passes),
        "catches": _mean(catches),
        "located": _mean([f == t for t, f, _ in pairs if t != 0]),
        "verdict by likelihood": (_mean(likely_right) + _mean(likely_wrong)) / 2,
        "passes by likelihood": _mean(likely_right),
        "calibration error": round(calibration_error(probability, [t == 0 for t in true]), 4),
        "samples": len(pairs),
        "right among them": _mean([t == 0 for t in true]),
    }


def _mean(values: Sequence[bool]) -> float:
    return round(sum(values) / max(1, len(values)), 4)
