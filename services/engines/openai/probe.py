"""Probes of the features of an OpenAI-compatible server, with a few requests of a token or two."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from services.engines.openai import wire
from services.engines.openai.wire import CHAT, COMPLETIONS, Features, Fields
from services.errors import EngineFailed, InvalidRequest

Post = Callable[[str, Fields], Awaitable[Fields]]
"""Posts a body to a path and returns the JSON of the response. Raises `InvalidRequest` if the server refuses it."""

HELLO = {"role": "user", "content": "Hi"}
DEFAULT_OVERHEAD = 256
"""Bound of the tokens that the chat template adds, for a server that reports no usage."""
_BEGUN = [HELLO, {"role": "assistant", "content": "Hello, hello"}]
_OBJECT = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}
_SCHEMA = json.dumps(_OBJECT)


async def probe(post: Post, model: str, ids: list[int] | None) -> Features:
    """Try each feature by itself; `ids` is a short prompt as token ids, if the tokenizer is known.

    A feature that the server refuses, ignores or fails at is not supported. Raises `EngineFailed` if it cannot even chat.
    """
    server = _Probe(post, model, ids)
    try:
        overhead = _prompt_tokens(await server.chat())
    except InvalidRequest as error:
        raise EngineFailed(f"the server cannot complete a chat: {error.detail}") from error
    by_ids = await _holds(server.counts_ids)
    return Features(
        overhead=overhead or DEFAULT_OVERHEAD,
        ids=by_ids,
        choices=await _holds(server.draws_two),
        logprobs=await _holds(server.gives_logprobs),
        continues=not by_ids and await _holds(server.continues),
        score=by_ids and await _holds(server.scores),
        json=await _holds(server.follows_schema),
        choice=await server.choice(),
        priority=await _holds(server.takes_priority),
        salt=await _holds(server.takes_salt),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """Trials of single features. Each returns whether the feature works; an error means that it does not."""

    post: Post
    model: str
    ids: list[int] | None

    async def chat(self, **fields: Any) -> Fields:  # noqa: ANN401 - JSON
        """Send a short chat."""
        body = {"model": self.model, "messages": [HELLO], "max_tokens": 1, "temperature": 0.0, **fields}
        return await self.post(CHAT, body)

    async def complete(self, **fields: Any) -> Fields:  # noqa: ANN401 - JSON
        """Send a short prompt as token ids."""
        return await self.post(COMPLETIONS, {"model": self.model, "prompt": self.ids, "max_tokens": 1, **fields})

    async def counts_ids(self) -> bool:
        """Return whether token ids are accepted as they are, with nothing added."""
        return self.ids is not None and _prompt_tokens(await self.complete()) == len(self.ids)

    async def scores(self) -> bool:
        """Return whether log-probabilities of the prompt are returned."""
        response = await self.complete(prompt_logprobs=0)
        return bool(self.ids and wire.prompt_logprobs(response["choices"][0], self.ids))

    async def continues(self) -> bool:
        """Return whether a last assistant message is continued: it stays open, so the prompt is shorter."""
        open_turn = await self.chat(messages=_BEGUN, add_generation_prompt=False, continue_final_message=True)
        return 0 < _prompt_tokens(open_turn) < _prompt_tokens(await self.chat(messages=_BEGUN))

    async def draws_two(self) -> bool:
        """Return whether one request can return several samples."""
        return len((await self.chat(n=2, temperature=1.0))["choices"]) == 2  # noqa: PLR2004 - the n of the request

    async def gives_logprobs(self) -> bool:
        """Return whether generated tokens have log-probabilities."""
        response = await self.chat(logprobs=True, top_logprobs=5)
        return bool(wire.delta(response["choices"][0], 0)[0].logprobs)

    async def follows_schema(self) -> bool:
        """Return whether a JSON schema is followed."""
        return json.loads(_text(await self.chat(max_tokens=30, **wire.json_schema(_SCHEMA)))) == {"a": "b"}

    async def choice(self) -> Literal["structured_outputs", "grammar"] | None:
        """Return the field that constrains a text to a choice; None if there is none."""
        if await _holds(lambda: self.chooses(structured_outputs={"choice": ["yes", "no"]})):
            return "structured_outputs"
        return "grammar" if await _holds(lambda: self.chooses(grammar='root ::= "yes" | "no"')) else None

    async def chooses(self, **fields: Any) -> bool:  # noqa: ANN401 - JSON
        """Return whether the response is one of two choices."""
        return _text(await self.chat(max_tokens=8, **fields)) in {"yes", "no"}

    async def takes_priority(self) -> bool:
        """Return whether a request may have a priority."""
        return bool(await self.chat(priority=1))

    async def takes_salt(self) -> bool:
        """Return whether the cache of a tenant can be kept separate."""
        return bool(await self.chat(cache_salt="probe"))


async def _holds(trial: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await trial()
    except (InvalidRequest, EngineFailed, KeyError, IndexError, TypeError, ValueError):
        return False


def _text(response: Fields) -> str:
    return str(response["choices"][0]["message"]["content"]).strip()


def _prompt_tokens(response: Fields) -> int:
    usage: Fields = response.get("usage") or {}
    return int(usage.get("prompt_tokens") or 0)
