"""llama.cpp in this process: the engine that needs no GPU and no other server.

A request blocks a worker thread, whose events are handed to the event loop. It is only sent when slots are free, because
llama.cpp can abort what it computes but not what it queues. Samples of one generation go together as far as slots
are free and share one prefill; sample k depends on the seed and k, not on how they were grouped. Leaving a generation
aborts it within one batch of the prompt or one token.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal

from services.call_context import CallContext
from services.contracts.model import Capabilities
from services.contracts.sampling import Sampling
from services.engines.generation import MeteredEngine, QueuedStream, background_tasks, tokens_left
from services.engines.llama import wire
from services.engines.llama.library import Event, Llama, Slots
from services.engines.protocol import Generation, GenerationStream, Guide, Prompt
from services.engines.tokenizers.chat import ChatTokenizer, load_tokenizer
from services.engines.tokenizers.gguf_file import read_gguf
from services.errors import CounterpointError, EngineFailed, InvalidRequest

CAPABILITIES = Capabilities(prefix=True, logprobs=True, guided=("choice", "json", "grammar"), score=True, counts="exact")


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """The model, and its share of the machine. `context_length` is in tokens, for each of the `slots`.

    `batch` prompt tokens are computed at once, about 14 ms each for a model of 135M parameters on one slow core. An abort
    waits for at most two batches.
    """

    model_path: Path
    tokenizer_path: Path | None = None
    context_length: int = 2048
    slots: int = 2
    threads: int = 1
    batch: int = 4
    name: str | None = None
    """The model's name; None = that of its file."""


class _LlamaStream(QueuedStream):
    """A generation in progress. Everything here happens on the event loop, except reading `abandoned`."""

    def __init__(self, prompt_tokens: int, samples: int, *, scored: bool = False) -> None:
        """Tokens that are `scored` were given and not sampled: they count as prompt."""
        super().__init__(samples)
        self.abandoned = False
        self._scored = scored
        self._prompt_tokens = prompt_tokens
        self._generated: dict[int, int] = {}
        self._events: deque[tuple[int, Event]] = deque()
        self._scheduled = False

    def on_event(self, portal: BlockingPortal, first: int, event: Event) -> bool:
        """Hand an event to the event loop, from a worker thread and without waiting; return whether to abort.

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
            except Exception as error:  # noqa: BLE001 - anything about the event that was not foreseen
                self.fail(EngineFailed(f"an event of llama.cpp was not understood: {error!r}"))

    def fail(self, error: CounterpointError) -> None:
        """End with an error."""
        if not self.abandoned:
            self.put(error)

    def end_request(self, samples: range) -> None:
        """Fail unless every sample of a request that has returned is finished."""
        self.process_events()
        if not self.abandoned and not self.meter.finished.issuperset(samples):
            self.fail(EngineFailed("llama.cpp ended a completion early"))

    def _process(self, first: int, event: Event) -> None:
        """Count an event of the request whose first sample is `first`, and pass it on."""
        failure = wire.failure(event)
        if failure:
            self.fail(failure)
            return
        self.meter.prompt_tokens = max(self.meter.prompt_tokens, self._prompt_tokens)
        cached = wire.cached_tokens(event)
        if cached is not None and first == 0:
            self.meter.cached_tokens = cached
        index = first + wire.sample(event)
        total = wire.generated(event)
        delta = wire.delta(event, index, total - self._generated.get(index, 0))
        self._generated[index] = total
        self.meter.count(delta, scored=self._scored)
        if delta.tokens or delta.finish_reason:
            self.put(delta)


class EmbeddedEngine(MeteredEngine):
    """A GGUF model under llama.cpp."""

    name = "embedded"
    capabilities = CAPABILITIES
    metrics = None

    def __init__(self, options: EmbeddedOptions, llama: Llama, tokenizer: ChatTokenizer, parameters: int) -> None:
        """Use `load`."""
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
        """Load a model in a thread, in about two seconds. Raises `ModelError`."""
        return cls(options, *await to_thread.run_sync(cls.parts, options))

    @staticmethod
    def parts(options: EmbeddedOptions) -> tuple[Llama, ChatTokenizer, int]:
        """Load the parts of an engine: the model, its tokenizer, the number of its parameters. Blocks for two seconds."""
        tokenizer = load_tokenizer(options.tokenizer_path or options.model_path)
        parameters = read_gguf(options.model_path).parameters
        llama = Llama(
            options.model_path,
            context_length=options.context_length,
            slots=options.slots,
            threads=options.threads,
            batch=options.batch,
        )
        return llama, tokenizer, parameters

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the prompt, exactly. Raises `InvalidRequest` when the chat template refuses it."""
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
        """Force the tokens of `continuation`, which is tokenised by itself, upon the model; see `Engine.score`.

        Raises `ContextExceeded`, and `InvalidRequest` for a text that is empty or has characters that span several tokens:
        llama.cpp does not report those one by one.
        """
        del call  # one process, one cache
        ids, forced = self._tokenizer.prompt_ids(prompt), self._tokenizer.encode(continuation)
        if not forced or self._tokenizer.splits_characters(forced):
            raise InvalidRequest("the embedded engine scores no empty text, and none whose characters span several tokens")
        tokens_left(self.context_length, len(ids), len(forced))
        sampling = Sampling(temperature=0.0, max_tokens=len(forced))
        guide = Guide("grammar", wire.forced_grammar(forced))
        request = wire.request(Generation(prompt, sampling, guide=guide, top_logprobs=1), ids, len(forced))
        async with self._run(request, _LlamaStream(len(ids), 1, scored=True)) as stream:
            yield stream

    async def check(self) -> None:
        """Return while the model is loaded; raise `EngineFailed` otherwise."""
        if self._llama.closed:
            raise EngineFailed("the engine is closed")

    async def close(self) -> None:
        """Free the model."""
        await to_thread.run_sync(self._llama.close)

    @asynccontextmanager
    async def _run(self, request: wire.Request, stream: _LlamaStream) -> AsyncGenerator[_LlamaStream]:
        with self._metered(stream.meter):
            try:
                async with background_tasks() as (group, portal):
                    group.start_soon(self._admit, group, portal, stream, request)
                    try:
                        yield stream
                    finally:
                        stream.abandoned = True
            finally:
                stream.close()

    async def _admit(self, group: TaskGroup, portal: BlockingPortal, stream: _LlamaStream, request: wire.Request) -> None:
        """Start the samples as slots come free."""
        first, samples = 0, stream.meter.samples
        while first < samples:
            count = await self._slots.acquire(samples - first)
            group.start_soon(self._complete, portal, stream, request, range(first, first + count))
            first += count

    async def _complete(self, portal: BlockingPortal, stream: _LlamaStream, request: wire.Request, samples: range) -> None:
        """Run one request in a thread, which is never left before llama.cpp has ended it."""
        on_event = partial(stream.on_event, portal, samples.start)
        try:
            complete = partial(self._llama.complete, request.samples(samples), on_event)
            await to_thread.run_sync(complete, limiter=self._threads)
            stream.end_request(samples)
        except EngineFailed as error:
            stream.fail(error)
        finally:
            self._slots.release(len(samples))
