"""Benchmarks of the service itself: each program measures and prints the figures of one run."""

import sys


def print_line(line: str) -> None:
    """Print a line of a report at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
