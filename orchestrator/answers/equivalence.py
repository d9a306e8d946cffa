"""Equivalence of answers: at once where text or numbers tell, otherwise by a process that is limited in time and memory."""

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

from orchestrator.answers.text import Equivalent, compare

LIMIT_SECONDS = 2.0
"""What a question may take, waiting for the process included."""
MAX_CHARS = 256
"""Longer answers are compared as text only."""
MOST_COMPARISONS = 4
"""An answer is compared by mathematics with this many representatives at most."""
RESTART_SECONDS = 1.0
_MAX_LINE = 64

log = structlog.get_logger("answers")


class _Worker:
    """A process that has said it is ready, and the words it answers with."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process needs pipes")
        self.process = process
        self._questions = process.stdin
        self._words = BufferedByteReceiveStream(process.stdout)

    async def word(self) -> str:
        """The next word. Raises `anyio.IncompleteRead` when the process has ended."""
        return (await self._words.receive_until(b"\n", _MAX_LINE)).decode()

    async def ask(self, a: str, b: str) -> Equivalent:
        """What mathematics says. Cancellation kills the comparison, not the process."""
        await self._questions.send(json.dumps((a, b, LIMIT_SECONDS)).encode() + b"\n")
        try:
            return cast("Equivalent", await self.word())
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                self.process.send_signal(signal.SIGUSR1)
                await self.word()
            raise


class Answers:
    """Equivalence of answers. Outside `running`, and until its process is warm, mathematics is `unknown`."""

    def __init__(self) -> None:
        self.warm = anyio.Event()
        self._worker: _Worker | None = None
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Warm a process in the background, start it again should it die, and leave none behind."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_worker)
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    async def equivalent(self, a: str, b: str) -> Equivalent:
        """Whether two answers are the same, within `LIMIT_SECONDS`; `unknown` is not `different`."""
        found = compare(a, b)
        if found != "unknown":
            return found
        with anyio.move_on_after(LIMIT_SECONDS):
            return await self._by_mathematics(a, b)
        return "unknown"

    async def group_of(self, answer: str, representatives: list[str]) -> int | None:
        """Index of the first representative that is the same answer; None if there is none.

        Text and numbers are tried on all of them, mathematics on the first `MOST_COMPARISONS` that these cannot tell,
        all within `LIMIT_SECONDS`.
        """
        found = [compare(answer, other) for other in representatives]
        if "same" in found:
            return found.index("same")
        open_questions = [index for index, verdict in enumerate(found) if verdict == "unknown"]
        with anyio.move_on_after(LIMIT_SECONDS):
            for index in open_questions[:MOST_COMPARISONS]:
                if await self._by_mathematics(answer, representatives[index]) == "same":
                    return index
        return None

    async def _by_mathematics(self, a: str, b: str) -> Equivalent:
        if max(len(a), len(b)) > MAX_CHARS:
            return "unknown"
        async with self._turn:
            if self._worker is None:
                return "unknown"
            try:
                return await self._worker.ask(a, b)
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
            await worker.word()
            self._worker = worker
            self.warm.set()
            await process.wait()
        except anyio.IncompleteRead:
            await process.wait()
        finally:
            self._worker = None
            await _end(process)


async def _start() -> Process:
    """Start a worker; cancelled halfway, it would be killed and not waited for."""
    with anyio.CancelScope(shield=True):
        return await anyio.open_process([sys.executable, "-m", "orchestrator.answers.worker"], stderr=None)
    raise AssertionError("a shielded scope was cancelled")


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()
