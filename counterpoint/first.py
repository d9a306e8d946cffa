"""`counterpoint run`: everything up, a first problem solved before your eyes, then it serves."""

import sys

import anyio
from anyio.abc import TaskGroup

from counterpoint import dialogue
from counterpoint.up import up
from orchestrator.request import SolveRequest


async def run(port: int, variables: dict[str, str], request: SolveRequest, *, once: bool) -> int:
    """Serve on loopback and solve `request` once ready; with `once`, stop after it. The exit code."""
    code = 0

    async def solve(url: str, group: TaskGroup) -> None:
        nonlocal code
        sys.stdout.write(f"\n{request.turns[-1].content}\n\n")
        code = await dialogue.solve(url, request, as_json=False)
        if once:
            group.cancel_scope.cancel()
        else:
            sys.stdout.write(f"\nServing at {url} (documentation at {url}/docs). Ctrl-C stops it.\n")
            sys.stdout.flush()

    async with anyio.create_task_group() as group:
        failed = await up("127.0.0.1", port, variables, when_ready=lambda url: solve(url, group))
        code = failed or code
        group.cancel_scope.cancel()
    return code
