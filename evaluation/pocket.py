"""The table of the pocket pair: one command measures it through the running services, on problems it has never seen.

What is claimed of it is in `claims`.
"""

from collections.abc import Callable
from pathlib import Path

import httpx

from evaluation import items, supervision
from evaluation.claims import BUDGETS, Table, claims, critic
from evaluation.items import Item
from evaluation.plans import GREEDY, ROOMY, limited
from evaluation.runs import Plan, Progress, Row, rows_of, run
from evaluation.selections import price, selected
from evaluation.statistics import mean, pass_at
from evaluation.supervision import Services
from pocket.problems import BANDS

TEMPERATURE = 0.8
TEMPERATURES = (0.5, 0.8, 1.0)
MAJORITY = 64
"""Samples of the vote that stands for every smaller one."""
DEVELOPMENT = 200
"""Problems on which the rival's temperature is chosen, for each budget."""


def _plan(name: str, temperature: float, strategy: str, **more: object) -> Plan:
    return Plan(name, {"name": strategy, **more}, {"temperature": temperature, "max_tokens": 256}, dict(ROOMY))


def _vote(temperature: float) -> Plan:
    name = f"majority-{MAJORITY}-at-{temperature}"
    return _plan(name, temperature, "best_of_n", n=MAJORITY, select="majority", stop_early=False)


WIDE = _plan("critic-16", TEMPERATURE, "best_of_n", n=16, select="critic", stop_early=False)
ROUND = {"name": "refine", "rounds": 1}
PLANS = (
    GREEDY,
    _plan("refine-2", 0.0, "refine", rounds=2),
    _plan("refine-2-ungated", 0.0, "refine", rounds=2, gate=False),
    _plan("refine-2-auto", 0.0, "refine", rounds=2, mode="auto", gate_depth="explain"),
    WIDE,
    _plan("weighted-4-refined", TEMPERATURE, "best_of_n", n=4, select="weighted", stop_early=False, inner=ROUND),
    _plan("step_beam", TEMPERATURE, "step_beam"),
    _plan("iterative_deepening", 0.0, "iterative_deepening"),
    _plan("auto", TEMPERATURE, "auto"),
)
LIMITED = (
    (_plan("auto", TEMPERATURE, "auto"), ("2x", "4x", "6x", "10x", "16x", "24x")),
    (_plan("refine", 0.0, "refine", mode="auto", gate_depth="explain"), ("2x", "6x", "10x", "16x")),
    (_plan("best_of_n", TEMPERATURE, "best_of_n", n=16, select="weighted"), ("6x", "16x", "32x")),
)
"""Strategies under hard limits, in multiples of each problem's own greedy draft."""


async def measure(
    client: httpx.AsyncClient, services: Services, count: int, seed: int, out: Path, progress: Progress
) -> list[str]:
    """Run everything that is missing in `out`, and the lines of the table."""
    table = Table(items.pocket("test", count, seed))
    development = items.pocket("dev", DEVELOPMENT, seed)
    votes = [_vote(temperature) for temperature in TEMPERATURES]
    table.development = await run(client, votes, development, out / "dev", seed, progress)
    table.rows = await run(client, PLANS, table.items, out, seed, progress)
    table.draft = table.tokens(GREEDY.name)
    for plan, budgets in LIMITED:
        limits = limited([plan], budgets, table.rows[GREEDY.name])
        table.rows |= await run(client, limits, table.items, out, seed, progress)
    needed = {table.rival_vote(tokens) for tokens in (None, *(budget * table.draft for budget in BUDGETS))}
    chosen = [vote for vote in votes if vote.name in needed]
    table.votes = await run(client, chosen, table.items, out / "votes", seed, progress)
    await _supervised(table, services, out, progress)
    _accuracy(table)
    claims(table, WIDE.name)
    critic(table, WIDE.name)
    return table.lines


async def _supervised(table: Table, services: Services, out: Path, progress: Progress) -> None:
    """The calls of the role services that no strategy makes."""
    solutions = {row["id"]: row["solution"] for row in table.rows[GREEDY.name]}
    samples = {row["id"]: row["candidates"] for row in table.rows[WIDE.name]}

    def told(name: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(name, done, total)

    async def ceiling(item: Item) -> Row:
        return await supervision.ceiling(services, item, solutions[item.id])

    async def control(item: Item) -> Row:
        return await supervision.control(services, item, solutions[item.id])

    async def judged(item: Item) -> Row:
        return await supervision.judged(services, item, samples[item.id])

    for name, make in (("ceiling", ceiling), ("control", control), ("judged", judged)):
        table.supervised[name] = await rows_of(out / f"{name}.jsonl", table.items, make, told(name))


def _accuracy(table: Table) -> None:
    table.lines.append(f"{'':<44}{'all, 95%':>22}{''.join(f'{band:>9}' for band in BANDS)}{'tokens':>10}")
    one = table.draft
    table.add("greedy", table.right("greedy"), one)
    vote, rows = table.rival_votes()
    for n in (4, 8, 16, MAJORITY):
        right = [selected(row, n, "majority") for row in rows]
        table.add(f"majority of {n}, {vote.rpartition('-at-')[2]}", right, price(rows, n, "majority"))
    wide = table.rows[WIDE.name]
    for n in (4, 8, 16):
        table.add(f"weighted vote of {n}", [selected(row, n, "weighted") for row in wide], price(wide, n, "weighted"))
    for name in table.rows:
        if name != "greedy":
            table.add(_named(name), table.right(name), table.tokens(name))
    for name, said in (
        ("ceiling", "ceiling: the oracle's critique, 2 rounds"),
        ("control", "control: refined, no critique"),
    ):
        found = table.supervised[name]
        table.add(said, [row["right"] for row in found], one + sum(row["tokens"] for row in found) / len(found))
    for k in (1, 4, 16):
        passed = [pass_at(k, 16, sum(c["right"] for c in row["candidates"])) for row in wide]
        table.say(f"pass@{k} at {TEMPERATURE}", mean(passed))


def _named(name: str) -> str:
    plan, at, limit = name.partition("@")
    return f"{plan}, limit {limit}" if at else plan
