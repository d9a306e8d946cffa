"""llama.cpp in this process: the engine that needs no GPU and no other server.

A request blocks a worker thread, whose events are handed to the event loop. It is only sent when slots are free, because
llama.cpp can abort what it computes and not what it queues. Samples of one generation go together as far as slots
are free and share one prefill; sample k depends on the seed and k, not on how they were grouped. Leaving a generation
aborts it within one batch of the prompt or one token.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal

from services.contracts.model import Capabilities
from services.contracts.sampling import Sampling
from services.contracts.usage import Usage
from services.engines import completion
from services.engines.gguf_file import read_gguf
from services.engines.llama import Event, Llama
from services.engines.protocol import Caller, Delta, Generation, Guide, Meter, Prompt, Running
from services.engines.slots import Slots
from services.engines.tokenizer import ChatTokenizer, load_tokenizer
from services.errors import ContextExceeded, CounterpointError, EngineFailed, InvalidRequest

CAPABILITIES = Capabilities(prefix=True, logprobs=True, guided=("choice", "json", "grammar"), score=True, counts="exact")


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """Which model, and how much of the machine. `context_length` is in tokens, for each of the `slots`.

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
    """What the model is called; None = as its file."""


class _Running:
    """A generation in progress. Everything here happens on the event loop, but for reading `left`."""

    def __init__(self, prompt_tokens: int, samples: int, *, scored: bool = False) -> None:
        """`scored` tokens were given and not sampled: they count as prompt."""
        self.left = False
        self._scored = scored
        self._prompt_tokens = prompt_tokens
        self._samples = self._unread = samples
        self._meter = Meter()
        self._generated: dict[int, int] = {}
        self._send, self._receive = anyio.create_memory_object_stream[Delta | CounterpointError](float("inf"))
        self._arrived: deque[tuple[int, Event]] = deque()
        self._waking = False

    @property
    def usage(self) -> Usage:
        """The account so far."""
        return self._meter.usage

    @property
    def finished(self) -> bool:
        """Whether every sample came to its end."""
        return len(self._meter.finished) == self._samples

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while self._unread:
            item = await self._receive.receive()
            if isinstance(item, CounterpointError):
                raise item
            self._unread -= item.finish_reason is not None
            yield item

    def arrive(self, portal: BlockingPortal, first: int, event: Event) -> bool:
        """Hand over an event, from a worker thread and without waiting; whether nobody wants more.

        Events that arrive while the event loop is busy are taken together.
        """
        self._arrived.append((first, event))
        if not self._waking:
            self._waking = True
            portal.start_task_soon(self.take_arrived)
        return self.left

    def take_arrived(self) -> None:
        """Take what has arrived, in its order."""
        self._waking = False
        while self._arrived:
            first, event = self._arrived.popleft()
            try:
                self._take(first, event)
            except Exception as error:  # noqa: BLE001 - whatever it is about the event that was not foreseen
                self.fail(EngineFailed(f"an event of llama.cpp was not understood: {error!r}"))

    def _take(self, first: int, event: Event) -> None:
        """Account for an event of the request whose first sample is `first`, and pass it on."""
        failure = completion.failure(event)
        if failure:
            self.fail(failure)
            return
        self._meter.prompt_tokens = max(self._meter.prompt_tokens, self._prompt_tokens)
        cached = completion.cached_tokens(event)
        if cached is not None and first == 0:
            self._meter.cached_tokens = cached
        self._add(first + completion.sample(event), event)

    def fail(self, error: CounterpointError) -> None:
        """End with an error."""
        if not self.left:
            self._send.send_nowait(error)

    def ended(self, samples: range) -> None:
        """A request has returned; every one of its samples should have finished."""
        self.take_arrived()
        if not self.left and not self._meter.finished.issuperset(samples):
            self.fail(EngineFailed("llama.cpp ended a completion early"))

    def close(self) -> None:
        """Nobody will read any more."""
        self._send.close()
        self._receive.close()

    def _add(self, index: int, event: Event) -> None:
        total = completion.generated(event)
        tokens = total - self._generated.get(index, 0)
        self._generated[index] = total
        if self._scored:
            self._meter.prompt_tokens += tokens
        else:
            self._meter.completion_tokens += tokens
        delta = completion.delta(event, index, tokens)
        if delta.tokens or delta.finish_reason:
            self._send.send_nowait(delta)
        if delta.finish_reason:
            self._meter.finished.add(index)


class EmbeddedEngine:
    """A GGUF model under llama.cpp."""

    name = "embedded"
    capabilities = CAPABILITIES
    metrics = None

    def __init__(self, options: EmbeddedOptions, llama: Llama, tokenizer: ChatTokenizer, parameters: int) -> None:
        """Use `load`. `totals` adds up every generation's usage, `aborted` counts those left before their end."""
        self.model = options.name or options.model_path.stem
        self.context_length = options.context_length
        self.parameters: int | None = parameters
        self.special_tokens = tokenizer.special_tokens
        self.in_flight = 0
        self.aborted = 0
        self.totals = Usage()
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
        """What an engine is made of: the model, its tokenizer, the number of its parameters. Blocks while it loads."""
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
        """Tokens of the prompt, exactly. Raises `InvalidRequest` when the chat template refuses it."""
        return len(self._tokenizer.prompt_ids(prompt))

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[Running]:
        """Start generating; see `Engine.generate`. Raises `ContextExceeded`, and `InvalidRequest` for an unknown guide."""
        ids = self._tokenizer.prompt_ids(generation.prompt)
        room = self.context_length - len(ids)
        if room < 1:
            raise ContextExceeded(needed=len(ids) + 1, context_length=self.context_length)
        async with self._run(
            completion.request(generation, ids, room), _Running(len(ids), generation.n), generation.n
        ) as running:
            yield running

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, caller: Caller) -> AsyncGenerator[Running]:
        """Force the tokens of `continuation`, which is tokenised by itself, upon the model; see `Engine.score`.

        Raises `ContextExceeded`, and `InvalidRequest` for a text that is empty or has characters that span several tokens:
        llama.cpp does not report those one by one.
        """
        del caller  # one process, one cache
        ids, forced = self._tokenizer.prompt_ids(prompt), self._tokenizer.encode(continuation)
        if not forced or self._tokenizer.splits_characters(forced):
            raise InvalidRequest("the embedded engine scores no empty text, and none whose characters span several tokens")
        needed = len(ids) + len(forced)
        if needed > self.context_length:
            raise ContextExceeded(needed=needed, context_length=self.context_length)
        sampling = Sampling(temperature=0.0, max_tokens=len(forced))
        guide = Guide("grammar", completion.forced_grammar(forced))
        request = completion.request(Generation(prompt, sampling, guide=guide, top_logprobs=1), ids, len(forced))
        async with self._run(request, _Running(len(ids), 1, scored=True), 1) as running:
            yield running

    async def check(self) -> None:
        """Return while the model is loaded; raise `EngineFailed` otherwise."""
        if self._llama.closed:
            raise EngineFailed("the engine is closed")

    async def close(self) -> None:
        """Free the model."""
        await to_thread.run_sync(self._llama.close)

    @asynccontextmanager
    async def _run(self, request: completion.Request, running: _Running, samples: int) -> AsyncGenerator[_Running]:
        self.in_flight += 1
        try:
            async with _background() as (group, portal):
                group.start_soon(self._admit, group, portal, running, request, samples)
                try:
                    yield running
                finally:
                    running.left = True
        finally:
            running.close()
            self.in_flight -= 1
            self.aborted += not running.finished
            self.totals += running.usage

    async def _admit(
        self, group: TaskGroup, portal: BlockingPortal, running: _Running, request: completion.Request, samples: int
    ) -> None:
        """Start the samples as slots come free."""
        first = 0
        while first < samples:
            count = await self._slots.take(samples - first)
            chosen = range(first, first + count)
            group.start_soon(self._complete, portal, running, request.samples(chosen), chosen)
            first += count

    async def _complete(self, portal: BlockingPortal, running: _Running, request: dict[str, object], samples: range) -> None:
        """Run one request in a thread, which is never left before llama.cpp has let go of it."""
        on_event = partial(running.arrive, portal, samples.start)
        try:
            await to_thread.run_sync(partial(self._llama.complete, request, on_event), limiter=self._threads)
            running.ended(samples)
        except EngineFailed as error:
            running.fail(error)
        finally:
            self._slots.give_back(len(samples))


@asynccontextmanager
async def _background() -> AsyncGenerator[tuple[TaskGroup, BlockingPortal]]:
    """A task group that ends with its body and raises what its body raises, not a group of it; and a way in for threads."""
    failure: Exception | None = None
    async with BlockingPortal() as portal, anyio.create_task_group() as group:
        try:
            yield group, portal
        except Exception as error:  # noqa: BLE001 - it is raised again below
            failure = error
        group.cancel_scope.cancel()
    if failure:
        raise failure
