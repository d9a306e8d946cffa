"""The figures of a run, as PNG files: accuracy against tokens, by group, by samples, flows, calibration, tokens by role."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from evaluation.report import FLOWS, Line, frontier, lines
from evaluation.runs import Manifest, Plan, Row, rows_in
from evaluation.selections import price, selected
from evaluation.statistics import BINS, mean, pass_at
from orchestrator.selection import Select
from services.contracts.solve import ROLES

Rows = Mapping[str, Sequence[Row]]

SELECTIONS: tuple[Select, ...] = ("majority", "weighted", "critic")
NAMES = {"majority": "maj@k", "weighted": "weighted@k", "critic": "best@k"}
WIDE = 4
"""A `best_of_n` of at least so many plain samples is replayed at every smaller size."""
INCHES = (7.0, 4.4)
BODY, LINE = 3.0, 0.16
"""Height of what every figure has, and of a line of its legend or its names."""
FEW = 4
"""Names that fit side by side."""


def draw(folder: Path) -> list[Path]:
    """Draw what the folder's rows allow, into its `figures`. Raises `BadRun`."""
    manifest, rows = rows_in(folder)
    found = lines(rows, manifest.groups)
    wide = [name for name, plan in manifest.plans.items() if _is_wide(plan, rows[name])]
    judged = [name for name in wide if any(c["p_correct"] is not None for row in rows[name] for c in row["candidates"])]
    figures: dict[str, Callable[[Any], None] | None] = {
        "pareto": lambda axes: pareto(axes, found, {name: rows[name] for name in wide}),
        "groups": lambda axes: groups(axes, found),
        "samples": (lambda axes: samples(axes, {name: rows[name] for name in wide})) if wide else None,
        "flows": lambda axes: flows(axes, found),
        "calibration": (lambda axes: calibration(axes, {name: rows[name] for name in judged})) if judged else None,
        "tokens": lambda axes: tokens(axes, found),
    }
    drawn = [name for name, make in figures.items() if make is not None]
    (folder / "figures").mkdir(exist_ok=True)
    for name in drawn:
        make = figures[name]
        if make is not None:
            _save(folder / "figures" / f"{name}.png", make, _caption(manifest, rows))
    return [folder / "figures" / f"{name}.png" for name in drawn]


def pareto(axes: Any, found: Sequence[Line], wide: Rows) -> None:  # noqa: ANN401 - matplotlib's axes are untyped
    """Accuracy against tokens: every plan with its interval, every vote by size, and the front."""
    families: dict[str, list[Line]] = {}
    for entry in found:
        families.setdefault(entry.name.partition("@")[0], []).append(entry)
    axes.set_prop_cycle(color=[plt.get_cmap("tab20")(place) for place in (*range(0, 20, 2), *range(1, 20, 2))])
    for name, family in families.items():
        ordered = sorted(family, key=lambda entry: entry.tokens)
        means = [100 * entry.accuracy.mean for entry in ordered]
        spread = [
            [mean - 100 * entry.accuracy.low for mean, entry in zip(means, ordered, strict=True)],
            [100 * entry.accuracy.high - mean for mean, entry in zip(means, ordered, strict=True)],
        ]
        axes.errorbar([entry.tokens for entry in ordered], means, yerr=spread, marker="o", capsize=2, ms=4, lw=1, label=name)
    points = [(entry.name, entry.tokens, 100 * entry.accuracy.mean) for entry in found]
    for name, rows in wide.items():
        for select in _selections(rows):
            curve = [(price(rows, n, select), 100 * _accuracy(rows, n, select)) for n in _sizes(rows)]
            axes.plot(*zip(*curve, strict=True), ls=":", marker=".", lw=1, label=f"{NAMES[select]} of {name}")
            points += [(f"{name} {select} {place}", x, y) for place, (x, y) in enumerate(curve)]
    front = set(frontier(points))
    edge = sorted((x, y) for name, x, y in points if name in front)
    axes.step(*zip(*edge, strict=True), where="post", color="0.7", lw=4, alpha=0.5, zorder=0, label="Pareto front")
    axes.set(xscale="log", xlabel="tokens a problem, both roles, prompts included", ylabel="right, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())


def groups(axes: Any, found: Sequence[Line]) -> None:  # noqa: ANN401 - as above
    """Accuracy of every plan by group of problems."""
    for group in found[0].groups:
        axes.plot(
            [100 * entry.groups[group] for entry in found], [entry.name for entry in found], ls="", marker="o", label=group
        )
    axes.grid(axis="y", color="0.9")
    axes.invert_yaxis()
    axes.set(xlabel="right, %")


def samples(axes: Any, wide: Rows) -> None:  # noqa: ANN401 - as above
    """pass@k, and the vote of the first k samples by each selection."""
    for name, rows in wide.items():
        sizes = _sizes(rows)
        n = sizes[-1]
        right = [sum(c["right"] for c in row["candidates"][:n]) for row in rows]
        passed = [100 * mean([pass_at(k, n, count) for count in right]).mean for k in sizes]
        axes.plot(sizes, passed, marker="o", ms=3, label=f"pass@k of {name}")
        for select in _selections(rows):
            voted = [100 * _accuracy(rows, k, select) for k in sizes]
            axes.plot(sizes, voted, marker="o", ms=3, ls="--", label=f"{NAMES[select]} of {name}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="samples", ylabel="right, %")


def flows(axes: Any, found: Sequence[Line]) -> None:  # noqa: ANN401 - as above
    """From the first draft to the answer."""
    left = np.zeros(len(found))
    for flow, colour in zip(FLOWS, ("#4c9f70", "#c44536", "#7fb7e6", "#bbbbbb"), strict=True):
        shares = np.array([100 * entry.flows[flow] for entry in found])
        axes.barh([entry.name for entry in found], shares, left=left, color=colour, label=flow)
        left += shares
    axes.invert_yaxis()
    axes.set(xlabel="problems, %")


def calibration(axes: Any, wide: Rows) -> None:  # noqa: ANN401 - as above
    """How often a solution is right whose p_correct lies in a bin."""
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    for name, rows in wide.items():
        known = [(c["p_correct"], c["right"]) for row in rows for c in row["candidates"] if c["p_correct"] is not None]
        p, right = np.array([p for p, _ in known]), np.array([right for _, right in known], float)
        places = np.minimum((p * BINS).astype(int), BINS - 1)
        bins = [places == k for k in range(BINS) if (places == k).any()]
        sizes = [max(8, 300 * chosen.mean()) for chosen in bins]
        shares = [right[chosen].mean() for chosen in bins]
        axes.scatter([p[chosen].mean() for chosen in bins], shares, s=sizes, alpha=0.7, label=f"{name} ({len(p)} samples)")
    axes.set(xlabel="p_correct, mean of the bin", ylabel="share right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def tokens(axes: Any, found: Sequence[Line]) -> None:  # noqa: ANN401 - as above
    """Tokens a problem by role."""
    left = np.zeros(len(found))
    for role in ROLES:
        used = np.array([entry.by_role[role] for entry in found])
        axes.barh([entry.name for entry in found], used, left=left, label=role)
        left += used
    axes.invert_yaxis()
    axes.set(xlabel="tokens a problem")


def _save(path: Path, make: Callable[[Any], None], caption: str) -> None:
    figure, axes = plt.subplots(figsize=INCHES, layout="constrained")
    make(axes)
    named = len(axes.get_legend_handles_labels()[1])
    columns = 2 if named > FEW else FEW
    figure.legend(loc="outside lower center", fontsize=7, ncols=columns)  # pyright: ignore[reportUnknownMemberType] - as above
    figure.set_figheight(BODY + LINE * max(named / 2 if named > FEW else 1, 0) + LINE * len(axes.get_yticklabels()))
    axes.set(title=caption)
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType] - its keywords are untyped
    plt.close(figure)


def _caption(manifest: Manifest, rows: Rows) -> str:
    return f"{len(next(iter(rows.values())))} problems, seed {manifest.seed}"


def _is_wide(plan: Plan, rows: Sequence[Row]) -> bool:
    """Whether every solve drew all of a vote's plain samples."""
    asked = plan.strategy
    if len({len(row["candidates"]) for row in rows}) > 1:
        return False
    plain = asked.get("inner", "single") in ("single", {"name": "single"})
    return asked["name"] == "best_of_n" and asked.get("n", 8) >= WIDE and plain and asked.get("stop_early") is False


def _selections(rows: Sequence[Row]) -> tuple[Select, ...]:
    judged = any(c["p_correct"] is not None for row in rows for c in row["candidates"])
    return SELECTIONS if judged else SELECTIONS[:1]


def _sizes(rows: Sequence[Row]) -> list[int]:
    most = max(len(row["candidates"]) for row in rows)
    return [*(2**k for k in range(most.bit_length()) if 2**k < most), most]


def _accuracy(rows: Sequence[Row], n: int, select: Select) -> float:
    return sum(selected(row, n, select) for row in rows) / len(rows)
