"""vLLM in this process (`AsyncLLM`): the engine of production, on a GPU; its CPU build runs the same code.

A request is never cancelled from outside while vLLM works on it, but aborted by name until its outputs end: so the abort
reaches vLLM's own process whatever is being cancelled here, and the tokens are counted to the last one. Samples of one
generation share one prefill through the prefix cache.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from services.contracts.model import Capabilities
from services.contracts.usage import Usage
from services.engines.models import ModelError
from services.engines.protocol import Caller, Delta, Generation, Meter, Prompt, TokenLogprobs
from services.engines.seeds import base_seed
from services.engines.tokenizer import ChatTokenizer, load_tokenizer
from services.engines.vllm_library import Asked, Output, Piece, Vllm, VllmMetrics
from services.errors import ContextExceeded, CounterpointError, InvalidRequest

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

CAPABILITIES = Capabilities(
    prefix=True, logprobs=True, guided=("choice", "regex", "json", "grammar"), score=True, counts="exact"
)

ABORT_AGAIN_SECONDS = 0.02
"""How long an abort may go unanswered: it is not heard when it comes before the request that it names."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """Which model, and how vLLM runs it; None leaves the choice to vLLM. `context_length` is in tokens."""

    model: str
    tokenizer_path: Path | None = None
    context_length: int = 2048
    dtype: str = "auto"
    gpu_memory_utilization: float = 0.9
    max_num_seqs: int = 256
    block_size: int | None = None
    enforce_eager: bool = False
    lora: str | None = None

    def arguments(self) -> dict[str, object]:
        """Arguments of vLLM's engine; what decides how tokens are drawn comes from requests alone."""
        fields: dict[str, object] = {
            "model": self.model,
            "max_model_len": self.context_length,
            "dtype": self.dtype,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_num_seqs": self.max_num_seqs,
            "enforce_eager": self.enforce_eager,
            "enable_prefix_caching": True,
            "scheduling_policy": "priority",
            "generation_config": "vllm",
            "enable_lora": self.lora is not None,
        }
        if self.block_size is not None:
            fields["block_size"] = self.block_size
        if self.tokenizer_path is not None:
            fields["tokenizer"] = str(self.tokenizer_path)
        return fields


class _Running:
    """A generation in progress. `pieces` are the texts of a continuation that is read and not sampled."""

    def __init__(self, asked: Asked, prompt_tokens: int, pieces: tuple[str, ...] = ()) -> None:
        self.done = anyio.Event()
        self._asked = asked
        self._pieces = pieces
        self._prompt_tokens = prompt_tokens + len(pieces)
        self._unread = 1 if pieces else asked.n
        self._meter = Meter()
        self._send, self._receive = anyio.create_memory_object_stream[Delta | CounterpointError](float("inf"))

    @property
    def usage(self) -> Usage:
        """The account so far. The prompt counts from when vLLM was asked, even if it was aborted before it was read."""
        return self._meter.usage

    @property
    def finished(self) -> bool:
        """Whether every sample came to its end."""
        return len(self._meter.finished) == self._asked.n

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while self._unread:
            item = await self._receive.receive()
            if isinstance(item, CounterpointError):
                raise item
            self._unread -= item.finish_reason is not None
            yield item

    async def pump(self, outputs: AsyncGenerator[Output]) -> None:
        """Take every output, to the end that comes by itself or by an abort."""
        self._meter.prompt_tokens = self._prompt_tokens
        try:
            with anyio.CancelScope(shield=True):
                async for output in outputs:
                    self._take(output)
        except CounterpointError as error:
            self._send.send_nowait(error)
        finally:
            self.done.set()

    def close(self) -> None:
        """Nobody will read any more."""
        self._send.close()
        self._receive.close()

    def _take(self, output: Output) -> None:
        if output.cached_tokens is not None:
            self._meter.cached_tokens = max(self._meter.cached_tokens, output.cached_tokens)
        if output.read:
            self._tell_read(output.read)
        for piece in output.pieces:
            self._meter.completion_tokens += len(piece.ids)
            if piece.finish_reason in {"stop", "length"}:
                self._meter.finished.add(piece.index)
            if not self._pieces:
                self._tell(piece)

    def _tell(self, piece: Piece) -> None:
        """Pass on what was sampled; the end by an abort is nobody's."""
        reason = {"stop": "stop", "length": "length"}.get(piece.finish_reason or "")
        if piece.ids or reason:
            self._send.send_nowait(Delta(piece.index, piece.text, len(piece.ids), piece.logprobs, reason))  # type: ignore[arg-type]

    def _tell_read(self, read: tuple[float, ...]) -> None:
        """Pass on the log-probabilities of the continuation, which ends the prompt."""
        last = len(self._pieces) - 1
        for place, (text, logprob) in enumerate(zip(self._pieces, read[-len(self._pieces) :], strict=True)):
            logprobs = (TokenLogprobs(text, logprob),)
            self._send.send_nowait(Delta(0, text, 1, logprobs, "stop" if place == last else None))


class VllmEngine:
    """A model under vLLM."""

    name = "vllm"
    capabilities = CAPABILITIES

    def __init__(self, options: VllmOptions, library: Vllm, tokenizer: ChatTokenizer, parameters: int | None) -> None:
        """Use `load`."""
        self.model = Path(options.model).name
        self.context_length = library.context_length
        self.parameters = parameters
        self.special_tokens = tokenizer.special_tokens
        self.in_flight = 0
        self.metrics: Collector | None = VllmMetrics()
        self._library = library
        self._tokenizer = tokenizer
        self._names = count()

    @classmethod
    async def load(cls, options: VllmOptions, parameters: int | None = None, kind: type[Vllm] = Vllm) -> "VllmEngine":
        """Load a model, in half a minute or more. Raises `ModelError` for its tokenizer, `EngineFailed` for the rest."""
        library = kind(options.arguments(), options.lora)  # on the event loop, which vLLM's own tasks run on
        try:
            path = options.tokenizer_path
            tokenizer = await to_thread.run_sync(load_tokenizer, path) if path else ChatTokenizer(library.tokenizer)
        except ModelError:
            library.close()
            raise
        return cls(options, library, tokenizer, parameters)

    def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt, exactly. Raises `InvalidRequest` when the chat template refuses it."""
        return len(self._tokenizer.prompt_ids(prompt))

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[_Running]:
        """Start generating; see `Engine.generate`. Raises `ContextExceeded`; iterating, `InvalidRequest` for a bad guide."""
        ids = self._tokenizer.prompt_ids(generation.prompt)
        room = self.context_length - len(ids)
        if room < 1:
            raise ContextExceeded(needed=len(ids) + 1, context_length=self.context_length)
        sampling = generation.sampling
        asked = Asked(
            ids=ids,
            n=generation.n,
            max_tokens=min(sampling.max_tokens, room),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=base_seed(sampling),
            stop=tuple(sampling.stop),
            guide=generation.guide,
            top_logprobs=generation.top_logprobs,
            caller=generation.caller,
        )
        async with self._run(asked, _Running(asked, len(ids))) as running:
            yield running

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, caller: Caller) -> AsyncGenerator[_Running]:
        """Read `continuation`, which is tokenised by itself; see `Engine.score`.

        vLLM also samples one token after it, which is counted as completion. It reads no prefix cache for this.
        Raises `ContextExceeded`, and `InvalidRequest` for an empty text.
        """
        ids, read = self._tokenizer.prompt_ids(prompt), self._tokenizer.encode(continuation)
        if not read:
            raise InvalidRequest("an empty text cannot be scored")
        needed = len(ids) + len(read) + 1
        if needed > self.context_length:
            raise ContextExceeded(needed=needed, context_length=self.context_length)
        asked = Asked(ids=[*ids, *read], n=1, max_tokens=1, read=True, caller=caller)
        async with self._run(asked, _Running(asked, len(ids), self._tokenizer.pieces(read))) as running:
            yield running

    async def check(self) -> None:
        """Return while vLLM's engine lives; raise `EngineDied` otherwise."""
        await self._library.check()

    async def close(self) -> None:
        """End vLLM's engine process and free the model."""
        await to_thread.run_sync(self._library.close)

    @asynccontextmanager
    async def _run(self, asked: Asked, running: _Running) -> AsyncGenerator[_Running]:
        name = f"{asked.caller.session}-{next(self._names)}"
        failure: Exception | None = None
        self.in_flight += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(running.pump, self._library.ask(asked, name))
                try:
                    yield running
                except Exception as error:  # noqa: BLE001 - it is raised again below, and not as a group
                    failure = error
                finally:
                    await self._let_go(running, name)
        finally:
            self.in_flight -= 1
            running.close()
        if failure:
            raise failure

    async def _let_go(self, running: _Running, name: str) -> None:
        """Abort what still runs, and wait for its last output."""
        with anyio.CancelScope(shield=True):
            while not running.done.is_set():
                await self._library.abort(name)
                with anyio.move_on_after(ABORT_AGAIN_SECONDS):
                    await running.done.wait()
