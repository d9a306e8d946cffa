"""How a command ends that cannot go on: one line that says why, and an exit code."""

from typing import NoReturn

import typer


def stop(message: str, code: int = 2) -> NoReturn:
    """Say why and exit with `code`; 2 is the user's mistake, 1 a check that failed, 3 nothing listening."""
    typer.echo(f"counterpoint: {message}", err=True)
    raise typer.Exit(code)
