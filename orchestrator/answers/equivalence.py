"""Comparison of answers as text and numbers, and where that is undecided, by symbolic mathematics in a worker process."""

import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import structlog
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from orchestrator.answers.text import Comparison, compare

LIMIT_SECONDS = 2.0
"""Time limit of one comparison, including the wait for the worker."""
MAX_CHARS = 256
"""Longer answers are compared as text only."""
MAX_COMPARISONS = 4
"""Representatives with which one answer is compared symbolically, at most."""
RESTART_SECONDS = 1.0
"""Time between the death of the worker and the start of a new one."""
_MAX_LINE = 64

log = structlog.get_logger("answers")


class _Worker:
    """A worker process and its line protocol; see `orchestrator.answers.worker`."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process needs pipes")
        self.process = process
        self._requests = process.stdin
        self._replies = BufferedByteReceiveStream(process.stdout)

    async def reply(self) -> str:
        """Return the worker's next line. Raises `anyio.IncompleteRead` if it has ended."""
        return (await self._replies.receive_until(b"\n", _MAX_LINE)).decode()

    async def compare(self, a: str, b: str) -> Comparison:
        """Compare two answers symbolically. Cancellation kills the comparison, not the worker."""
        await self._requests.send(json.dumps((a, b, LIMIT_SECONDS)).encode() + b"\n")
        try:
            return cast("Comparison", await self.reply())
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                self.process.send_signal(signal.SIGUSR1)
                await self.reply()
            raise


class AnswerEquivalence:
    """Decides whether answers are the same. Without a `warm` worker, symbolic comparisons are `unknown`."""

    def __init__(self) -> None:
        self.warm = anyio.Event()
        self._worker: _Worker | None = None
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep a worker process running while the context lasts: start it in the background, restart it if it dies."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_worker)
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    async def equivalent(self, a: str, b: str) -> Comparison:
        """Compare two answers within `LIMIT_SECONDS`; `unknown` does not mean `different`."""
        comparison = compare(a, b)
        if comparison != "unknown":
            return comparison
        with anyio.move_on_after(LIMIT_SECONDS):
            return await self._compare_symbolically(a, b)
        return "unknown"

    async def group_of(self, answer: str, representatives: list[str]) -> int | None:
        """Return the index of the first representative that is the same answer, or None.

        All are compared as text and numbers, then the first `MAX_COMPARISONS` of the undecided ones symbolically, within
        `LIMIT_SECONDS`.
        """
        comparisons = [compare(answer, other) for other in representatives]
        if "same" in comparisons:
            return comparisons.index("same")
        undecided = [index for index, comparison in enumerate(comparisons) if comparison == "unknown"]
        with anyio.move_on_after(LIMIT_SECONDS):
            for index in undecided[:MAX_COMPARISONS]:
                if await self._compare_symbolically(answer, representatives[index]) == "same":
                    return index
        return None

    async def _compare_symbolically(self, a: str, b: str) -> Comparison:
        if max(len(a), len(b)) > MAX_CHARS:
            return "unknown"
        async with self._lock:
            if self._worker is None:
                return "unknown"
            try:
                return await self._worker.compare(a, b)
            except (anyio.BrokenResourceError, anyio.IncompleteRead, ProcessLookupError):
                return "unknown"

    async def _keep_worker(self) -> None:
        while True:
            await self._run_worker()
            log.warning("answer_worker_ended")
            await anyio.sleep(RESTART_SECONDS)

    async def _run_worker(self) -> None:
        process = await _start()
        try:
            worker = _Worker(process)
            await worker.reply()
            self._worker = worker
            self.warm.set()
            await process.wait()
        except anyio.IncompleteRead:
            await process.wait()
        finally:
            self._worker = None
            await _end(process)


async def _start() -> Process:
    """Start a worker; shielded, since a process whose start is cancelled is killed but not waited for."""
    with anyio.CancelScope(shield=True):
        return await anyio.open_process([sys.executable, "-m", "orchestrator.answers.worker"], stderr=None)
    raise AssertionError("a shielded scope was cancelled")


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()
