# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""Typed wrapper of the part of vLLM that the engine uses. vLLM is an optional extra; no other module imports it."""

import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector
from transformers import PreTrainedTokenizerFast
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from services.engines.generation import base_seed
from services.engines.protocol import Generation, Guide, TokenLogprobs
from services.errors import CounterpointError, EngineDied, EngineFailed, InvalidRequest


@dataclass(frozen=True, slots=True)
class VllmRequest:
    """A generation with its prompt as token ids; `prompt_logprobs` requests the prompt's log-probabilities too."""

    ids: Sequence[int]
    generation: Generation
    max_tokens: int
    prompt_logprobs: bool = False


@dataclass(frozen=True, slots=True)
class VllmSample:
    """The new text and tokens of one sample."""

    index: int
    text: str
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class VllmOutput:
    """The output of one step for a request. `prompt_logprobs` are those of the prompt's tokens except the first."""

    samples: tuple[VllmSample, ...]
    cached_tokens: int | None
    prompt_logprobs: tuple[float, ...] = ()


class VllmMetrics(Collector):
    """A collector of vLLM's own metrics (`vllm:*`), for the `/metrics` of a service."""

    def collect(self) -> Iterator[Metric]:
        """Return the families whose names begin with `vllm:`."""
        return (family for family in REGISTRY.collect() if family.name.startswith("vllm:"))


class Vllm:
    """vLLM's asynchronous engine."""

    def __init__(self, arguments: Mapping[str, Any], lora: str | None = None) -> None:
        """Load a model with the `arguments` of `AsyncEngineArgs`; blocks until it is loaded. Raises `EngineFailed`."""
        try:
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineFailed(f"vLLM could not load {arguments['model']}: {error}") from error
        self._lora = LoRARequest("adapter", 1, lora) if lora else None
        self.context_length = int(self._llm.model_config.max_model_len)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's tokenizer."""
        return cast("PreTrainedTokenizerFast", self._llm.tokenizer)

    async def stream(self, request: VllmRequest, request_id: str) -> AsyncGenerator[VllmOutput]:
        """Run a request to its end. Raises `EngineDied`, `EngineFailed`, and `InvalidRequest` if vLLM refuses it."""
        prompt: dict[str, object] = {"prompt_token_ids": list(request.ids)}
        call = request.generation.call
        if call.tenant:
            prompt["cache_salt"] = call.tenant
        try:
            outputs = self._llm.generate(
                cast("Any", prompt),
                _sampling(request),
                request_id,
                lora_request=self._lora,
                priority=call.priority,
            )
            async for output in outputs:
                yield _output(output, request)
        except (EngineDeadError, EngineGenerateError, VLLMClientError, ValueError) as error:
            raise _translated(error) from error

    async def abort(self, request_id: str) -> None:
        """Abort a request, which ends its outputs. A request that vLLM does not know, yet or any more, is ignored."""
        await self._llm.abort(request_id)

    async def check(self) -> None:
        """Raise `EngineDied` if the engine is dead."""
        if self._llm.errored:
            raise EngineDied("vLLM's engine process has died")

    def close(self) -> None:
        """Stop the engine's process; blocks."""
        self._llm.shutdown(timeout=5)


def _translated(error: Exception) -> CounterpointError:
    if isinstance(error, EngineDeadError):
        return EngineDied("vLLM's engine process has died")
    if isinstance(error, EngineGenerateError):
        return EngineFailed(f"vLLM failed: {error.__cause__ or error}")
    return InvalidRequest(f"vLLM refused: {error}")


def _sampling(request: VllmRequest) -> SamplingParams:
    generation, sampling = request.generation, request.generation.sampling
    return SamplingParams(
        n=generation.n,
        max_tokens=request.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=base_seed(sampling),
        stop=list(sampling.stop),
        logprobs=generation.top_logprobs or None,
        prompt_logprobs=0 if request.prompt_logprobs else None,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=_guided(generation.guide),
    )


def _guided(guide: Guide | None) -> StructuredOutputsParams | None:
    if guide is None:
        return None
    if (guide.kind == "choice") != isinstance(guide.value, tuple):
        raise InvalidRequest(f"the value of a guide of kind {guide.kind!r} cannot be a {type(guide.value).__name__}")
    return StructuredOutputsParams(**{guide.kind: list(guide.value) if isinstance(guide.value, tuple) else guide.value})


def _output(output: RequestOutput, request: VllmRequest) -> VllmOutput:
    logprobs: tuple[float, ...] = ()
    if request.prompt_logprobs and output.prompt_logprobs:
        places = list(output.prompt_logprobs)[1:]
        logprobs = tuple(
            float(place[token].logprob)  # type: ignore[index] - only the first token has no entry
            for place, token in zip(places, list(request.ids)[1:], strict=True)
        )
    return VllmOutput(tuple(_sample(sample, request) for sample in output.outputs), output.num_cached_tokens, logprobs)


def _sample(sample: Any, request: VllmRequest) -> VllmSample:  # noqa: ANN401 - vLLM's CompletionOutput
    most = request.generation.top_logprobs
    places = list(sample.logprobs or ()) if most else []
    logprobs = tuple(_logprobs(token, place, most) for token, place in zip(sample.token_ids, places, strict=False))
    return VllmSample(sample.index, sample.text, tuple(sample.token_ids), logprobs, sample.finish_reason)


def _logprobs(token: int, place: Mapping[int, Any], most: int) -> TokenLogprobs:
    ranked = sorted(place.values(), key=lambda entry: entry.rank)
    top = tuple((entry.decoded_token or "", float(entry.logprob)) for entry in ranked[:most] if isfinite(entry.logprob))
    return TokenLogprobs(place[token].decoded_token or "", float(place[token].logprob), top)
