"""The fit of the thresholds of `auto`."""

import json
from pathlib import Path

from evaluation.rows import SolveRow
from evaluation.thresholds import FILE, GridPoint, best, grid_point, save
from orchestrator.strategies.auto import Auto


def test_the_cheapest_point_within_one_standard_error_is_the_best():
    """More problems make the standard error smaller, and leave only the most accurate point."""
    figures = [(0.5, 0.80, 300), (0.7, 0.89, 700), (0.9, 0.90, 900), (0.97, 0.89, 650)]
    points = [GridPoint(accept_at, 0.6, accuracy, tokens) for accept_at, accuracy, tokens in figures]
    assert best(points, 100).tokens == 650
    assert best(points, 1_000_000).tokens == 900


def test_a_point_summarises_its_rows():
    """Its accuracy is the share of right answers, and its tokens are the mean."""
    results = ((True, 100), (False, 300))
    rows = [SolveRow(id="a", level=1, right=right, tokens=tokens, candidates=()) for right, tokens in results]
    assert grid_point(0.5, 0.9, rows) == GridPoint(0.5, 0.9, 0.5, 200)


def test_saved_thresholds_are_the_defaults_of_the_strategy(tmp_path: Path):
    """The file that comes with the strategy names the problems that they were fitted on."""
    save(GridPoint(0.7, 0.8, 0.91, 800), 300, 5, tmp_path / "auto.json")
    written = json.loads((tmp_path / "auto.json").read_text("utf-8"))
    assert (written["accept_at"], written["agree_at"]) == (0.7, 0.8)
    shipped = json.loads(FILE.read_text("utf-8"))
    assert (Auto().accept_at, Auto().agree_at) == (shipped["accept_at"], shipped["agree_at"])
    assert "development split" in shipped["fitted_on"]
