"""Entry point of `python -m counterpoint`."""

from counterpoint.cli import app

app()
