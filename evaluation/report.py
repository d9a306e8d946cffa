"""Report of a run: a line for each plan, the Pareto front, and the flows from first drafts to answers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.rows import SolveRow
from evaluation.runs import rows_in
from evaluation.statistics import Estimate, mean
from services.contracts.solve import ROLES, Role

FLOWS = ("c2c", "c2i", "i2c", "i2i")
"""Correctness of the first draft, then of the answer: c for correct, i for incorrect."""


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """The results of a plan over its problems: shares in [0, 1], mean tokens per problem, number of failed solves."""

    name: str
    accuracy: Estimate
    groups: dict[str, float]
    tokens: float
    by_role: dict[Role, float]
    flows: dict[str, float]
    failed: int


def summarise(name: str, rows: Sequence[SolveRow], groups: Mapping[str, str]) -> PlanSummary:
    """Summarise the rows of a plan; `groups` maps the id of a problem to its group."""
    by_group: dict[str, list[bool]] = {}
    for row in sorted(rows, key=lambda row: (row.level, groups[row.id])):
        by_group.setdefault(groups[row.id], []).append(row.right)
    return PlanSummary(
        name,
        mean([row.right for row in rows]),
        {group: sum(right) / len(right) for group, right in by_group.items()},
        sum(row.tokens for row in rows) / len(rows),
        {role: sum(_tokens(row, role) for row in rows) / len(rows) for role in ROLES},
        flows(rows),
        sum(row.failed is not None for row in rows),
    )


def flows(rows: Sequence[SolveRow]) -> dict[str, float]:
    """Return the share of all problems that each of `FLOWS` has; a failed solve is i2i."""
    counts: dict[str, int] = dict.fromkeys(FLOWS, 0)
    for row in rows:
        before = row.candidates[0].right if row.candidates else False
        counts[f"{'c' if before else 'i'}2{'c' if row.right else 'i'}"] += 1
    return {flow: count / len(rows) for flow, count in counts.items()}


def frontier(points: Iterable[tuple[str, float, float]]) -> list[str]:
    """Return the Pareto front of (name, tokens, accuracy) points, as names by increasing cost."""
    best, front = -1.0, list[str]()
    for name, _, accuracy in sorted(points, key=lambda point: (point[1], -point[2])):
        if accuracy > best:
            best = accuracy
            front.append(name)
    return front


def table(summaries: Sequence[PlanSummary]) -> str:
    """Return a Markdown table with a row for each plan; those on the Pareto front are marked."""
    front = set(frontier((plan.name, plan.tokens, plan.accuracy.mean) for plan in summaries))
    heads = ["plan", "right, 95%", *summaries[0].groups, "tokens", *ROLES, "c2i", "i2c", "failed"]
    body = [_cells(plan, f"{plan.name} *" if plan.name in front else plan.name) for plan in summaries]
    widths = [max(len(row[k]) for row in (heads, *body)) for k in range(len(heads))]
    aligned = [_aligned(row, widths) for row in (heads, ["-" * width for width in widths], *body)]
    legend = "Tokens per problem, prompts and completions; c2i and i2c from first draft to answer, in %; * Pareto front."
    return "\n".join([*aligned, "", legend])


def first_failure(rows: Mapping[str, Sequence[SolveRow]]) -> str | None:
    """Return the plan, the problem and the error of the first solve that failed, None if none did."""
    failures = ((f"{name}, {row.id}", row.failed) for name, of_plan in rows.items() for row in of_plan)
    return next((f"{solve}: {error.code}: {error.detail}" for solve, error in failures if error is not None), None)


def report(folder: Path) -> str:
    """Return the table of a run, and write it to its folder as `summary.md` and `summary.json`. Raises `BadRun`."""
    manifest, rows = rows_in(folder)
    summaries = [summarise(name, of_plan, manifest.groups) for name, of_plan in rows.items()]
    count = len(next(iter(rows.values())))
    text = f"{count} problems, seed {manifest.seed}.\n\n{table(summaries)}"
    (folder / "summary.md").write_text(f"{text}\n", "utf-8")
    summary = json.dumps({"problems": count, "plans": [asdict(plan) for plan in summaries]}, indent=1)
    (folder / "summary.json").write_text(f"{summary}\n", "utf-8")
    failure = first_failure(rows)
    return f"{text}\nFirst failure: {failure}" if failure else text


def _cells(plan: PlanSummary, name: str) -> list[str]:
    shares = [f"{100 * share:.1f}" for share in plan.groups.values()]
    tokens = [f"{number:.0f}" for number in (plan.tokens, *(plan.by_role[role] for role in ROLES))]
    flows = [f"{100 * plan.flows[flow]:.1f}" for flow in ("c2i", "i2c")]
    return [name, str(plan.accuracy).strip(), *shares, *tokens, *flows, str(plan.failed)]


def _tokens(row: SolveRow, role: Role) -> int:
    return (row.usage.actor if role == "actor" else row.usage.critic).total_tokens


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
