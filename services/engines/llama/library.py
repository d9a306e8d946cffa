"""llama.cpp in this process: the only module that uses `xllamacpp`, which has no types.

The library's server always opens a listener. It is given a Unix socket in a private directory that is removed as soon as
the model is loaded, so nothing can connect to it, whether from this machine or another.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, cast

import anyio

from services.engines.models import ModelError
from services.errors import EngineFailed

Event = Mapping[str, Any]
"""A JSON object as llama.cpp's server streams it."""


class _Server(Protocol):
    """The part of `xllamacpp.Server` used here."""

    def handle_completions(self, request: dict[str, object], callback: Callable[[Event], bool]) -> None: ...


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """The model and the resources that it uses. `context_length` is in tokens for each of the `slots`.

    `batch` is the number of prompt tokens computed at once, which takes about 14 ms each for a model of 135M parameters on
    one slow core. An abort takes at most two batches.
    """

    model_path: Path
    tokenizer_path: Path | None = None
    context_length: int = 2048
    slots: int = 2
    threads: int = 1
    batch: int = 4
    name: str | None = None
    """The name of the model; None means the name of its file."""


class Llama:
    """A loaded model."""

    def __init__(self, options: EmbeddedOptions) -> None:
        """Load the model; blocks for about a second. Raises `ModelError` if llama.cpp cannot load the file."""
        library = importlib.import_module("xllamacpp")
        with TemporaryDirectory(prefix="counterpoint-") as private:
            parameters = library.CommonParams()
            parameters.model.path = str(options.model_path)
            parameters.n_ctx = options.context_length * options.slots
            parameters.n_parallel = options.slots
            parameters.n_batch = parameters.n_ubatch = max(options.batch, options.slots)
            parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = options.threads
            parameters.n_threads_http = 1
            parameters.hostnames = [f"{private}/socket.sock"]
            parameters.ui = parameters.endpoint_slots = False
            parameters.warmup = False
            parameters.cache_ram_mib = 0  # prompts are cached only in their slots, which keeps memory constant
            parameters.verbosity = -1
            try:
                self._server: _Server | None = cast("_Server", library.Server(parameters))
            except RuntimeError as error:
                raise ModelError(f"llama.cpp cannot load {options.model_path}: {error}") from error

    @property
    def closed(self) -> bool:
        """True once the model has been freed."""
        return self._server is None

    def complete(self, request: Mapping[str, object], on_event: Callable[[Event], bool]) -> None:
        """Run a completion; blocks, without holding the GIL, until it has ended or `on_event` has returned True.

        `on_event` is called in this thread for every token and every batch of the prompt. Raises `EngineFailed`, also if
        `on_event` raises, which the library itself would ignore.
        """
        server = self._server
        if server is None:
            raise EngineFailed("the engine is closed")
        failures: list[Exception] = []

        def guarded(event: Event) -> bool:
            try:
                return on_event(event)
            except Exception as error:  # noqa: BLE001 - raised again below
                failures.append(error)
                return True

        try:
            server.handle_completions(dict(request), guarded)
        except RuntimeError as error:
            raise EngineFailed(f"llama.cpp failed: {error}") from error
        if failures:
            raise EngineFailed(f"an event of llama.cpp could not be read: {failures[0]!r}") from failures[0]

    def close(self) -> None:
        """Free the model when the running requests have returned; blocks."""
        self._server = None


class Slots:
    """A first-come, first-served semaphore for sequences, with several slots acquired at once if they are free."""

    def __init__(self, total: int) -> None:
        self._free = anyio.Semaphore(total)

    async def acquire(self, most: int) -> int:
        """Wait for a slot, acquire up to `most` of the free ones, and return how many. Can be cancelled while it waits."""
        await self._free.acquire()
        more = min(most - 1, self._free.value)
        for _ in range(more):
            self._free.acquire_nowait()
        return 1 + more

    def release(self, count: int) -> None:
        """Release `count` slots, which go to the requests that have waited longest."""
        for _ in range(count):
            self._free.release()
