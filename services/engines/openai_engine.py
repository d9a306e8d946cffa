"""Any OpenAI-compatible server behind a role service: vllm serve, SGLang, llama-server, Ollama, a router, a hosted API.

With the model's tokenizer at hand, prompts go out as token ids and are counted exactly; without it, as messages, and are
bounded by their UTF-8 bytes. What the server can do is probed once, when it is first reached. Several addresses are
replicas: a call that fails before its first chunk goes to the next one, and a stream that breaks later fails. Closing a
stream aborts what runs behind it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace

import anyio
import structlog
from prometheus_client.registry import Collector

from services.contracts.model import Capabilities
from services.contracts.problem import Message
from services.contracts.usage import Usage
from services.engines import openai_wire as wire
from services.engines.openai_probe import HELLO, probe
from services.engines.openai_servers import Servers
from services.engines.openai_wire import CHAT, COMPLETIONS, CONTROL_TOKENS, Features, Fields
from services.engines.protocol import Caller, Delta, Generation, Meter, Prompt, TokenLogprobs
from services.engines.replicas import Replica, Replicas
from services.engines.seeds import base_seed
from services.engines.tokenizer import ChatTokenizer
from services.errors import ContextExceeded, CounterpointError, EngineFailed, InvalidRequest, NotReady

RETRY_SECONDS = 1.0
"""When a service that has reached no server may be asked again."""
PROBE_SECONDS = 60.0

log = structlog.get_logger("openai")


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """Which servers, under which model name. `context_length` in tokens, where the servers do not tell."""

    base_urls: tuple[str, ...]
    model: str
    context_length: int = 8192
    api_key: str | None = None


@dataclass(slots=True)
class _Running:
    """A generation in progress, over one stream or several."""

    deltas: AsyncGenerator[Delta]
    meter: Meter = field(default_factory=Meter)

    @property
    def usage(self) -> Usage:
        """The account: what the server reported; before it did, no less than what arrived."""
        return self.meter.usage

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self.deltas


class OpenAIEngine:
    """A model behind HTTP."""

    name = "openai"
    parameters: int | None = None

    def __init__(self, options: OpenAIOptions, tokenizer: ChatTokenizer | None = None) -> None:
        """Nothing is asked of the servers before the first `check` or call."""
        self.model = options.model
        self.in_flight = 0
        self.special_tokens = tokenizer.special_tokens if tokenizer else CONTROL_TOKENS
        self._options = options
        self._tokenizer = tokenizer
        self._servers = Servers(Replicas(options.base_urls, options.api_key))
        self._features: Features | None = None
        self._context = options.context_length
        self._probing = anyio.Lock()

    @property
    def metrics(self) -> Collector:
        """The replicas' requests, load and breakers."""
        return self._servers.replicas.registry

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The servers."""
        return self._servers.replicas.all

    @property
    def features(self) -> Features:
        """What the servers can do. Raises `NotReady` before one of them was reached."""
        if self._features is None:
            raise NotReady("no server of the model has been reached yet", retry_after=RETRY_SECONDS)
        return self._features

    @property
    def capabilities(self) -> Capabilities:
        """The same in the words of the model card."""
        return self.features.capabilities

    @property
    def context_length(self) -> int:
        """Longest prompt + completion, in tokens."""
        return self._context

    def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt: exact with token ids, else bounded by its bytes and the template's overhead a message."""
        ids = self._ids(prompt)
        if ids is not None:
            return len(ids)
        texts = [message.content for message in prompt.messages] + ([prompt.prefix] if prompt.prefix else [])
        return sum(len(text.encode()) + self.features.overhead for text in texts)

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[_Running]:
        """Start generating; see `Engine.generate`. Raises `ContextExceeded`, `InvalidRequest`."""
        needed, exact = self.count(generation.prompt), self.features.ids
        if exact and needed + 1 > self._context:
            raise ContextExceeded(needed=needed + 1, context_length=self._context)
        if exact:
            most = min(generation.sampling.max_tokens, self._context - needed)
            sampling = generation.sampling.model_copy(update={"max_tokens": most})
            generation = replace(generation, sampling=sampling)
        running = _Running(_nothing())
        running.deltas = self._sampled(generation, running.meter, needed)
        async with self._entered(running):
            yield running

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, caller: Caller) -> AsyncGenerator[_Running]:
        """Read `continuation`; see `Engine.score`. The server samples one token after it, which counts as completion.

        Raises `ContextExceeded`, and `InvalidRequest` for an empty text or a server that does not score.
        """
        ids = self._ids(prompt)
        if ids is None or self._tokenizer is None or not self.features.score:
            raise InvalidRequest("the server does not score given texts")
        read = self._tokenizer.encode(continuation)
        if not read:
            raise InvalidRequest("an empty text cannot be scored")
        if len(ids) + len(read) + 1 > self._context:
            raise ContextExceeded(needed=len(ids) + len(read) + 1, context_length=self._context)
        running = _Running(_nothing())
        running.deltas = self._scored([*ids, *read], self._tokenizer.pieces(read), caller, running.meter)
        async with self._entered(running):
            yield running

    async def check(self) -> None:
        """Return when at least one server answers and has been probed; raise what the last one said otherwise."""
        failures: list[CounterpointError] = []

        async def look(replica: Replica) -> None:
            try:
                models = await self._servers.look(replica)
                await self._know(replica, models)
            except CounterpointError as error:
                failures.append(error)

        async with anyio.create_task_group() as group:
            for replica in self.replicas:
                group.start_soon(look, replica)
        if len(failures) == len(self.replicas):
            raise failures[-1]

    async def close(self) -> None:
        """Let all connections go."""
        await self._servers.replicas.close()

    @asynccontextmanager
    async def _entered(self, running: _Running) -> AsyncGenerator[None]:
        self.in_flight += 1
        try:
            async with aclosing(running.deltas):
                yield
        finally:
            self.in_flight -= 1

    def _ids(self, prompt: Prompt) -> list[int] | None:
        return self._tokenizer.prompt_ids(prompt) if self._tokenizer and self.features.ids else None

    async def _sampled(self, generation: Generation, meter: Meter, needed: int) -> AsyncGenerator[Delta]:
        """Deltas of all samples: of one stream, or of one after another where the server draws one sample a request."""
        at_once = generation.n if self.features.choices else 1
        ids, seed = self._ids(generation.prompt), base_seed(generation.sampling)
        settled = Usage()
        for first in range(0, generation.n, at_once):
            part = replace(generation, n=min(at_once, generation.n - first))
            body = wire.request(part, self.features, self.model, ids, seed + first)
            path = CHAT if ids is None else COMPLETIONS
            account = _Account(meter, settled, needed)
            async with aclosing(self._servers.stream(path, body, generation.caller)) as chunks:
                async for chunk in chunks:
                    account.begin()
                    for choice in chunk.get("choices") or ():
                        found, most = wire.delta(choice, first)
                        account.take(found, most)
                        yield found
                    account.report(chunk.get("usage"))
            if not set(range(first, first + part.n)) <= meter.finished:
                raise EngineFailed("the server ended a stream before its samples")
            settled = meter.usage

    async def _scored(self, ids: list[int], pieces: Sequence[str], caller: Caller, meter: Meter) -> AsyncGenerator[Delta]:
        body: Fields = {"model": self.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        meter.prompt_tokens = len(ids)
        found = await self._servers.ask(COMPLETIONS, body, caller)
        meter.completion_tokens = 1
        try:
            logprobs = wire.read(found["choices"][0], ids)[-len(pieces) :]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineFailed("the server did not give the log-probabilities of the prompt") from error
        for place, (text, logprob) in enumerate(zip(pieces, logprobs, strict=True)):
            yield Delta(0, text, 1, (TokenLogprobs(text, logprob),), "stop" if place == len(pieces) - 1 else None)

    async def _know(self, replica: Replica, models: Fields) -> None:
        """Find out what the servers can do, from the first that is reached."""
        async with self._probing:
            if self._features is not None:
                return
            ids = None
            if self._tokenizer:
                ids = self._tokenizer.prompt_ids(Prompt((Message(role="user", content=HELLO["content"]),)))

            async def ask(path: str, body: Fields) -> Fields:
                with anyio.fail_after(PROBE_SECONDS):
                    return await self._servers.ask_one(replica, path, body, Caller())

            self._context = _context(models, self.model) or self._context
            self._features = await probe(ask, self.model, ids)
            log.info("probed", server=replica.name, **asdict(self._features))


@dataclass(slots=True)
class _Account:
    """What one stream has used: counted as it arrives, replaced by what the server reports.

    Tokens that nothing names are bounded by their bytes, and one for the end of each sample: never too few.
    """

    meter: Meter
    before: Usage
    needed: int
    tokens: int = 0

    def begin(self) -> None:
        """The server has begun, so it has read the prompt."""
        self.meter.prompt_tokens = max(self.meter.prompt_tokens, self.before.prompt_tokens + self.needed)

    def take(self, found: Delta, most: int) -> None:
        """A delta and the most tokens that it took."""
        self.tokens += most + (found.finish_reason is not None)
        if found.finish_reason:
            self.meter.finished.add(found.index)
        self.meter.completion_tokens = self.before.completion_tokens + self.tokens

    def report(self, usage: Fields | None) -> None:
        """What the server says, for all of the stream so far."""
        if not usage:
            return
        details: Fields = usage.get("prompt_tokens_details") or {}
        self.meter.prompt_tokens = self.before.prompt_tokens + int(usage.get("prompt_tokens") or self.needed)
        self.meter.completion_tokens = self.before.completion_tokens + int(usage.get("completion_tokens") or 0)
        self.meter.cached_tokens = self.before.cached_tokens + int(details.get("cached_tokens") or 0)


async def _nothing() -> AsyncGenerator[Delta]:
    return
    yield


def _context(models: Fields, name: str) -> int | None:
    """The context length that a list of models tells for one of them, if it does."""
    entries: list[Fields] = models.get("data") or []
    nothing: Fields = {}
    entry = next((entry for entry in entries if entry.get("id") == name), nothing)
    meta: Fields = entry.get("meta") or {}
    told: int | None = entry.get("max_model_len") or meta.get("n_ctx")
    return told
