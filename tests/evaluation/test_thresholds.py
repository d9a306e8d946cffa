"""Fitting the thresholds of `auto`."""

import json
from pathlib import Path

from evaluation.thresholds import FILE, Tried, best, save, tried
from orchestrator.strategies.auto import Auto


def test_the_cheapest_of_the_good_ones_is_chosen():
    """Within one standard error of the best; a cheap one that is worse is not."""
    found = [Tried(0.5, 0.6, 0.80, 300), Tried(0.7, 0.6, 0.89, 700), Tried(0.9, 0.6, 0.90, 900), Tried(0.97, 0.6, 0.89, 650)]
    assert best(found, 100).tokens == 650
    assert best(found, 1_000_000).tokens == 900


def test_a_run_is_summed_up():
    """Shares and means over rows."""
    rows = [{"right": True, "tokens": 100}, {"right": False, "tokens": 300}]
    assert tried(0.5, 0.9, rows) == Tried(0.5, 0.9, 0.5, 200)


def test_what_is_saved_is_what_the_strategy_starts_with(tmp_path: Path):
    """The file's thresholds are the defaults, and it says what they were fitted on."""
    save(Tried(0.7, 0.8, 0.91, 800), 300, 5, tmp_path / "auto.json")
    written = json.loads((tmp_path / "auto.json").read_text("utf-8"))
    assert (written["accept_at"], written["agree_at"]) == (0.7, 0.8)
    shipped = json.loads(FILE.read_text("utf-8"))
    assert (Auto().accept_at, Auto().agree_at) == (shipped["accept_at"], shipped["agree_at"])
    assert "development split" in shipped["fitted_on"]
