"""The wire format of OpenAI-compatible servers: requests out, chunks in. Pure functions."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from services.contracts.model import Capabilities
from services.engines.protocol import Delta, Generation, Guide, Prompt, TokenLogprobs
from services.errors import InvalidRequest

Fields = dict[str, Any]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

CONTROL_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<|start|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
    *("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<s>", "</s>", "<pad>", "<unk>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),  # noqa: RUF001
)
"""Control tokens of the most common model families, for a server whose tokenizer is not known."""


@dataclass(frozen=True, slots=True)
class Features:
    """The features of a server, as probed. `overhead` is the number of tokens that the chat template adds to a message.

    `ids`: prompts of token ids, which are counted unchanged. `choices`: several samples per request.
    """

    overhead: int
    ids: bool = False
    choices: bool = False
    logprobs: bool = False
    continues: bool = False
    score: bool = False
    json: bool = False
    choice: Literal["structured_outputs", "grammar"] | None = None
    priority: bool = False
    salt: bool = False

    @property
    def capabilities(self) -> Capabilities:
        """The features as the capabilities of an engine."""
        kinds: list[Literal["choice", "regex", "json", "grammar"]] = ["choice"] if self.choice else []
        if self.choice == "structured_outputs":
            kinds.append("regex")
        if self.json:
            kinds.append("json")
        return Capabilities(
            prefix=self.ids or self.continues,
            logprobs=self.logprobs,
            guided=tuple(kinds),
            score=self.ids and self.score,
            counts="exact" if self.ids else "bounded",
        )


def chat(prompt: Prompt) -> Fields:
    """Return a prompt as messages. Its prefix is a last assistant message that is to be continued."""
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    if not prompt.prefix:
        return {"messages": messages}
    messages.append({"role": "assistant", "content": prompt.prefix})
    return {"messages": messages, "add_generation_prompt": False, "continue_final_message": True}


def request(generation: Generation, features: Features, model: str, ids: list[int] | None, seed: int) -> Fields:
    """Return the body for a generation, with token ids if given, else with messages. Raises `InvalidRequest`."""
    sampling = generation.sampling
    fields: Fields = {"prompt": ids} if ids is not None else chat(generation.prompt)
    fields |= {
        "model": model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
        "n": generation.n,
        "stream": True,
        "stream_options": {"include_usage": True, **({"continuous_usage_stats": True} if features.score else {})},
        **guided(generation.guide, features),
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if generation.top_logprobs and features.logprobs:
        most = generation.top_logprobs
        fields |= {"logprobs": most} if ids is not None else {"logprobs": True, "top_logprobs": most}
    if features.score:
        fields["return_token_ids"] = True  # vLLM
    if features.priority and generation.call.priority:
        fields["priority"] = generation.call.priority
    if features.salt and generation.call.tenant:
        fields["cache_salt"] = generation.call.tenant
    return fields


def guided(guide: Guide | None, features: Features) -> Fields:
    """Return the fields that constrain a text. Raises `InvalidRequest` for a guide that is not supported."""
    if guide is None:
        return {}
    match guide.kind, guide.value, features.choice:
        case "choice", tuple() as choices, "structured_outputs":
            return {"structured_outputs": {"choice": list(choices)}}
        case "choice", tuple() as choices, "grammar":
            return {"grammar": "root ::= " + " | ".join(json.dumps(choice) for choice in choices)}
        case "regex", str() as pattern, "structured_outputs":
            return {"structured_outputs": {"regex": pattern}}
        case "json", str() as schema, _ if features.json:
            return json_schema(schema)
        case _:
            raise InvalidRequest(f"the server does not support guides of kind {guide.kind!r}")


def json_schema(schema: str) -> Fields:
    """Return the fields for JSON of a schema. Raises `InvalidRequest` if the schema is not JSON."""
    try:
        parsed = json.loads(schema)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"the schema is not JSON: {error}") from error
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": parsed, "strict": True}}}


def delta(choice: Fields, first: int) -> tuple[Delta, int]:
    """Return the delta of a chunk's choice, and an upper bound of its tokens; `first` is the sample of choice 0.

    If a server sends neither ids nor log-probabilities, a chunk counts as one token and is bounded by its bytes, reasoning
    included.
    """
    message: Fields = choice.get("delta") or choice.get("message") or {}
    text: str = choice.get("text") or message.get("content") or ""
    reasoning: str = message.get("reasoning_content") or message.get("reasoning") or ""
    logprobs = _logprobs(choice.get("logprobs") or {})
    reason = choice.get("finish_reason")
    finish = None if reason is None else ("length" if reason == "length" else "stop")
    tokens = len(choice.get("token_ids") or logprobs) or int(bool(text or reasoning))
    added = Delta(first + int(choice.get("index", 0)), text, tokens, logprobs, finish)
    named = bool(choice.get("token_ids") or logprobs)
    return added, tokens if named else len(text.encode()) + len(reasoning.encode())


def _logprobs(fields: Fields) -> tuple[TokenLogprobs, ...]:
    """Read the log-probabilities of chat completions (`content`) or of completions (parallel lists)."""
    if fields.get("content"):
        return tuple(
            TokenLogprobs(e["token"], e["logprob"], tuple((t["token"], t["logprob"]) for t in e.get("top_logprobs") or ()))
            for e in fields["content"]
        )
    tops: list[Fields] = fields.get("top_logprobs") or []
    tokens: list[str] = fields.get("tokens") or []
    chances: list[float | None] = fields.get("token_logprobs") or []
    return tuple(
        TokenLogprobs(token, chance or 0.0, tuple((tops[place] or {}).items()) if place < len(tops) else ())
        for place, (token, chance) in enumerate(zip(tokens, chances, strict=False))
    )


def prompt_logprobs(choice: Fields, ids: list[int]) -> list[float]:
    """Read the log-probabilities of a prompt's tokens but the first, as vLLM gives them. Raises `KeyError`, `TypeError`."""
    places: list[Fields] = choice["prompt_logprobs"][1:]
    return [float(place[str(token)]["logprob"]) for place, token in zip(places, ids[1:], strict=True)]
