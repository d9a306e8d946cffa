"""llama.cpp inside this process: the one place that touches `xllamacpp`, which ships no types.

The library's server always opens a listener. It is given a Unix socket in a private directory that is removed as soon as
the model is loaded, so nothing can connect to it, from this machine or another.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, cast

import anyio

from services.engines.models import ModelError
from services.errors import EngineFailed

Event = Mapping[str, Any]
"""A JSON object as llama.cpp's server streams it."""


class _Server(Protocol):
    """The part of `xllamacpp.Server` that is used."""

    def handle_completions(self, request: dict[str, object], callback: Callable[[Event], bool]) -> None: ...


class Llama:
    """A loaded model with `slots` sequences of up to `context_length` tokens each."""

    def __init__(self, path: Path, *, context_length: int, slots: int, threads: int, batch: int) -> None:
        """Load; blocks for about a second. `batch` tokens are computed at once; a request can be aborted in between.

        Raises `ModelError` when llama.cpp cannot load the file.
        """
        library = importlib.import_module("xllamacpp")
        with TemporaryDirectory(prefix="counterpoint-") as private:
            parameters = library.CommonParams()
            parameters.model.path = str(path)
            parameters.n_ctx = context_length * slots
            parameters.n_parallel = slots
            parameters.n_batch = parameters.n_ubatch = max(batch, slots)
            parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
            parameters.n_threads_http = 1
            parameters.hostnames = [f"{private}/socket.sock"]
            parameters.ui = parameters.endpoint_slots = False
            parameters.warmup = False
            parameters.cache_ram_mib = 0  # prompts are cached in their slots only, so that memory stays flat
            parameters.verbosity = -1
            try:
                self._server: _Server | None = cast("_Server", library.Server(parameters))
            except RuntimeError as error:
                raise ModelError(f"llama.cpp cannot load {path}: {error}") from error

    @property
    def closed(self) -> bool:
        """True once the model has been freed."""
        return self._server is None

    def complete(self, request: Mapping[str, object], on_event: Callable[[Event], bool]) -> None:
        """Run a completion; blocks, without the GIL, until it has ended or `on_event` has returned True.

        `on_event` is called in this thread for every token and every batch of the prompt. Raises `EngineFailed`, also for
        an event on which `on_event` failed: the library would swallow that and go on.
        """
        server = self._server
        if server is None:
            raise EngineFailed("the engine is closed")
        failures: list[Exception] = []

        def guarded(event: Event) -> bool:
            try:
                return on_event(event)
            except Exception as error:  # noqa: BLE001 - it is raised again below
                failures.append(error)
                return True

        try:
            server.handle_completions(dict(request), guarded)
        except RuntimeError as error:
            raise EngineFailed(f"llama.cpp failed: {error}") from error
        if failures:
            raise EngineFailed(f"an event of llama.cpp was not understood: {failures[0]!r}") from failures[0]

    def close(self) -> None:
        """Free the model once the requests that still run have returned; blocks."""
        self._server = None


class Slots:
    """Slots for sequences: first come, first served, and several at once where they are free."""

    def __init__(self, total: int) -> None:
        self._free = anyio.Semaphore(total)

    async def acquire(self, most: int) -> int:
        """Wait for a slot, then acquire up to `most` of those that are free; return how many. Cancellable while waiting."""
        await self._free.acquire()
        acquired = 1
        try:
            while acquired < most:
                self._free.acquire_nowait()
                acquired += 1
        except anyio.WouldBlock:
            pass
        return acquired

    def release(self, count: int) -> None:
        """Release slots to those who have waited longest."""
        for _ in range(count):
            self._free.release()
