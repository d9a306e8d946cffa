"""The engine for any OpenAI-compatible server: vllm serve, SGLang, llama-server, Ollama, a router, a hosted API.

If the model's tokenizer is known, prompts are sent as token ids and counted exactly; otherwise they are sent as messages and
bounded by their UTF-8 bytes. The features of the server are probed once, when it is first reached. Several addresses are
replicas: a call that fails before its first chunk is sent to the next one; a stream that breaks off later fails. Closing a
stream aborts the request on the server.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, replace

import anyio
import structlog
from prometheus_client.registry import Collector

from services.call_context import CallContext
from services.contracts.messages import Message
from services.contracts.model import Capabilities
from services.contracts.usage import Usage
from services.engines.generation import Meter, MeteredEngine, base_seed, scored_deltas, tokens_left
from services.engines.openai import wire
from services.engines.openai.probe import HELLO, probe
from services.engines.openai.replicas import Replica, Replicas
from services.engines.openai.servers import Servers
from services.engines.openai.wire import CHAT, COMPLETIONS, CONTROL_TOKENS, Features, Fields
from services.engines.protocol import ANONYMOUS, Delta, Generation, GenerationStream, Prompt
from services.engines.tokenizers.chat import ChatTokenizer
from services.errors import CounterpointError, EngineFailed, InvalidRequest, NotReady

RETRY_SECONDS = 1.0
"""`Retry-After` of a service that has not reached a server yet."""
PROBE_SECONDS = 60.0

log = structlog.get_logger("openai")


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """The servers, and the name of the model there. `context_length` is in tokens, for servers that do not report theirs."""

    base_urls: tuple[str, ...]
    model: str
    context_length: int = 8192
    api_key: str | None = None


class OpenAIEngine(MeteredEngine):
    """A model on OpenAI-compatible servers."""

    name = "openai"

    def __init__(self, options: OpenAIOptions, tokenizer: ChatTokenizer | None = None) -> None:
        """Create the engine; no request is sent before the first `check` or call."""
        super().__init__()
        self.model = options.model
        self.special_tokens = tokenizer.special_tokens if tokenizer else CONTROL_TOKENS
        self._options = options
        self._tokenizer = tokenizer
        replicas = Replicas(options.base_urls, options.api_key)
        self.replicas = replicas.all
        self.metrics: Collector | None = replicas.registry
        self.context_length = options.context_length
        self._servers = Servers(replicas)
        self._features: Features | None = None
        self._probing = anyio.Lock()

    @property
    def features(self) -> Features:
        """The features of the servers. Raises `NotReady` before one of them has been reached."""
        if self._features is None:
            raise NotReady("no server of the model has been reached yet", retry_after=RETRY_SECONDS)
        return self._features

    @property
    def capabilities(self) -> Capabilities:
        """The features in the terms of the model card."""
        return self.features.capabilities

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the prompt: exact with token ids, else a bound by bytes and the overhead of the template."""
        ids = self._ids(prompt)
        if ids is not None:
            return len(ids)
        texts = [message.content for message in prompt.messages] + ([prompt.prefix] if prompt.prefix else [])
        return sum(len(text.encode()) + self.features.overhead for text in texts)

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[GenerationStream]:
        """Start generating; see `Engine.generate`. Raises `ContextExceeded`, `InvalidRequest`."""
        prompt_tokens = self.count(generation.prompt)
        if self.features.ids:
            most = min(generation.sampling.max_tokens, tokens_left(self.context_length, prompt_tokens))
            sampling = generation.sampling.model_copy(update={"max_tokens": most})
            generation = replace(generation, sampling=sampling)
        meter = Meter(generation.n)
        async with self._generated(meter, self._sampled(generation, meter, prompt_tokens)) as stream:
            yield stream

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AsyncGenerator[GenerationStream]:
        """Score `continuation`; see `Engine.score`. The server samples one token after it, which counts as completion.

        Raises `ContextExceeded`, and `InvalidRequest` for an empty text or a server that does not score.
        """
        ids = self._ids(prompt)
        if ids is None or self._tokenizer is None or not self.features.score:
            raise InvalidRequest("the server cannot score texts")
        scored = self._tokenizer.encode(continuation)
        if not scored:
            raise InvalidRequest("an empty text cannot be scored")
        tokens_left(self.context_length, len(ids) + len(scored))
        meter = Meter()
        deltas = self._scored([*ids, *scored], self._tokenizer.pieces(scored), call, meter)
        async with self._generated(meter, deltas) as stream:
            yield stream

    async def check(self) -> None:
        """Return if at least one server responds and has been probed; else raise the error of the last one."""
        failures: list[CounterpointError] = []

        async def check_replica(replica: Replica) -> None:
            try:
                models = await self._servers.models(replica)
                await self._probe(replica, models)
            except CounterpointError as error:
                failures.append(error)

        async with anyio.create_task_group() as group:
            for replica in self.replicas:
                group.start_soon(check_replica, replica)
        if len(failures) == len(self.replicas):
            raise failures[-1]

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.replicas.close()

    def _ids(self, prompt: Prompt) -> list[int] | None:
        return self._tokenizer.prompt_ids(prompt) if self._tokenizer and self.features.ids else None

    async def _sampled(self, generation: Generation, meter: Meter, prompt_tokens: int) -> AsyncGenerator[Delta]:
        """Yield the deltas of all samples: from one stream, or from one stream per sample if the server has no `n`."""
        at_once = generation.n if self.features.choices else 1
        ids, seed = self._ids(generation.prompt), base_seed(generation.sampling)
        settled = Usage()
        for first in range(0, generation.n, at_once):
            part = replace(generation, n=min(at_once, generation.n - first))
            body = wire.request(part, self.features, self.model, ids, seed + first)
            path = CHAT if ids is None else COMPLETIONS
            account = _StreamAccount(meter, settled, prompt_tokens)
            async with aclosing(self._servers.stream(path, body, generation.call)) as chunks:
                async for chunk in chunks:
                    account.begin()
                    for choice in chunk.get("choices") or ():
                        delta, most = wire.delta(choice, first)
                        account.add(delta, most)
                        yield delta
                    account.report(chunk.get("usage"))
            if not set(range(first, first + part.n)) <= meter.finished:
                raise EngineFailed("the server ended a stream before its samples")
            settled = meter.usage

    async def _scored(self, ids: list[int], pieces: Sequence[str], call: CallContext, meter: Meter) -> AsyncGenerator[Delta]:
        body: Fields = {"model": self.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        meter.prompt_tokens = len(ids)
        response = await self._servers.post(COMPLETIONS, body, call)
        meter.completion_tokens = 1
        try:
            logprobs = wire.prompt_logprobs(response["choices"][0], ids)[-len(pieces) :]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineFailed("the server did not return the log-probabilities of the prompt") from error
        for delta in scored_deltas(pieces, logprobs):
            if delta.finish_reason:
                meter.finished.add(delta.index)
            yield delta

    async def _probe(self, replica: Replica, models: Fields) -> None:
        """Probe the features of the servers, on the first one that is reached."""
        async with self._probing:
            if self._features is not None:
                return
            ids = None
            if self._tokenizer:
                ids = self._tokenizer.prompt_ids(Prompt((Message(role="user", content=HELLO["content"]),)))

            async def post(path: str, body: Fields) -> Fields:
                with anyio.fail_after(PROBE_SECONDS):
                    return await self._servers.post_to(replica, path, body, ANONYMOUS)

            self.context_length = _context_length(models, self.model) or self.context_length
            self._features = await probe(post, self.model, ids)
            log.info("probed", server=replica.name, **asdict(self._features))


@dataclass(slots=True)
class _StreamAccount:
    """The usage of one stream: an upper bound at first, then what the server reports.

    Tokens that the server does not list are bounded by their bytes, plus one for the end of each sample.
    """

    meter: Meter
    before: Usage
    prompt_tokens: int
    tokens: int = 0

    def begin(self) -> None:
        """Count the prompt, which the server has computed when it begins to respond."""
        self.meter.prompt_tokens = max(self.meter.prompt_tokens, self.before.prompt_tokens + self.prompt_tokens)

    def add(self, delta: Delta, most: int) -> None:
        """Count a delta of at most `most` tokens."""
        self.tokens += most + (delta.finish_reason is not None)
        if delta.finish_reason:
            self.meter.finished.add(delta.index)
        self.meter.completion_tokens = self.before.completion_tokens + self.tokens

    def report(self, usage: Fields | None) -> None:
        """Replace the counts by the usage that the server reports for the stream so far."""
        if not usage:
            return
        details: Fields = usage.get("prompt_tokens_details") or {}
        self.meter.prompt_tokens = self.before.prompt_tokens + int(usage.get("prompt_tokens") or self.prompt_tokens)
        self.meter.completion_tokens = self.before.completion_tokens + int(usage.get("completion_tokens") or 0)
        self.meter.cached_tokens = self.before.cached_tokens + int(details.get("cached_tokens") or 0)


def _context_length(models: Fields, name: str) -> int | None:
    """Return the context length of a model in a list of models, if it is given."""
    entries: list[Fields] = models.get("data") or []
    unknown: Fields = {}
    entry = next((entry for entry in entries if entry.get("id") == name), unknown)
    meta: Fields = entry.get("meta") or {}
    length: int | None = entry.get("max_model_len") or meta.get("n_ctx")
    return length
