"""Benchmarks: programs that print ratios measured in one run."""

import sys


def say(line: str) -> None:
    """Print a line of a report."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
