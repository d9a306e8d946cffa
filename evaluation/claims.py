"""Claims about the pocket pair, each with its interval; differences are paired on the same problems.

The rival at a budget is the better of greedy `single` and of a majority vote with as many samples as the same total tokens
buy, at the temperature that was best at that budget on the development split.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from evaluation.problem_sets import ProblemItem
from evaluation.replay import price, stopped, voted
from evaluation.role_clients import first_error
from evaluation.rows import RefinementRow, SampleCritiquesRow, SolveRow
from evaluation.statistics import balanced, difference, mean
from orchestrator.stopping import StopRule
from pocket.calibration import calibration_error
from pocket.problems import BANDS

BUDGETS = (2, 6, 16)
"""Multiples of the tokens of one greedy draft."""
TOLERANCE = 1.02
"""Factor by which mean tokens may exceed a budget and count as within it: limits hold for each solve, not for the mean."""
STOPPED_OF = 16
RULES: tuple[tuple[StopRule, int], ...] = (("beta", 4), ("window", 4), ("certain", 4))
ACCEPT_AT = 0.5


@dataclass(slots=True)
class ClaimsTable:
    """The lines of the table and the rows they are computed from. `draft` is the mean tokens of a greedy draft.

    `rows` are by plan, `votes` and `development` (on the development split) by vote, `refined` by `ceiling` and `control`.
    """

    items: Sequence[ProblemItem]
    rows: dict[str, list[SolveRow]] = field(default_factory=dict[str, list[SolveRow]])
    votes: dict[str, list[SolveRow]] = field(default_factory=dict[str, list[SolveRow]])
    development: dict[str, list[SolveRow]] = field(default_factory=dict[str, list[SolveRow]])
    refined: dict[str, list[RefinementRow]] = field(default_factory=dict[str, list[RefinementRow]])
    critiqued: list[SampleCritiquesRow] = field(default_factory=list[SampleCritiquesRow])
    draft: float = 0.0
    lines: list[str] = field(default_factory=list[str])

    def right(self, name: str) -> list[bool]:
        """Return whether a plan solved each problem, in the order of the items."""
        return [row.right for row in self.rows[name]]

    def tokens(self, name: str) -> float:
        """Return a plan's mean tokens per problem, prompts and completions of both roles."""
        return sum(row.tokens for row in self.rows[name]) / len(self.items)

    def rival_vote(self, tokens: float | None = None) -> str:
        """Return the vote that is best on the development split with so many tokens, or with all samples."""

        def accuracy(name: str) -> float:
            rows = self.development[name]
            n = _largest_vote(rows, tokens)
            return sum(voted(rows, n, "majority")) / len(rows)

        return max(self.development, key=accuracy)

    def add_accuracy(self, name: str, right: Sequence[bool], tokens: float) -> None:
        """Add a line with the accuracy, overall and by band, and the tokens."""
        bands = "".join(f"{100 * mean(_in_band(self.items, right, band)).mean:9.1f}" for band in BANDS)
        self.lines.append(f"{name:<44}{mean(list(right))!s:>22}{bands}{tokens:10.0f}")

    def add_line(self, name: str, value: object) -> None:
        """Add a line with any other value."""
        self.lines.append(f"{name:<70}{value}")


def add_claims(table: ClaimsTable, wide: str) -> None:
    """Add every comparison of strategies; `wide` is the name of the plan whose samples are replayed."""
    for budget in BUDGETS:
        _compare_with_rival(table, budget)
    _compare_with_front(table)
    _compare_at_quarter(table)
    for family in ("auto", "refine", "best_of_n"):
        _add_least_gain(table, family)
    for rule, window in RULES:
        _add_stop_rule(table, wide, rule, window)
    for name in ("refine-2", "refine-2-auto", "refine-2-ungated", "auto"):
        before, after = table.right("greedy"), table.right(name)
        table.add_line(f"{name}: right greedy answers broken (c2i), of all", mean(_only_first(before, after)))
        table.add_line(f"{name}: wrong greedy answers mended (i2c), of all", mean(_only_first(after, before)))


def _compare_with_rival(table: ClaimsTable, budget: int) -> None:
    """Compare `auto` with the rival, once with its mean within the budget and once with the budget as its limit."""
    tokens = budget * table.draft
    name, rival = _rival(table, tokens)
    for condition, plan in (("spending", _affordable(table, tokens)), ("limited to", f"auto@{budget}x")):
        if plan is None:
            continue
        right = table.right(plan)
        spent = f"{table.tokens(plan) / table.draft:.1f}x"
        table.add_line(f"{budget}x: auto {condition} it ({plan}, {spent} spent) - {name}", difference(right, rival))
        hard = difference(_in_band(table.items, right, "hard"), _in_band(table.items, rival, "hard"))
        table.add_line("  on the hard levels", hard)


def _rival(table: ClaimsTable, tokens: float) -> tuple[str, list[bool]]:
    """Return the name and the results of the better of greedy and of the vote that so many tokens buy."""
    vote = table.rival_vote(tokens)
    rows = table.votes[vote]
    n = _largest_vote(rows, tokens)
    voters = f"majority of {n} at {vote.rpartition('-at-')[2]}", voted(rows, n, "majority")
    return max(("greedy", table.right("greedy")), voters, key=lambda pair: sum(pair[1]))


def _affordable(table: ClaimsTable, tokens: float) -> str | None:
    """Return the most expensive of `auto`'s settings whose mean is within the budget, None if there is none."""
    within = [name for name in _family(table, "auto") if table.tokens(name) <= TOLERANCE * tokens]
    return max(within, key=table.tokens, default=None)


def _compare_with_front(table: ClaimsTable) -> None:
    """Compare `auto` with every other plan at the same tokens, and add the least difference."""
    names = [name for name in table.rows if name.partition("@")[0] not in {"auto", "greedy"}]
    others = [(name, table.tokens(name), table.right(name)) for name in names]
    for name, rows in table.votes.items():
        sizes = (2**k for k in range(1, 7))
        others += [(f"{name}: {n}", price(rows, n, "majority"), voted(rows, n, "majority")) for n in sizes]
    leads = [(difference(_auto_at(table, tokens), right), f"{name} ({tokens:.0f} tokens)") for name, tokens, right in others]
    least, rival = min(leads, key=lambda lead: lead[0].mean)
    table.add_line(f"front: the least that auto is ahead, of {rival}", least)


def _auto_at(table: ClaimsTable, tokens: float) -> list[float]:
    """Return the probability that `auto` solves each problem at a mean of so many tokens.

    A point between two settings is reached by drawing one of them at random for each problem.
    """
    points = sorted((table.tokens(name), table.right(name)) for name in ("greedy", *_family(table, "auto")))
    (low, below), (high, above) = points[0], points[-1]
    for (a, right), (b, other) in pairwise(points):
        if a <= tokens <= b:
            (low, below), (high, above) = (a, right), (b, other)
    share = min(1.0, max(0.0, (tokens - low) / (high - low)))
    return [(1 - share) * one + share * two for one, two in zip(below, above, strict=True)]


def _compare_at_quarter(table: ClaimsTable) -> None:
    """Compare `auto` at a quarter of the tokens with the best majority vote of up to all samples."""
    vote = table.rival_vote()
    rows = table.votes[vote]
    best = max(range(1, len(rows[0].candidates) + 1), key=lambda n: sum(voted(rows, n, "majority")))
    right, tokens = voted(rows, best, "majority"), price(rows, best, "majority")
    plan = _affordable(table, tokens / 4)
    rival = f"best majority, of {best} at {vote.rpartition('-at-')[2]} ({tokens:.0f} tokens)"
    if plan is None:
        table.add_line(f"a quarter of the {rival}", "no setting of auto is so cheap")
        return
    table.add_line(f"{plan} ({table.tokens(plan):.0f} tokens) - {rival}", difference(table.right(plan), right))
    table.add_line(f"{plan} - greedy", difference(table.right(plan), table.right("greedy")))


def _add_least_gain(table: ClaimsTable, family: str) -> None:
    """Add the least gain from one budget to the next larger one."""
    names = [name for name in _family(table, family) if "@" in name]
    steps = [(f"{small} -> {large}", difference(table.right(large), table.right(small))) for small, large in pairwise(names)]
    name, least = min(steps, key=lambda step: step[1].mean)
    table.add_line(f"more budget, least gain: {name}", least)


def _add_stop_rule(table: ClaimsTable, wide: str, rule: StopRule, window: int) -> None:
    """Replay a stop rule over the same samples; add what it saves and what it changes."""
    rows = table.rows[wide]
    stops = [stopped(row, STOPPED_OF, "weighted", rule, window) for row in rows]
    complete = voted(rows, STOPPED_OF, "weighted")
    saved = mean([1 - stop.samples / STOPPED_OF for stop in stops])
    table.add_line(f"weighted@{STOPPED_OF} stopped by {rule}: samples saved", saved)
    table.add_line("  change of accuracy", difference([stop.right for stop in stops], complete))


def add_critic(table: ClaimsTable, wide: str) -> None:
    """Compare the critic with the oracle: its verdicts in words, and its p_correct on the samples of the plan `wide`."""
    critiques = [critique for row in table.critiqued for critique in row.critiques]
    right = [critique for critique in critiques if critique.right]
    wrong = [critique for critique in critiques if not critique.right]
    verdicts = [[c.verdict == "correct" for c in right], [c.verdict == "incorrect" for c in wrong]]
    table.add_line(f"critic's verdict in words, balanced ({len(right)} + {len(wrong)})", balanced(*verdicts))
    table.add_line("  right solutions passed", mean(verdicts[0]))
    table.add_line("  wrong solutions caught", mean(verdicts[1]))
    table.add_line("  first error located in wrong solutions", mean([c.locates_error for c in wrong]))
    samples = [
        (c.p_correct, first_error(item, c.text) is None)
        for row, item in zip(table.rows[wide], table.items, strict=True)
        for c in row.candidates
        if c.p_correct is not None
    ]
    accepted = [[(p >= ACCEPT_AT) == ok for p, ok in samples if ok is kind] for kind in (True, False)]
    table.add_line("critic's verdict by likelihood, balanced", balanced(*accepted))
    table.add_line("  right solutions passed", mean(accepted[0]))
    error = calibration_error([p for p, _ in samples], [ok for _, ok in samples])
    table.add_line(f"expected calibration error of p_correct ({len(samples)} samples)", f"{error:.3f}")


def _family(table: ClaimsTable, name: str) -> list[str]:
    """Return the plans of a strategy, by increasing cost."""
    return sorted((known for known in table.rows if known.partition("@")[0] == name), key=table.tokens)


def _largest_vote(rows: Sequence[SolveRow], tokens: float | None) -> int:
    """Return the size of the largest vote that the tokens buy, at least 1."""
    largest = len(rows[0].candidates)
    if tokens is None:
        return largest
    return max((n for n in range(1, largest + 1) if price(rows, n, "majority") <= tokens), default=1)


def _in_band(items: Sequence[ProblemItem], right: Sequence[bool], band: str) -> list[bool]:
    return [ok for ok, item in zip(right, items, strict=True) if item.group == band]


def _only_first(first: Sequence[bool], second: Sequence[bool]) -> list[bool]:
    """Return, for each problem, whether it was solved the first time and not the second."""
    return [a and not b for a, b in zip(first, second, strict=True)]
