"""Figures of a run as PNG files: accuracy against tokens, by group and by samples; flows; calibration; tokens by role."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from evaluation.replay import price, selected
from evaluation.report import FLOWS, PlanSummary, frontier, summarise
from evaluation.rows import SolveRow
from evaluation.runs import SolvePlan, rows_in
from evaluation.statistics import mean, pass_at
from orchestrator.selection import Select
from pocket.calibration import BINS, bin_of
from services.contracts.solve import ROLES

RowsByPlan = Mapping[str, Sequence[SolveRow]]

SELECTIONS: tuple[Select, ...] = ("majority", "weighted", "critic")
LABELS = {"majority": "maj@k", "weighted": "weighted@k", "critic": "best@k"}
WIDE = 4
"""Fewest plain samples of a `best_of_n` that is replayed at every smaller size."""
SIZE_INCHES = (7.0, 4.4)
BODY_INCHES, LINE_INCHES = 3.0, 0.16
"""Height of a figure without its legend and tick labels, and of a line of these."""
LEGEND_COLUMNS = 4
"""Legend entries that fit side by side; longer legends have two columns."""


def draw(folder: Path) -> list[Path]:
    """Draw the figures that a run's rows allow into its folder `figures`; return their paths. Raises `BadRun`."""
    manifest, rows = rows_in(folder)
    summaries = [summarise(name, of_plan, manifest.groups) for name, of_plan in rows.items()]
    wide = {name: rows[name] for name, plan in manifest.plans.items() if _is_wide(plan, rows[name])}
    judged = {name: of_plan for name, of_plan in wide.items() if _has_p_correct(of_plan)}
    figures: dict[str, Callable[[Any], None]] = {
        "pareto": lambda axes: pareto(axes, summaries, wide),
        "groups": lambda axes: groups(axes, summaries),
        "flows": lambda axes: flows(axes, summaries),
        "tokens": lambda axes: tokens(axes, summaries),
    }
    if wide:
        figures["samples"] = lambda axes: samples(axes, wide)
    if judged:
        figures["calibration"] = lambda axes: calibration(axes, judged)
    (folder / "figures").mkdir(exist_ok=True)
    paths = {name: folder / "figures" / f"{name}.png" for name in figures}
    for name, path in paths.items():
        _save(path, figures[name], f"{len(next(iter(rows.values())))} problems, seed {manifest.seed}")
    return list(paths.values())


def pareto(axes: Any, summaries: Sequence[PlanSummary], wide: RowsByPlan) -> None:  # noqa: ANN401 - matplotlib's axes are untyped
    """Plot accuracy against tokens: every plan with its interval, every vote by size, and the Pareto front."""
    families: dict[str, list[PlanSummary]] = {}
    for plan in summaries:
        families.setdefault(plan.name.partition("@")[0], []).append(plan)
    axes.set_prop_cycle(color=[plt.get_cmap("tab20")(place) for place in (*range(0, 20, 2), *range(1, 20, 2))])
    for name, family in families.items():
        ordered = sorted(family, key=lambda plan: plan.tokens)
        means, low, high = 100 * np.array([(p.accuracy.mean, p.accuracy.low, p.accuracy.high) for p in ordered]).T
        spread = (means - low, high - means)
        axes.errorbar([plan.tokens for plan in ordered], means, yerr=spread, marker="o", capsize=2, ms=4, lw=1, label=name)
    points = [(plan.name, plan.tokens, 100 * plan.accuracy.mean) for plan in summaries]
    for name, rows in wide.items():
        for select in _selections(rows):
            curve = [(price(rows, n, select), 100 * _accuracy(rows, n, select)) for n in _sizes(rows)]
            axes.plot(*zip(*curve, strict=True), ls=":", marker=".", lw=1, label=f"{LABELS[select]} of {name}")
            points += [(f"{name} {select} {place}", x, y) for place, (x, y) in enumerate(curve)]
    front = set(frontier(points))
    edge = sorted((x, y) for name, x, y in points if name in front)
    axes.step(*zip(*edge, strict=True), where="post", color="0.7", lw=4, alpha=0.5, zorder=0, label="Pareto front")
    axes.set(xscale="log", xlabel="tokens per problem, both roles, prompts included", ylabel="right, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())


def groups(axes: Any, summaries: Sequence[PlanSummary]) -> None:  # noqa: ANN401 - as above
    """Plot the accuracy of every plan by group of problems."""
    names = [plan.name for plan in summaries]
    for group in summaries[0].groups:
        axes.plot([100 * plan.groups[group] for plan in summaries], names, ls="", marker="o", label=group)
    axes.grid(axis="y", color="0.9")
    axes.invert_yaxis()
    axes.set(xlabel="right, %")


def samples(axes: Any, wide: RowsByPlan) -> None:  # noqa: ANN401 - as above
    """Plot pass@k, and the accuracy of the vote of the first k samples by each selection."""
    for name, rows in wide.items():
        sizes = _sizes(rows)
        n = sizes[-1]
        right = [sum(c.right for c in row.candidates[:n]) for row in rows]
        passed = [100 * mean([pass_at(k, n, count) for count in right]).mean for k in sizes]
        axes.plot(sizes, passed, marker="o", ms=3, label=f"pass@k of {name}")
        for select in _selections(rows):
            voted = [100 * _accuracy(rows, k, select) for k in sizes]
            axes.plot(sizes, voted, marker="o", ms=3, ls="--", label=f"{LABELS[select]} of {name}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="samples", ylabel="right, %")


def flows(axes: Any, summaries: Sequence[PlanSummary]) -> None:  # noqa: ANN401 - as above
    """Plot the flows from the first draft to the answer."""
    axes.set_prop_cycle(color=["#4c9f70", "#c44536", "#7fb7e6", "#bbbbbb"])
    _stack(axes, summaries, {flow: [100 * plan.flows[flow] for plan in summaries] for flow in FLOWS})
    axes.set(xlabel="problems, %")


def calibration(axes: Any, wide: RowsByPlan) -> None:  # noqa: ANN401 - as above
    """Plot the share of right solutions by bin of p_correct."""
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    for name, rows in wide.items():
        judged = [(c.p_correct, c.right) for row in rows for c in row.candidates if c.p_correct is not None]
        p, right = np.array([p for p, _ in judged]), np.array([right for _, right in judged], float)
        places = np.array([bin_of(p) for p, _ in judged])
        bins = [places == k for k in range(BINS) if (places == k).any()]
        sizes = [max(8, 300 * members.mean()) for members in bins]
        shares = [right[members].mean() for members in bins]
        axes.scatter([p[members].mean() for members in bins], shares, s=sizes, alpha=0.7, label=f"{name} ({len(p)} samples)")
    axes.set(xlabel="p_correct, mean of the bin", ylabel="share right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def tokens(axes: Any, summaries: Sequence[PlanSummary]) -> None:  # noqa: ANN401 - as above
    """Plot the mean tokens per problem by role."""
    _stack(axes, summaries, {role: [plan.by_role[role] for plan in summaries] for role in ROLES})
    axes.set(xlabel="tokens per problem")


def _stack(axes: Any, summaries: Sequence[PlanSummary], parts: Mapping[Any, Sequence[float]]) -> None:  # noqa: ANN401 - as above
    """Plot a horizontal bar for each plan, made of its value in each of the named parts."""
    left = np.zeros(len(summaries))
    for name, values in parts.items():
        axes.barh([plan.name for plan in summaries], values, left=left, label=name)
        left += values
    axes.invert_yaxis()


def _save(path: Path, plot: Callable[[Any], None], caption: str) -> None:
    figure, axes = plt.subplots(figsize=SIZE_INCHES, layout="constrained")
    plot(axes)
    entries = len(axes.get_legend_handles_labels()[1])
    columns = 2 if entries > LEGEND_COLUMNS else LEGEND_COLUMNS
    legend_lines = entries / 2 if entries > LEGEND_COLUMNS else 1
    figure.legend(loc="outside lower center", fontsize=7, ncols=columns)  # pyright: ignore[reportUnknownMemberType] - as above
    figure.set_figheight(BODY_INCHES + LINE_INCHES * (legend_lines + len(axes.get_yticklabels())))
    axes.set(title=caption)
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType] - its keywords are untyped
    plt.close(figure)


def _is_wide(plan: SolvePlan, rows: Sequence[SolveRow]) -> bool:
    """Return whether a plan is a vote of plain samples, and every solve drew all of them."""
    strategy = plan.strategy
    if len({len(row.candidates) for row in rows}) > 1:
        return False
    plain = strategy.get("inner", "single") in ("single", {"name": "single"})
    return strategy["name"] == "best_of_n" and strategy.get("n", 8) >= WIDE and plain and strategy.get("stop_early") is False


def _has_p_correct(rows: Sequence[SolveRow]) -> bool:
    return any(candidate.p_correct is not None for row in rows for candidate in row.candidates)


def _selections(rows: Sequence[SolveRow]) -> tuple[Select, ...]:
    return SELECTIONS if _has_p_correct(rows) else SELECTIONS[:1]


def _sizes(rows: Sequence[SolveRow]) -> list[int]:
    largest = max(len(row.candidates) for row in rows)
    return [*(2**k for k in range(largest.bit_length()) if 2**k < largest), largest]


def _accuracy(rows: Sequence[SolveRow], n: int, select: Select) -> float:
    return sum(selected(row, n, select) for row in rows) / len(rows)
