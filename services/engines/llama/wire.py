"""The wire format of llama.cpp's completion endpoint: pure functions that build requests and parse events.

Sampling applies temperature first, then top_p, and none of llama.cpp's other samplers. Log-probabilities are those of the
model, before temperature and any guide.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.engines.generation import base_seed
from services.engines.llama.library import Event
from services.engines.protocol import Delta, Generation, Guide, TokenLogprobs
from services.errors import CounterpointError, EngineFailed, InvalidRequest

BAD_REQUEST = 400

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


@dataclass(frozen=True, slots=True)
class LlamaRequest:
    """The fields that all samples of a generation share, and the seed of sample 0."""

    fields: Mapping[str, object]
    seed: int

    def samples(self, chosen: range) -> dict[str, object]:
        """Return the request for some of the samples; llama.cpp uses the request's seed + k for the k-th of them."""
        return {**self.fields, "n": len(chosen), "seed": self.seed + chosen.start}


def request(generation: Generation, ids: Sequence[int], most: int) -> LlamaRequest:
    """Return the request for a generation with at most `most` tokens per completion.

    Raises `InvalidRequest` for an unsupported guide.
    """
    sampling = generation.sampling
    fields = {
        "prompt": list(ids),
        "n_predict": min(sampling.max_tokens, most),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "samplers": ["temperature", "top_p"],
        "stop": list(sampling.stop),
        "n_probs": generation.top_logprobs,
        "stream": True,
        "return_progress": True,
        "timings_per_token": True,
        "cache_prompt": True,
        **guided(generation.guide),
    }
    return LlamaRequest(fields, base_seed(sampling))


def guided(guide: Guide | None) -> dict[str, object]:
    """Return the fields of a request that constrain its text. Raises `InvalidRequest` for an unsupported guide."""
    if guide is None:
        return {}
    if guide.kind == "choice" and not isinstance(guide.value, str):
        return {"grammar": choice_grammar(guide.value)}
    if guide.kind == "json" and isinstance(guide.value, str):
        return {"json_schema": _schema(guide.value)}
    if guide.kind == "grammar" and isinstance(guide.value, str):
        return {"grammar": guide.value}
    raise InvalidRequest(f"the embedded engine has no guide of kind {guide.kind!r}")


def _schema(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"the schema is not JSON: {error}") from error


def choice_grammar(choices: Sequence[str]) -> str:
    """Return a GBNF grammar for one of several texts."""
    return "root ::= " + " | ".join(f'"{choice.translate(_ESCAPES)}"' for choice in choices)


def forced_grammar(ids: Sequence[int]) -> str:
    """Return a GBNF grammar for exactly these tokens."""
    return "root ::= " + " ".join(f"<[{token}]>" for token in ids)


def failure(event: Event) -> CounterpointError | None:
    """Return the error that an event reports, or None."""
    error: dict[str, Any] | None = event.get("error")
    if error is None:
        return None
    kind = InvalidRequest if error.get("code") == BAD_REQUEST else EngineFailed
    return kind(f"llama.cpp refused: {error.get('message', error)}")


def cached_tokens(event: Event) -> int | None:
    """Return the number of cached prompt tokens, or None if the event does not report it."""
    progress: dict[str, int] | None = event.get("prompt_progress")
    return None if progress is None else progress["cache"]


def sample(event: Event) -> int:
    """Return the index, within the request, of the sample that an event belongs to."""
    return int(event["choices"][0]["index"])


def delta(event: Event, index: int, before: int) -> Delta:
    """Return the delta of an event for sample `index`, which had `before` tokens, including held-back ones."""
    choice: dict[str, Any] = event["choices"][0]
    reported: dict[str, list[dict[str, Any]]] = choice["logprobs"] or {"content": []}
    logprobs = tuple(
        TokenLogprobs(
            entry["token"],
            entry["logprob"],
            tuple((top["token"], top["logprob"]) for top in entry["top_logprobs"]),
        )
        for entry in reported["content"]
    )
    tokens = int(event["timings"]["predicted_n"]) - before
    return Delta(index, choice["text"], tokens, logprobs, choice["finish_reason"])
