"""What is claimed of the pocket pair, each with its interval: differences are paired on the same problems.

The rival at a budget is the better of greedy `single` and of a majority vote with as many samples as the same total tokens
buy, at the temperature that was best for it, at that budget, on the development split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from evaluation import supervision
from evaluation.items import Item
from evaluation.runs import Row
from evaluation.selections import price, selected, stopped
from evaluation.statistics import Estimate, balanced, calibration_error, difference, mean
from orchestrator.stopping import StopRule
from pocket.problems import BANDS

BUDGETS = (2, 6, 16)
"""Multiples of the tokens of one greedy draft."""
SPARE = 1.02
"""A mean may exceed a budget by so much and count as within it: the strategies' limits hold for each solve, not the mean."""
STOPPED_OF = 16
RULES: tuple[tuple[StopRule, int], ...] = (("beta", 4), ("window", 4), ("certain", 4))
ACCEPT_AT = 0.5


@dataclass(slots=True)
class Table:
    """The figures, line by line, and what they are made of. `draft` is the mean of one greedy draft, in tokens."""

    items: Sequence[Item]
    rows: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    votes: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    development: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    supervised: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    draft: float = 0.0
    lines: list[str] = field(default_factory=list[str])

    def right(self, name: str) -> list[bool]:
        """Whether each problem was solved, in the order of the items."""
        return [row["right"] for row in self.rows[name]]

    def tokens(self, name: str) -> float:
        """Mean tokens a problem, prompts and completions of both roles."""
        return sum(row["tokens"] for row in self.rows[name]) / len(self.items)

    def rival_vote(self, tokens: float | None = None) -> str:
        """The vote whose temperature is best with so many tokens, or with all samples, on the development split."""

        def share(name: str) -> float:
            rows = self.development[name]
            n = _most(rows, tokens)
            return sum(selected(row, n, "majority") for row in rows) / len(rows)

        return max(self.development, key=share)

    def rival_votes(self, tokens: float | None = None) -> tuple[str, list[Row]]:
        """That vote and its rows."""
        name = self.rival_vote(tokens)
        return name, self.votes[name]

    def add(self, name: str, right: Sequence[bool], tokens: float) -> None:
        """A line with accuracy overall and by band."""
        bands = [mean(_of(self.items, right, band)).mean for band in BANDS]
        shown = "".join(f"{100 * share:9.1f}" for share in bands)
        self.lines.append(f"{name:<44}{mean(list(right))!s:>22}{shown}{tokens:10.0f}")

    def say(self, name: str, value: object) -> None:
        """A line of another kind."""
        self.lines.append(f"{name:<70}{value}")


def claims(table: Table, wide: str) -> None:
    """Every claim of strategies against each other; `wide` names the plan whose samples are replayed."""
    for budget in BUDGETS:
        _against_rival(table, budget)
    _front(table)
    _quarter(table)
    for family in ("auto", "refine", "best_of_n"):
        _monotone(table, family)
    for rule, window in RULES:
        _stopping(table, wide, rule, window)
    for name in ("refine-2", "refine-2-auto", "refine-2-ungated", "auto"):
        before, after = table.right("greedy"), table.right(name)
        table.say(f"{name}: right greedy answers broken (c2i), of all", mean(_only(before, after)))
        table.say(f"{name}: wrong greedy answers mended (i2c), of all", mean(_only(after, before)))


def _against_rival(table: Table, budget: int) -> None:
    """`auto` against the rival, where its mean is within the budget, and where its limit is."""
    tokens = budget * table.draft
    name, rival = _rival(table, tokens)
    for said, ours in (("spending", _affordable(table, tokens)), ("limited to", f"auto@{budget}x")):
        if ours is None:
            continue
        found = table.right(ours)
        spent = f"{table.tokens(ours) / table.draft:.1f}x"
        table.say(f"{budget}x: auto {said} it ({ours}, {spent} spent) - {name}", difference(found, rival))
        hard = difference(_of(table.items, found, "hard"), _of(table.items, rival, "hard"))
        table.say("  on the hard levels", hard)


def _rival(table: Table, tokens: float) -> tuple[str, list[bool]]:
    """The better of greedy and of the vote that so many tokens buy."""
    vote, rows = table.rival_votes(tokens)
    n = _most(rows, tokens)
    voted = [selected(row, n, "majority") for row in rows]
    greedy = table.right("greedy")
    return max(
        ("greedy", greedy), (f"majority of {n} at {vote.rpartition('-at-')[2]}", voted), key=lambda pair: sum(pair[1])
    )


def _affordable(table: Table, tokens: float) -> str | None:
    """The dearest of `auto`'s settings whose mean is within the budget."""
    within = [name for name in _family(table, "auto") if table.tokens(name) <= SPARE * tokens]
    return max(within, key=table.tokens, default=None)


def _front(table: Table) -> None:
    """The worst that any other plan's point does against `auto` at the same tokens."""
    worst: tuple[float, str, Estimate] | None = None
    others = [(name, table.tokens(name), table.right(name)) for name in table.rows if name.partition("@")[0] != "auto"]
    for name, rows in table.votes.items():
        sizes = (2**k for k in range(1, 7))
        votes = [(n, [selected(row, n, "majority") for row in rows]) for n in sizes]
        others += [(f"{name}: {n}", price(rows, n, "majority"), right) for n, right in votes]
    for name, tokens, right in others:
        found = difference(_auto_at(table, tokens), right)
        if name != "greedy" and (worst is None or found.mean < worst[0]):
            worst = (found.mean, f"{name} ({tokens:.0f} tokens)", found)
    assert worst is not None  # noqa: S101 - there are other plans
    table.say(f"front: the least that auto is ahead, of {worst[1]}", worst[2])


def _auto_at(table: Table, tokens: float) -> list[float]:
    """How likely each problem is solved at a mean of so many tokens.

    What lies between two settings can be had by drawing one of them for each problem.
    """
    points = sorted((table.tokens(name), table.right(name)) for name in ("greedy", *_family(table, "auto")))
    (low, below), (high, above) = points[0], points[-1]
    for (a, right), (b, other) in pairwise(points):
        if a <= tokens <= b:
            (low, below), (high, above) = (a, right), (b, other)
    share = min(1.0, max(0.0, (tokens - low) / (high - low)))
    return [(1 - share) * one + share * two for one, two in zip(below, above, strict=True)]


def _quarter(table: Table) -> None:
    """`auto` with a quarter of the tokens of the best majority vote of up to all samples."""
    vote, rows = table.rival_votes()
    best = max(range(1, len(rows[0]["candidates"]) + 1), key=lambda n: sum(selected(row, n, "majority") for row in rows))
    right, tokens = [selected(row, best, "majority") for row in rows], price(rows, best, "majority")
    ours = _affordable(table, tokens / 4)
    said = f"best majority, of {best} at {vote.rpartition('-at-')[2]} ({tokens:.0f} tokens)"
    if ours is None:
        table.say(f"a quarter of the {said}", "no setting of auto is so cheap")
        return
    table.say(f"{ours} ({table.tokens(ours):.0f} tokens) - {said}", difference(table.right(ours), right))
    table.say(f"{ours} - greedy", difference(table.right(ours), table.right("greedy")))


def _monotone(table: Table, family: str) -> None:
    """The worst step from a budget to the next larger one."""
    names = [name for name in _family(table, family) if "@" in name]
    steps = [(f"{small} -> {large}", difference(table.right(large), table.right(small))) for small, large in pairwise(names)]
    name, least = min(steps, key=lambda step: step[1].mean)
    table.say(f"more budget, least gain: {name}", least)


def _stopping(table: Table, wide: str, rule: StopRule, window: int) -> None:
    """A stop rule replayed over the same samples."""
    rows = table.rows[wide]
    ended = [stopped(row, STOPPED_OF, "weighted", rule, window) for row in rows]
    whole = [selected(row, STOPPED_OF, "weighted") for row in rows]
    saved = mean([1 - end.samples / STOPPED_OF for end in ended])
    table.say(f"weighted@{STOPPED_OF} stopped by {rule}: samples saved", saved)
    table.say("  change of accuracy", difference([end.right for end in ended], whole))


def critic(table: Table, wide: str) -> None:
    """The critic against the oracle."""
    critiques: list[Mapping[str, object]] = [c for row in table.supervised["judged"] for c in row["critiques"]]
    right = [c for c in critiques if c["right"]]
    wrong = [c for c in critiques if not c["right"]]
    told = [[c["verdict"] == "correct" for c in right], [c["verdict"] == "incorrect" for c in wrong]]
    table.say(f"critic's verdict in words, balanced ({len(right)} + {len(wrong)})", balanced(*told))
    table.say("  right solutions passed", mean(told[0]))
    table.say("  wrong solutions caught", mean(told[1]))
    table.say("  first error located in wrong solutions", mean([c["first_error"] == c["true_first_error"] for c in wrong]))
    samples = [
        (c["p_correct"], supervision.first_error(item, c["text"]) is None)
        for row, item in zip(table.rows[wide], table.items, strict=True)
        for c in row["candidates"]
        if c["p_correct"] is not None
    ]
    gate = [[(p >= ACCEPT_AT) == ok for p, ok in samples if ok is kind] for kind in (True, False)]
    table.say("critic's verdict by likelihood, balanced", balanced(*gate))
    table.say("  right solutions passed", mean(gate[0]))
    error = calibration_error([p for p, _ in samples], [ok for _, ok in samples])
    table.say(f"expected calibration error of p_correct ({len(samples)} samples)", f"{error:.3f}")


def _family(table: Table, name: str) -> list[str]:
    """A strategy's settings, the cheapest first."""
    return sorted((known for known in table.rows if known.partition("@")[0] == name), key=table.tokens)


def _most(rows: Sequence[Row], tokens: float | None) -> int:
    """The largest vote that the tokens buy."""
    largest = len(rows[0]["candidates"])
    if tokens is None:
        return largest
    return max((n for n in range(1, largest + 1) if price(rows, n, "majority") <= tokens), default=1)


def _of(items: Sequence[Item], right: Sequence[bool], band: str) -> list[bool]:
    return [ok for ok, item in zip(right, items, strict=True) if item.group == band]


def _only(these: Sequence[bool], those: Sequence[bool]) -> list[bool]:
    """Where these were right and those were not."""
    return [a and not b for a, b in zip(these, those, strict=True)]
