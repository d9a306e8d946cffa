"""llama.cpp in this process: an engine that needs neither a GPU nor another server.

A request blocks a worker thread, which hands its events to the event loop. It is sent only when slots are free, because
llama.cpp can abort running requests but not queued ones. As many samples of a generation as there are free slots are sent
together and share one prefill; sample k depends only on the seed and k. Leaving a generation aborts it within one batch of
the prompt or one token.
"""

from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal

from services.call_context import CallContext
from services.contracts.model import Capabilities
from services.contracts.sampling import Sampling
from services.engines.generation import MeteredEngine, QueuedStream, tokens_left
from services.engines.llama import wire
from services.engines.llama.library import EmbeddedOptions, Event, Llama, Slots
from services.engines.llama.wire import LlamaRequest
from services.engines.protocol import Generation, GenerationStream, Guide, Prompt
from services.engines.tokenizers.chat import ChatTokenizer, load_tokenizer
from services.engines.tokenizers.gguf_file import read_gguf
from services.errors import CounterpointError, EngineFailed, InvalidRequest

CAPABILITIES = Capabilities(prefix=True, logprobs=True, guided=("choice", "json", "grammar"), score=True, counts="exact")


class _LlamaStream(QueuedStream):
    """A generation in progress. All methods but `on_event` run on the event loop."""

    def __init__(self, prompt_tokens: int, samples: int, *, scored: bool = False) -> None:
        """Create a stream. If `scored`, the tokens are given and not sampled, so they count as prompt."""
        super().__init__(samples)
        self.abandoned = False
        self._scored = scored
        self._prompt_tokens = prompt_tokens
        self._generated = Counter[int]()
        self._events: deque[tuple[int, Event]] = deque()
        self._scheduled = False

    def on_event(self, portal: BlockingPortal, first: int, event: Event) -> bool:
        """Pass an event from a worker thread to the event loop, without waiting; return whether to abort the request.

        Events that arrive while the event loop is busy are processed together.
        """
        self._events.append((first, event))
        if not self._scheduled:
            self._scheduled = True
            portal.start_task_soon(self.process_events)
        return self.abandoned

    def process_events(self) -> None:
        """Process the events that have arrived, in order."""
        self._scheduled = False
        while self._events:
            first, event = self._events.popleft()
            try:
                self._process(first, event)
            except Exception as error:  # noqa: BLE001 - an event in an unknown format
                self.fail(EngineFailed(f"an event of llama.cpp could not be read: {error!r}"))

    def fail(self, error: CounterpointError) -> None:
        """End the generation with an error."""
        if not self.abandoned:
            self.put(error)

    def end_request(self, samples: range) -> None:
        """Fail unless a request that has returned has finished all its samples."""
        self.process_events()
        if not self.abandoned and not self.meter.finished.issuperset(samples):
            self.fail(EngineFailed("llama.cpp ended a completion early"))

    def _process(self, first: int, event: Event) -> None:
        """Count an event of the request whose first sample is `first`, and queue its delta."""
        failure = wire.failure(event)
        if failure:
            self.fail(failure)
            return
        self.meter.prompt_tokens = max(self.meter.prompt_tokens, self._prompt_tokens)
        cached = wire.cached_tokens(event)
        if cached is not None and first == 0:
            self.meter.cached_tokens = cached
        index = first + wire.sample(event)
        delta = wire.delta(event, index, self._generated[index])
        self._generated[index] += delta.tokens
        self.meter.count(delta, scored=self._scored)
        if delta.tokens or delta.finish_reason:
            self.put(delta)


class EmbeddedEngine(MeteredEngine):
    """An engine that runs a GGUF model with llama.cpp."""

    name = "embedded"
    capabilities = CAPABILITIES

    def __init__(self, options: EmbeddedOptions, llama: Llama, tokenizer: ChatTokenizer, parameters: int) -> None:
        """Wrap a loaded model; call `load` instead."""
        super().__init__()
        self.model = options.name or options.model_path.stem
        self.context_length = options.context_length
        self.parameters: int | None = parameters
        self.special_tokens = tokenizer.special_tokens
        self._llama = llama
        self._tokenizer = tokenizer
        self._slots = Slots(options.slots)
        self._threads = anyio.CapacityLimiter(options.slots)

    @classmethod
    async def load(cls, options: EmbeddedOptions) -> "EmbeddedEngine":
        """Load a model in a thread; takes about two seconds. Raises `ModelError`."""
        return cls(options, *await to_thread.run_sync(cls.parts, options))

    @staticmethod
    def parts(options: EmbeddedOptions) -> tuple[Llama, ChatTokenizer, int]:
        """Load a model, its tokenizer and its number of parameters; blocks for about two seconds."""
        tokenizer = load_tokenizer(options.tokenizer_path or options.model_path)
        parameters = read_gguf(options.model_path).parameters
        return Llama(options), tokenizer, parameters

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the prompt, exactly. Raises `InvalidRequest` if the chat template refuses it."""
        return len(self._tokenizer.prompt_ids(prompt))

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[GenerationStream]:
        """Start generating; see `Engine.generate`. Raises `ContextExceeded`, and `InvalidRequest` for an unknown guide."""
        ids = self._tokenizer.prompt_ids(generation.prompt)
        request = wire.request(generation, ids, tokens_left(self.context_length, len(ids)))
        async with self._run(request, _LlamaStream(len(ids), generation.n)) as stream:
            yield stream

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AsyncGenerator[GenerationStream]:
        """Score `continuation`, which is tokenised separately, by forcing its tokens; see `Engine.score`.

        Raises `ContextExceeded`, and `InvalidRequest` for an empty text or one with characters that span several tokens,
        since llama.cpp does not report those tokens one by one.
        """
        del call  # all calls share one cache
        ids, forced = self._tokenizer.prompt_ids(prompt), self._tokenizer.encode(continuation)
        if not forced or self._tokenizer.splits_characters(forced):
            raise InvalidRequest(
                "the embedded engine can score neither an empty text nor characters that span several tokens"
            )
        tokens_left(self.context_length, len(ids), len(forced))
        sampling = Sampling(temperature=0.0, max_tokens=len(forced))
        guide = Guide("grammar", wire.forced_grammar(forced))
        request = wire.request(Generation(prompt, sampling, guide=guide, top_logprobs=1), ids, len(forced))
        async with self._run(request, _LlamaStream(len(ids), 1, scored=True)) as stream:
            yield stream

    async def check(self) -> None:
        """Raise `EngineFailed` unless the model is loaded."""
        if self._llama.closed:
            raise EngineFailed("the engine is closed")

    async def close(self) -> None:
        """Free the model."""
        await to_thread.run_sync(self._llama.close)

    @asynccontextmanager
    async def _run(self, request: LlamaRequest, stream: _LlamaStream) -> AsyncGenerator[_LlamaStream]:
        async with self._queued(stream) as (group, portal):
            group.start_soon(self._admit, group, portal, stream, request)
            try:
                yield stream
            finally:
                stream.abandoned = True

    async def _admit(self, group: TaskGroup, portal: BlockingPortal, stream: _LlamaStream, request: LlamaRequest) -> None:
        """Start the samples as slots become free."""
        first, samples = 0, stream.meter.samples
        while first < samples:
            count = await self._slots.acquire(samples - first)
            group.start_soon(self._complete, portal, stream, request, range(first, first + count))
            first += count

    async def _complete(self, portal: BlockingPortal, stream: _LlamaStream, request: LlamaRequest, samples: range) -> None:
        """Run one request in a thread, and wait until llama.cpp has ended it."""
        on_event = partial(stream.on_event, portal, samples.start)
        try:
            complete = partial(self._llama.complete, request.samples(samples), on_event)
            await to_thread.run_sync(complete, limiter=self._threads)
            stream.end_request(samples)
        except EngineFailed as error:
            stream.fail(error)
        finally:
            self._slots.release(len(samples))
