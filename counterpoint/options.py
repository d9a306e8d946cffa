"""Options that several commands share, and how a command ends if they are wrong."""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import httpx
import typer
from pydantic import ValidationError

from evaluation.problem_sets import first_mistake
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


@contextmanager
def stop_on(*errors: type[Exception]) -> Generator[None]:
    """Stop the command if one of `errors` is raised, alone or in a group: with code 3 for a transport error, else with 2."""
    error: BaseException | None = None
    try:
        yield
    except* errors as group:
        error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, httpx.TransportError):
        stop(f"a service cannot be reached: {error}", 3)
    if error is not None:
        stop(str(error))


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


def solve_request(
    problem: str,
    strategy: str | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    temperature: float | None = None,
) -> SolveRequest:
    """Return the request for a command's options; stop the command if they are invalid."""
    try:
        parsed = json.loads(strategy) if strategy and strategy.startswith("{") else strategy
    except json.JSONDecodeError as error:
        stop(f"--strategy: {error}")
    text = sys.stdin.read() if problem == "-" else problem
    sampling = {"seed": seed, "temperature": temperature}
    body = {"problem": text, "strategy": parsed, "budget": {"max_tokens": max_tokens}, "sampling": sampling}
    try:
        return SolveRequest.model_validate(body)
    except ValidationError as error:
        stop(first_mistake(error, "problem"))
