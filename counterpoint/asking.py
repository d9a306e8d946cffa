"""What commands that ask a service have in common: where it is, and what is asked."""

import json
import sys
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError

from counterpoint import up as stack
from counterpoint.ending import stop
from orchestrator.request import SolveRequest

UrlOption = Annotated[str | None, typer.Option(help="The orchestrator; else COUNTERPOINT_URL, else the local one.")]


def address(url: str | None) -> str:
    """The address of a service, where none is given the one that the environment names; what is none ends the command."""
    found = url or stack.url_from_environment()
    try:
        parsed = httpx.URL(found)
    except httpx.InvalidURL as error:
        stop(f"{found}: {error}")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        stop(f"{found} is not an address: give one like http://127.0.0.1:8080")
    return found


def request_of(problem: str, strategy: str, max_tokens: int | None, seed: int | None) -> SolveRequest:
    """The request that a command's options make; stops the command where they make none."""
    try:
        named = json.loads(strategy) if strategy.startswith("{") else strategy
    except json.JSONDecodeError as error:
        stop(f"--strategy: {error}")
    text = sys.stdin.read() if problem == "-" else problem
    body = {"problem": text, "strategy": named, "budget": {"max_tokens": max_tokens}, "sampling": {"seed": seed}}
    try:
        return SolveRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        stop(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
