"""What an OpenAI-compatible server can do, found out with a few requests of a token or two."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from services.engines import openai_wire as wire
from services.engines.openai_wire import CHAT, COMPLETIONS, Features, Fields
from services.errors import EngineFailed, InvalidRequest

Ask = Callable[[str, Fields], Awaitable[Fields]]
"""POST a body to a path; the JSON of the answer. Raises `InvalidRequest` for what the server refuses."""

HELLO = {"role": "user", "content": "Hi"}
GENEROUS = 256
"""Tokens that the template of a server that counts nothing may add."""
_BEGUN = [HELLO, {"role": "assistant", "content": "Hello, hello"}]
_OBJECT = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}
_SCHEMA = json.dumps(_OBJECT)


async def probe(ask: Ask, model: str, ids: list[int] | None) -> Features:
    """Ask for each feature by itself; `ids` is a short prompt as token ids, where the tokenizer is known.

    What a server refuses, ignores or fails at it cannot do. Raises `EngineFailed` where it does not even chat.
    """
    asked = _Probe(ask, model, ids)
    try:
        overhead = _prompt_tokens(await asked.chat())
    except InvalidRequest as error:
        raise EngineFailed(f"the server does not chat: {error.detail}") from error
    by_ids = await _holds(asked.counts_ids)
    return Features(
        overhead=overhead or GENEROUS,
        ids=by_ids,
        choices=await _holds(asked.draws_two),
        logprobs=await _holds(asked.tells_logprobs),
        continues=not by_ids and await _holds(asked.continues),
        score=by_ids and await _holds(asked.scores),
        json=await _holds(asked.speaks_json),
        choice=await asked.choice(),
        priority=await _holds(asked.takes_priority),
        salt=await _holds(asked.takes_salt),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """The questions, each true or false, or an error that means false."""

    ask: Ask
    model: str
    ids: list[int] | None

    async def chat(self, **fields: Any) -> Fields:  # noqa: ANN401 - JSON
        """A short chat."""
        body = {"model": self.model, "messages": [HELLO], "max_tokens": 1, "temperature": 0.0, **fields}
        return await self.ask(CHAT, body)

    async def complete(self, **fields: Any) -> Fields:  # noqa: ANN401 - JSON
        """A short prompt as token ids."""
        return await self.ask(COMPLETIONS, {"model": self.model, "prompt": self.ids, "max_tokens": 1, **fields})

    async def counts_ids(self) -> bool:
        """Whether token ids are taken as they are, nothing added."""
        return self.ids is not None and _prompt_tokens(await self.complete()) == len(self.ids)

    async def scores(self) -> bool:
        """Whether log-probabilities of the prompt come back."""
        found = await self.complete(prompt_logprobs=0)
        return bool(self.ids and wire.read(found["choices"][0], self.ids))

    async def continues(self) -> bool:
        """Whether a last message of the assistant is continued: its turn is left open, so the prompt is shorter."""
        open_turn = await self.chat(messages=_BEGUN, add_generation_prompt=False, continue_final_message=True)
        return 0 < _prompt_tokens(open_turn) < _prompt_tokens(await self.chat(messages=_BEGUN))

    async def draws_two(self) -> bool:
        """Whether one request draws several samples."""
        return len((await self.chat(n=2, temperature=1.0))["choices"]) == 2  # noqa: PLR2004 - those asked for

    async def tells_logprobs(self) -> bool:
        """Whether generated tokens come with their log-probabilities."""
        found = await self.chat(logprobs=True, top_logprobs=5)
        return bool(wire.delta(found["choices"][0], 0)[0].logprobs)

    async def speaks_json(self) -> bool:
        """Whether a JSON schema is held to."""
        return json.loads(_text(await self.chat(max_tokens=30, **wire.json_schema(_SCHEMA)))) == {"a": "b"}

    async def choice(self) -> Literal["structured_outputs", "grammar"] | None:
        """How one of several texts is asked for."""
        if await _holds(lambda: self.chooses(structured_outputs={"choice": ["yes", "no"]})):
            return "structured_outputs"
        return "grammar" if await _holds(lambda: self.chooses(grammar='root ::= "yes" | "no"')) else None

    async def chooses(self, **fields: Any) -> bool:  # noqa: ANN401 - JSON
        """Whether one of the two is said."""
        return _text(await self.chat(max_tokens=8, **fields)) in {"yes", "no"}

    async def takes_priority(self) -> bool:
        """Whether a request may have a priority."""
        return bool(await self.chat(priority=1))

    async def takes_salt(self) -> bool:
        """Whether a tenant's cache can be kept apart."""
        return bool(await self.chat(cache_salt="probe"))


async def _holds(asked: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await asked()
    except (InvalidRequest, EngineFailed, KeyError, IndexError, TypeError, ValueError):
        return False


def _text(found: Fields) -> str:
    return str(found["choices"][0]["message"]["content"]).strip()


def _prompt_tokens(found: Fields) -> int:
    usage: Fields = found.get("usage") or {}
    return int(usage.get("prompt_tokens") or 0)
