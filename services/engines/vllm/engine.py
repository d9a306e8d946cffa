"""vLLM in this process (`AsyncLLM`): the production engine on a GPU; vLLM's CPU build runs the same code.

The task that reads a request's outputs is never cancelled. Instead, the request is aborted by name until its outputs end, so
the abort always reaches vLLM's own process, and every token is counted. The samples of a generation share one prefill
through the prefix cache.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import anyio
from anyio import to_thread
from prometheus_client.registry import Collector

from services.call_context import CallContext
from services.contracts.model import Capabilities
from services.contracts.sampling import Sampling
from services.engines.generation import MeteredEngine, QueuedStream, scored_deltas, tokens_left
from services.engines.models import ModelError
from services.engines.protocol import Delta, Generation, GenerationStream, Prompt
from services.engines.tokenizers.chat import ChatTokenizer, load_tokenizer
from services.engines.vllm.library import Vllm, VllmMetrics, VllmOutput, VllmRequest, VllmSample
from services.engines.vllm.options import VllmOptions
from services.errors import CounterpointError, InvalidRequest

CAPABILITIES = Capabilities(
    prefix=True, logprobs=True, guided=("choice", "regex", "json", "grammar"), score=True, counts="exact"
)

ABORT_AGAIN_SECONDS = 0.02
"""Interval at which an abort is repeated: vLLM ignores one that arrives before its request."""


class _VllmStream(QueuedStream):
    """A generation in progress, or a scored continuation whose tokens have the texts `pieces`."""

    def __init__(self, request: VllmRequest, prompt_tokens: int, pieces: tuple[str, ...] = ()) -> None:
        super().__init__(request.generation.n)
        self.done = anyio.Event()
        self._pieces = pieces
        self._prompt_tokens = prompt_tokens + len(pieces)

    async def pump(self, outputs: AsyncGenerator[VllmOutput]) -> None:
        """Process every output until the request finishes or is aborted.

        The prompt counts as soon as vLLM has the request, even if it is aborted before the prompt has been computed.
        """
        self.meter.prompt_tokens = self._prompt_tokens
        try:
            with anyio.CancelScope(shield=True):
                async for output in outputs:
                    self._process(output)
        except CounterpointError as error:
            self.put(error)
        finally:
            self.done.set()

    def _process(self, output: VllmOutput) -> None:
        if output.cached_tokens is not None:
            self.meter.cached_tokens = max(self.meter.cached_tokens, output.cached_tokens)
        if output.prompt_logprobs:
            for delta in scored_deltas(self._pieces, output.prompt_logprobs[-len(self._pieces) :]):
                self.put(delta)
        for sample in output.samples:
            delta = _delta(sample)
            self.meter.count(delta)
            if not self._pieces and (delta.tokens or delta.finish_reason):
                self.put(delta)


def _delta(sample: VllmSample) -> Delta:
    """Return the delta of a sample; an aborted sample has no finish reason."""
    reason = sample.finish_reason if sample.finish_reason in {"stop", "length"} else None
    return Delta(sample.index, sample.text, len(sample.ids), sample.logprobs, reason)  # type: ignore[arg-type]


class VllmEngine(MeteredEngine):
    """An engine that runs a model with vLLM."""

    name = "vllm"
    capabilities = CAPABILITIES

    def __init__(self, options: VllmOptions, library: Vllm, tokenizer: ChatTokenizer, parameters: int | None) -> None:
        """Wrap a loaded model; call `load` instead."""
        super().__init__()
        self.model = Path(options.model).name
        self.context_length = library.context_length
        self.parameters: int | None = parameters
        self.special_tokens = tokenizer.special_tokens
        self.metrics: Collector | None = VllmMetrics()
        self._library = library
        self._tokenizer = tokenizer
        self._names = count()

    @classmethod
    async def load(cls, options: VllmOptions, parameters: int | None = None, kind: type[Vllm] = Vllm) -> "VllmEngine":
        """Load a model; takes half a minute or more. Raises `ModelError` for its tokenizer, `EngineFailed` for the rest."""
        library = kind(options.arguments(), options.lora)  # on the event loop, where vLLM starts its own tasks
        try:
            path = options.tokenizer_path
            tokenizer = await to_thread.run_sync(load_tokenizer, path) if path else ChatTokenizer(library.tokenizer)
        except ModelError:
            library.close()
            raise
        return cls(options, library, tokenizer, parameters)

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the prompt, exactly. Raises `InvalidRequest` if the chat template refuses it."""
        return len(self._tokenizer.prompt_ids(prompt))

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[GenerationStream]:
        """Start generating; see `Engine.generate`. Raises `ContextExceeded`; iterating, `InvalidRequest` for a bad guide."""
        ids = self._tokenizer.prompt_ids(generation.prompt)
        most = tokens_left(self.context_length, len(ids))
        request = VllmRequest(ids, generation, min(generation.sampling.max_tokens, most))
        async with self._run(request, _VllmStream(request, len(ids))) as stream:
            yield stream

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AsyncGenerator[GenerationStream]:
        """Score `continuation`, which is tokenised separately; see `Engine.score`.

        vLLM also samples one more token, which counts as completion, and does not use its prefix cache for the prompt.
        Raises `ContextExceeded`, and `InvalidRequest` for an empty text.
        """
        ids, scored = self._tokenizer.prompt_ids(prompt), self._tokenizer.encode(continuation)
        if not scored:
            raise InvalidRequest("an empty text cannot be scored")
        tokens_left(self.context_length, len(ids) + len(scored))
        greedy = Generation(prompt, Sampling(temperature=0.0, seed=0), call=call)
        request = VllmRequest([*ids, *scored], greedy, max_tokens=1, prompt_logprobs=True)
        async with self._run(request, _VllmStream(request, len(ids), self._tokenizer.pieces(scored))) as stream:
            yield stream

    async def check(self) -> None:
        """Raise `EngineDied` unless vLLM's engine is alive."""
        await self._library.check()

    async def close(self) -> None:
        """Stop vLLM's engine process and free the model."""
        await to_thread.run_sync(self._library.close)

    @asynccontextmanager
    async def _run(self, request: VllmRequest, stream: _VllmStream) -> AsyncGenerator[_VllmStream]:
        name = f"{request.generation.call.session_id}-{next(self._names)}"
        async with self._queued(stream) as (group, _):
            group.start_soon(stream.pump, self._library.stream(request, name))
            try:
                yield stream
            finally:
                await self._abort(stream, name)

    async def _abort(self, stream: _VllmStream, name: str) -> None:
        """Abort a request that is still running, and wait for its last output."""
        with anyio.CancelScope(shield=True):
            while not stream.done.is_set():
                await self._library.abort(name)
                with anyio.move_on_after(ABORT_AGAIN_SECONDS):
                    await stream.done.wait()
