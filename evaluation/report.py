"""What a run found: a line a plan, the Pareto front, the flows between draft and answer."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.runs import Row, rows_in
from evaluation.statistics import Estimate, mean
from services.contracts.solve import ROLES, Role

FLOWS = ("c2c", "c2i", "i2c", "i2i")
"""From the first draft to the answer: correct or incorrect, then correct or incorrect; shares of all problems."""


@dataclass(frozen=True, slots=True)
class Line:
    """A plan's figures over its problems: shares in [0, 1], tokens a problem."""

    name: str
    accuracy: Estimate
    groups: dict[str, float]
    tokens: float
    by_role: dict[Role, float]
    flows: dict[str, float]
    failed: int

    @property
    def cells(self) -> list[str]:
        """As a row of the table."""
        groups = [f"{100 * share:.1f}" for share in self.groups.values()]
        tokens = [f"{self.tokens:.0f}", *(f"{self.by_role[role]:.0f}" for role in ROLES)]
        flows = [f"{100 * self.flows[flow]:.1f}" for flow in ("c2i", "i2c")]
        return [self.name, str(self.accuracy).strip(), *groups, *tokens, *flows, str(self.failed)]


def lines(rows: Mapping[str, Sequence[Row]], groups: Mapping[str, str]) -> list[Line]:
    """A line for each plan; `groups` tells the group of each problem."""
    return [line(name, found, groups) for name, found in rows.items()]


def line(name: str, rows: Sequence[Row], groups: Mapping[str, str]) -> Line:
    """The figures of one plan."""
    by_group: dict[str, list[bool]] = {}
    for row in sorted(rows, key=lambda row: (row["level"], groups[row["id"]])):
        by_group.setdefault(groups[row["id"]], []).append(row["right"])
    return Line(
        name,
        mean([row["right"] for row in rows]),
        {group: sum(right) / len(right) for group, right in by_group.items()},
        sum(row["tokens"] for row in rows) / len(rows),
        {role: sum(_tokens(row, role) for row in rows) / len(rows) for role in ROLES},
        flows(rows),
        sum("failed" in row for row in rows),
    )


def flows(rows: Sequence[Row]) -> dict[str, float]:
    """Shares of all problems by whether the first draft and the answer were right; a failed solve is i2i."""
    counts: dict[str, int] = dict.fromkeys(FLOWS, 0)
    for row in rows:
        before = bool(row["candidates"][0]["right"]) if row["candidates"] else False
        counts[f"{'c' if before else 'i'}2{'c' if row['right'] else 'i'}"] += 1
    return {flow: count / len(rows) for flow, count in counts.items()}


def frontier(points: Iterable[tuple[str, float, float]]) -> list[str]:
    """Names of the (name, tokens, accuracy) points that no other point beats at no more tokens, the cheapest first."""
    best, front = -1.0, list[str]()
    for name, _, accuracy in sorted(points, key=lambda point: (point[1], -point[2])):
        if accuracy > best:
            best = accuracy
            front.append(name)
    return front


def table(found: Sequence[Line]) -> str:
    """Every line, as Markdown; plans on the Pareto front are marked."""
    front = set(frontier((entry.name, entry.tokens, entry.accuracy.mean) for entry in found))
    heads = ["plan", "right, 95%", *found[0].groups, "tokens", *ROLES, "c2i", "i2c", "failed"]
    body = [[f"{entry.name} *" if entry.name in front else entry.name, *entry.cells[1:]] for entry in found]
    widths = [max(len(row[k]) for row in (heads, *body)) for k in range(len(heads))]
    aligned = [_row(row, widths) for row in (heads, ["-" * width for width in widths], *body)]
    count = (
        "Tokens a problem, prompts and completions; c2i and i2c from the first draft to the answer, in %; * Pareto front."
    )
    return "\n".join([*aligned, "", count])


def failure(rows: Mapping[str, Sequence[Row]]) -> str | None:
    """The first solve that failed, in words."""
    failed = ((name, row) for name, found in rows.items() for row in found if "failed" in row)
    return next((f"{name}, {row['id']}: {row['failed']['code']}: {row['failed']['detail']}" for name, row in failed), None)


def report(folder: Path) -> str:
    """The table of a folder, which also gets it as `summary.md` and `summary.json`. Raises `BadRun`."""
    manifest, rows = rows_in(folder)
    found = lines(rows, manifest.groups)
    text = table(found)
    count = len(next(iter(rows.values())))
    (folder / "summary.md").write_text(f"{count} problems, seed {manifest.seed}.\n\n{text}\n", "utf-8")
    summary = json.dumps({"problems": count, "plans": [asdict(entry) for entry in found]}, indent=1)
    (folder / "summary.json").write_text(f"{summary}\n", "utf-8")
    failed = failure(rows)
    return f"{count} problems, seed {manifest.seed}.\n\n{text}" + (f"\nFailed, for instance {failed}" if failed else "")


def _tokens(row: Row, role: Role) -> int:
    if "usage" not in row:
        return 0
    used = row["usage"][role]
    return used["prompt_tokens"] + used["completion_tokens"]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
