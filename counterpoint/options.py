"""Options that several commands share, and how a command ends if they are wrong."""

import json
import os
import sys
from typing import Annotated, NoReturn

import httpx
import typer
from pydantic import ValidationError

from orchestrator.request import SolveRequest

DEFAULT_URL = "http://127.0.0.1:8080"

ProblemArgument = Annotated[str, typer.Argument(help="The problem to solve; - reads it from standard input.")]
UrlOption = Annotated[
    str | None, typer.Option(help=f"Address of the orchestrator; by default $COUNTERPOINT_URL, else {DEFAULT_URL}.")
]
StrategyOption = Annotated[str, typer.Option(help="Name of a strategy, or a JSON object as in POST /solve.")]
MaxTokensOption = Annotated[
    int | None, typer.Option(help="Token budget of a solve: prompts and completions of actor and critic.")
]
SeedOption = Annotated[int | None, typer.Option(help="Random seed, for a reproducible solve.")]
ModelsOption = Annotated[
    str, typer.Option(help="Models to run: pocket, smollm2, scripted, or the path of a GGUF file for both roles.")
]


def stop(message: str, code: int = 2) -> NoReturn:
    """Print `message` and exit with `code`: 2 for wrong usage, 1 for a failed check, 3 for an unreachable service."""
    typer.echo(f"counterpoint: {message}", err=True)
    raise typer.Exit(code)


def address(url: str | None) -> str:
    """Return `url`, or the address in the environment; stop the command if it is not an address."""
    url = url or os.environ.get("COUNTERPOINT_URL", DEFAULT_URL)
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        stop(f"{url}: {error}")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        stop(f"{url} is not an address: give one like {DEFAULT_URL}")
    return url


def solve_request(problem: str, strategy: str, max_tokens: int | None, seed: int | None) -> SolveRequest:
    """Return the request for a command's options; stop the command if they are invalid."""
    try:
        parsed = json.loads(strategy) if strategy.startswith("{") else strategy
    except json.JSONDecodeError as error:
        stop(f"--strategy: {error}")
    text = sys.stdin.read() if problem == "-" else problem
    body = {"problem": text, "strategy": parsed, "budget": {"max_tokens": max_tokens}, "sampling": {"seed": seed}}
    try:
        return SolveRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        stop(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
