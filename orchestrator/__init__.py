"""Spends a compute budget on actor and critic: budget, strategies, selection, runner, routes."""
