"""The table of the pocket pair: one command measures it through the running services, on problems it has never seen.

The rival at a budget is the better of greedy `single` and of a majority vote with as many samples as the same total tokens
buy, at the temperature that was best for it on the development split.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from evaluation import items, supervision
from evaluation.items import Item
from evaluation.runs import Plan, Progress, Row, rows_of, run
from evaluation.selections import selected
from evaluation.statistics import Estimate, balanced, calibration_error, difference, mean, pass_at
from evaluation.supervision import Services
from pocket.problems import BANDS

TEMPERATURE = 0.8
TEMPERATURES = (0.5, 0.8)
MAJORITY = 34
"""Samples of the vote that stands for every smaller one."""
DEVELOPMENT = 100
"""Problems on which the rival's temperature is chosen."""
BUDGETS = (6, 16)
"""Multiples of the tokens of one greedy draft."""
ROOMY = {"max_tokens": 1_000_000, "max_calls": 1_000, "max_seconds": 3_600}


def _vote(temperature: float) -> Plan:
    strategy = {"name": "best_of_n", "n": MAJORITY, "select": "majority", "stop_early": False}
    return Plan(f"majority-{MAJORITY}-at-{temperature}", strategy, _sampling(temperature), ROOMY)


def _sampling(temperature: float) -> dict[str, float]:
    return {"temperature": temperature, "max_tokens": 256}


def _best(n: int, select: str, **more: object) -> Plan:
    strategy = {"name": "best_of_n", "n": n, "select": select, "stop_early": False, **more}
    return Plan(f"{select}-{n}{'-refined' if more else ''}", strategy, _sampling(TEMPERATURE), ROOMY)


GREEDY = Plan("greedy", {"name": "single"}, _sampling(0.0), ROOMY)
REFINE = Plan("refine-2", {"name": "refine", "rounds": 2}, _sampling(0.0), ROOMY)
WIDE = _best(16, "critic")
REFINED = _best(4, "weighted", inner={"name": "refine", "rounds": 1})
PLANS = (GREEDY, REFINE, WIDE, REFINED)
WEIGHTED = tuple(range(2, 17))
"""Sizes of the weighted votes that are replayed over the samples of `WIDE`: a smaller call draws the first of them."""


@dataclass(slots=True)
class Table:
    """The figures, line by line; `right` holds who was right on which problem, for paired claims."""

    items: Sequence[Item]
    rows: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    lines: list[str] = field(default_factory=list[str])

    def right(self, name: str) -> list[bool]:
        """Whether each problem was solved, in the order of the items."""
        return [row["right"] for row in self.rows[name]]

    def tokens(self, name: str) -> float:
        """Mean tokens a problem, prompts and completions of both roles."""
        return sum(row["tokens"] for row in self.rows[name]) / len(self.items)

    def add(self, name: str, right: Sequence[bool], tokens: float) -> None:
        """A line with accuracy overall and by band."""
        bands = [
            mean([ok for ok, item in zip(right, self.items, strict=True) if item.level in levels]).mean
            for levels in BANDS.values()
        ]
        shown = "".join(f"{100 * share:9.1f}" for share in bands)
        self.lines.append(f"{name:<44}{mean(list(right))!s:>22}{shown}{tokens:10.0f}")

    def say(self, name: str, value: object) -> None:
        """A line of another kind."""
        self.lines.append(f"{name:<58}{value}")


async def measure(
    client: httpx.AsyncClient, services: Services, count: int, seed: int, out: Path, progress: Progress
) -> list[str]:
    """Run everything that is missing in `out`, and the lines of the table."""
    table = Table(items.pocket("test", count, seed))
    development = items.pocket("dev", DEVELOPMENT, seed)
    tuned = await run(client, [_vote(t) for t in TEMPERATURES], development, out / "dev", seed, progress)
    table.rows = await run(client, PLANS, table.items, out, seed, progress)
    at = max(TEMPERATURES, key=lambda t: _votes(tuned[_vote(t).name], MAJORITY).mean)
    vote = _vote(at)
    table.rows |= await run(client, [vote], table.items, out, seed, progress)
    await _supervised(table, services, out, progress)
    _accuracy(table, vote.name)
    _rival(table, vote.name)
    _critic(table)
    return table.lines


def _votes(rows: Sequence[Row], n: int) -> Estimate:
    return mean([selected(row, n, "majority") for row in rows])


async def _supervised(table: Table, services: Services, out: Path, progress: Progress) -> None:
    """The calls of the role services that no strategy makes."""
    drafts = {row["id"]: row["solution"] for row in table.rows["greedy"]}
    samples = {row["id"]: row["candidates"] for row in table.rows[WIDE.name]}

    def told(name: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(name, done, total)

    async def ceiling(item: Item) -> Row:
        return await supervision.ceiling(services, item, drafts[item.id])

    async def control(item: Item) -> Row:
        return await supervision.control(services, item, drafts[item.id])

    async def judged(item: Item) -> Row:
        return await supervision.judged(services, item, samples[item.id])

    for name, make in (("ceiling", ceiling), ("control", control), ("judged", judged)):
        table.rows[name] = await rows_of(out / f"{name}.jsonl", table.items, make, told(name))


def _accuracy(table: Table, vote: str) -> None:
    table.lines.append(f"{'':<44}{'all, 95%':>22}{''.join(f'{band:>9}' for band in BANDS)}{'tokens':>10}")
    one = table.tokens("greedy")
    table.add("greedy", table.right("greedy"), one)
    wide = table.rows[WIDE.name]
    table.add("one sample at 0.8", [row["candidates"][0]["right"] for row in wide], one)
    for n in (4, 8, 16, MAJORITY):
        table.add(f"majority of {n}", [selected(row, n, "majority") for row in table.rows[vote]], _cost(table, vote, n))
    table.add("refine, 2 gated rounds", table.right("refine-2"), table.tokens("refine-2"))
    for n in (4, 8, 16):
        table.add(f"weighted vote of {n}", _weighted(table, n), _cost(table, WIDE.name, n, 16))
    table.add("best of 16 by the critic", table.right(WIDE.name), table.tokens(WIDE.name))
    table.add("weighted vote of 4, each refined once", table.right(REFINED.name), table.tokens(REFINED.name))
    table.add("ceiling: the oracle's critique, 2 rounds", table.right("ceiling"), one + table.tokens("ceiling"))
    table.add("control: refined once without a critique", table.right("control"), one + table.tokens("control"))
    for k in (1, 4, 16):
        passed = [pass_at(k, 16, sum(c["right"] for c in row["candidates"])) for row in wide]
        table.say(f"pass@{k} at {TEMPERATURE}", mean(passed))


def _weighted(table: Table, n: int) -> list[bool]:
    return [selected(row, n, "weighted") for row in table.rows[WIDE.name]]


def _cost(table: Table, name: str, n: int, of: int = MAJORITY) -> float:
    """Mean tokens of the first `n` of a plan's `of` samples: the actor's prompt once, and a share of everything else."""
    usage = [row["usage"] for row in table.rows[name]]
    prompt = sum(part["actor"]["prompt_tokens"] for part in usage) / len(usage)
    rest = sum(part["actor"]["completion_tokens"] + part["critic"]["prompt_tokens"] for part in usage) / len(usage)
    return prompt + n / of * rest


def _rival(table: Table, vote: str) -> None:
    """The best of ours at each budget against the rival at the same tokens."""
    greedy, one = table.right("greedy"), table.tokens("greedy")
    table.say("the rival's temperature, chosen on the development split", vote.rpartition("-")[2])
    refined, majority = table.right("refine-2"), [selected(row, 8, "majority") for row in table.rows[vote]]
    table.say("refine, 2 rounds - greedy, paired", difference(refined, greedy))
    table.say("weighted vote of 8 - majority of 8, paired", difference(_weighted(table, 8), majority))
    broken = [before and not after for before, after in zip(greedy, refined, strict=True)]
    mended = [after and not before for before, after in zip(greedy, refined, strict=True)]
    table.say("refine, 2 rounds: right answers broken (c2i), of all items", mean(broken))
    table.say("refine, 2 rounds: wrong answers mended (i2c), of all items", mean(mended))
    for budget in BUDGETS:
        spent, ours, name = _ours(table, budget * one)
        n = max((k for k in range(1, MAJORITY + 1) if _cost(table, vote, k) <= max(spent, budget * one)), default=1)
        voted = [selected(row, n, "majority") for row in table.rows[vote]]
        rival, other = max((greedy, "greedy"), (voted, f"majority of {n}"), key=lambda pair: sum(pair[0]))
        table.say(f"{budget}x: {name} ({spent / one:.1f}x) - {other}, paired", difference(ours, rival))


def _ours(table: Table, most: float) -> tuple[float, list[bool], str]:
    """The best that is affordable, with a twentieth to spare: its tokens, who it had right, its name."""
    found = [(table.tokens(plan.name), table.right(plan.name), plan.name) for plan in PLANS]
    found += [(_cost(table, WIDE.name, n, 16), _weighted(table, n), f"weighted vote of {n}") for n in WEIGHTED]
    affordable = [option for option in found if option[0] <= 1.05 * most]
    return max(affordable, key=lambda option: sum(option[1]))


def _critic(table: Table) -> None:
    critiques: list[Mapping[str, object]] = [c for row in table.rows["judged"] for c in row["critiques"]]
    right = [c for c in critiques if c["right"]]
    wrong = [c for c in critiques if not c["right"]]
    told = [[c["verdict"] == "correct" for c in right], [c["verdict"] == "incorrect" for c in wrong]]
    table.say(f"critic's verdict in words, balanced ({len(right)} + {len(wrong)})", balanced(*told))
    table.say("  right solutions passed", mean(told[0]))
    table.say("  wrong solutions caught", mean(told[1]))
    table.say("  first error located in wrong solutions", mean([c["first_error"] == c["true_first_error"] for c in wrong]))
    samples = [
        (c["p_correct"], supervision.first_error(item, c["text"]) is None)
        for row, item in zip(table.rows[WIDE.name], table.items, strict=True)
        for c in row["candidates"]
        if c["p_correct"] is not None
    ]
    gate = [[(p >= 0.5) == ok for p, ok in samples if ok is kind] for kind in (True, False)]  # noqa: PLR2004 - accept_at
    table.say("critic's verdict by likelihood, balanced", balanced(*gate))
    table.say("  right solutions passed", mean(gate[0]))
    error = calibration_error([p for p, _ in samples], [ok for _, ok in samples])
    table.say(f"expected calibration error of p_correct ({len(samples)} samples)", f"{error:.3f}")
