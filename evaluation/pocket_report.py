"""The table of the pocket pair, measured through the running services on problems that it was not trained on.

`claims` computes the claims that are made of the pair.
"""

from functools import partial
from pathlib import Path

import httpx

from evaluation import problem_sets
from evaluation.claims import BUDGETS, ClaimsTable, add_claims, add_critic
from evaluation.plans import GREEDY, limited, pocket_plan
from evaluation.replay import price, voted
from evaluation.role_clients import ORACLE_ROUNDS, RoleClients, critique_samples, refine_by_oracle, refine_without_critique
from evaluation.rows import RefinementRow, SampleCritiquesRow
from evaluation.runs import OnProgress, SolvePlan, run
from evaluation.statistics import mean, pass_at
from pocket.problems import BANDS
from services.jsonl import resume

TEMPERATURE = 0.8
TEMPERATURES = (0.5, 0.8, 1.0)
MAJORITY = 64
"""Samples of the largest vote, which is replayed at every smaller size."""
DEVELOPMENT = 200
"""Number of problems on which the rival's temperature is chosen for each budget."""


def _vote(temperature: float) -> SolvePlan:
    name = f"majority-{MAJORITY}-at-{temperature}"
    return pocket_plan(name, temperature, "best_of_n", n=MAJORITY, select="majority", stop_early=False)


WIDE = pocket_plan("critic-16", TEMPERATURE, "best_of_n", n=16, select="critic", stop_early=False)
ROUND = {"name": "refine", "rounds": 1}
PLANS = (
    GREEDY,
    pocket_plan("refine-2", 0.0, "refine", rounds=2),
    pocket_plan("refine-2-ungated", 0.0, "refine", rounds=2, gate=False),
    pocket_plan("refine-2-auto", 0.0, "refine", rounds=2, mode="auto", gate_depth="explain"),
    WIDE,
    pocket_plan("weighted-4-refined", TEMPERATURE, "best_of_n", n=4, select="weighted", stop_early=False, inner=ROUND),
    pocket_plan("step_beam", TEMPERATURE, "step_beam"),
    pocket_plan("iterative_deepening", 0.0, "iterative_deepening"),
    pocket_plan("auto", TEMPERATURE, "auto"),
)
LIMITED = (
    (pocket_plan("auto", TEMPERATURE, "auto"), ("2x", "4x", "6x", "10x", "16x", "24x")),
    (pocket_plan("refine", 0.0, "refine", mode="auto", gate_depth="explain"), ("2x", "6x", "10x", "16x")),
    (pocket_plan("best_of_n", TEMPERATURE, "best_of_n", n=16, select="weighted"), ("6x", "16x", "32x")),
)
"""Strategies and their hard limits, in multiples of the tokens of each problem's own greedy draft."""


async def measure(
    client: httpx.AsyncClient, clients: RoleClients, count: int, seed: int, out: Path, on_progress: OnProgress
) -> list[str]:
    """Measure everything that has no row in `out`; return the lines of the table."""
    table = ClaimsTable(problem_sets.pocket("test", count, seed))
    development = problem_sets.pocket("dev", DEVELOPMENT, seed)
    votes = [_vote(temperature) for temperature in TEMPERATURES]
    table.development = await run(client, votes, development, out / "dev", seed, on_progress)
    table.rows = await run(client, PLANS, table.items, out, seed, on_progress)
    table.draft = table.tokens(GREEDY.name)
    for plan, budgets in LIMITED:
        limits = limited([plan], budgets, table.rows[GREEDY.name])
        table.rows |= await run(client, limits, table.items, out, seed, on_progress)
    needed = {table.rival_vote(tokens) for tokens in (None, *(budget * table.draft for budget in BUDGETS))}
    rivals = [vote for vote in votes if vote.name in needed]
    table.votes = await run(client, rivals, table.items, out / "votes", seed, on_progress)
    await _measure_roles(table, clients, out, on_progress)
    _add_accuracies(table)
    add_claims(table, WIDE.name)
    add_critic(table, WIDE.name)
    return table.lines


async def _measure_roles(table: ClaimsTable, clients: RoleClients, out: Path, on_progress: OnProgress) -> None:
    """Call the role services directly, as no strategy does."""
    solutions = {row.id: row.solution for row in table.rows[GREEDY.name]}
    samples = {row.id: row.candidates for row in table.rows[WIDE.name]}
    for name, refine in (("ceiling", refine_by_oracle), ("control", refine_without_critique)):
        path, refine_item = out / f"{name}.jsonl", partial(refine, clients, solutions)
        table.refined[name] = await resume(path, RefinementRow, table.items, refine_item, partial(on_progress, name))
    path, critique = out / "judged.jsonl", partial(critique_samples, clients, samples)
    table.critiqued = await resume(path, SampleCritiquesRow, table.items, critique, partial(on_progress, "judged"))


def _add_accuracies(table: ClaimsTable) -> None:
    table.lines.append(f"{'':<44}{'all, 95%':>22}{''.join(f'{band:>9}' for band in BANDS)}{'tokens':>10}")
    table.add_accuracy("greedy", table.right("greedy"), table.draft)
    vote = table.rival_vote()
    rows = table.votes[vote]
    for n in (4, 8, 16, MAJORITY):
        title = f"majority of {n}, {vote.rpartition('-at-')[2]}"
        table.add_accuracy(title, voted(rows, n, "majority"), price(rows, n, "majority"))
    wide = table.rows[WIDE.name]
    for n in (4, 8, 16):
        table.add_accuracy(f"weighted vote of {n}", voted(wide, n, "weighted"), price(wide, n, "weighted"))
    for name in table.rows:
        if name != "greedy":
            table.add_accuracy(_title(name), table.right(name), table.tokens(name))
    ceiling = f"ceiling: the oracle's critique, {ORACLE_ROUNDS} rounds"
    for name, title in (("ceiling", ceiling), ("control", "control: refined, no critique")):
        refined = table.refined[name]
        tokens = sum(row.tokens for row in refined) / len(refined)
        table.add_accuracy(title, [row.right for row in refined], table.draft + tokens)
    for k in (1, 4, 16):
        passed = [pass_at(k, 16, sum(c.right for c in row.candidates)) for row in wide]
        table.add_line(f"pass@{k} at {TEMPERATURE}", mean(passed))


def _title(name: str) -> str:
    plan, at, limit = name.partition("@")
    return f"{plan}, limit {limit}" if at else plan
