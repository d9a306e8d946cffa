# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""The part of vLLM that the engine uses, behind types of our own: vLLM is an extra, so nothing else imports it."""

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

from services.call_context import CallContext
from services.engines.protocol import ANONYMOUS, Guide, TokenLogprobs
from services.errors import CounterpointError, EngineDied, EngineFailed, InvalidRequest


@dataclass(frozen=True, slots=True)
class VllmRequest:
    """A request to vLLM. `seed` is that of sample 0; `prompt_logprobs` asks for those of the prompt."""

    ids: Sequence[int]
    n: int
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    guide: Guide | None = None
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    call: CallContext = ANONYMOUS


@dataclass(frozen=True, slots=True)
class VllmSample:
    """New text of one sample."""

    index: int
    text: str
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class VllmOutput:
    """The output of one step for a request. `prompt_logprobs`: of each token of the prompt but the first."""

    samples: tuple[VllmSample, ...]
    cached_tokens: int | None
    prompt_logprobs: tuple[float, ...] = ()


class VllmMetrics(Collector):
    """vLLM's own metrics (`vllm:*`), for a service's `/metrics`."""

    def collect(self) -> Iterator[Metric]:
        """Return the families whose names begin with `vllm:`."""
        return (family for family in REGISTRY.collect() if family.name.startswith("vllm:"))


class Vllm:
    """vLLM's asynchronous engine."""

    def __init__(self, arguments: Mapping[str, Any], lora: str | None = None) -> None:
        """`arguments` are those of `AsyncEngineArgs`; blocks while the model is loaded. Raises `EngineFailed`."""
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
        """Run a request to its end. Raises `EngineDied`, `EngineFailed`, and `InvalidRequest` for what vLLM refuses."""
        prompt: dict[str, object] = {"prompt_token_ids": list(request.ids)}
        if request.call.tenant:
            prompt["cache_salt"] = request.call.tenant
        try:
            outputs = self._llm.generate(
                cast("Any", prompt),
                _sampling(request),
                request_id,
                lora_request=self._lora,
                priority=request.call.priority,
            )
            async for output in outputs:
                yield _output(output, request)
        except (EngineDeadError, EngineGenerateError, VLLMClientError, ValueError) as error:
            raise _translated(error) from error

    async def abort(self, request_id: str) -> None:
        """Stop a request; its outputs end. Nothing happens where vLLM does not know it (yet, or any more)."""
        await self._llm.abort(request_id)

    async def check(self) -> None:
        """Raise `EngineDied` when the engine is dead."""
        if self._llm.errored:
            raise EngineDied("vLLM's engine process has died")

    def close(self) -> None:
        """End the engine's process; blocks."""
        self._llm.shutdown(timeout=5)


def _translated(error: Exception) -> CounterpointError:
    if isinstance(error, EngineDeadError):
        return EngineDied("vLLM's engine process has died")
    if isinstance(error, EngineGenerateError):
        return EngineFailed(f"vLLM failed: {error.__cause__ or error}")
    return InvalidRequest(f"vLLM refused: {error}")


def _sampling(request: VllmRequest) -> SamplingParams:
    return SamplingParams(
        n=request.n,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=list(request.stop),
        logprobs=request.top_logprobs or None,
        prompt_logprobs=0 if request.prompt_logprobs else None,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=_guided(request.guide),
    )


def _guided(guide: Guide | None) -> StructuredOutputsParams | None:
    if guide is None:
        return None
    match guide.kind, guide.value:
        case "choice", tuple() as choices:
            return StructuredOutputsParams(choice=list(choices))
        case "regex", str() as text:
            return StructuredOutputsParams(regex=text)
        case "json", str() as text:
            return StructuredOutputsParams(json=text)
        case "grammar", str() as text:
            return StructuredOutputsParams(grammar=text)
        case _:
            raise InvalidRequest(f"a guide of kind {guide.kind!r} does not hold {type(guide.value).__name__}")


def _output(output: RequestOutput, request: VllmRequest) -> VllmOutput:
    logprobs: tuple[float, ...] = ()
    if request.prompt_logprobs and output.prompt_logprobs:
        places = list(output.prompt_logprobs)[1:]
        logprobs = tuple(
            float(place[token].logprob)  # type: ignore[index] - only the first token has none
            for place, token in zip(places, list(request.ids)[1:], strict=True)
        )
    return VllmOutput(tuple(_sample(sample, request) for sample in output.outputs), output.num_cached_tokens, logprobs)


def _sample(sample: Any, request: VllmRequest) -> VllmSample:  # noqa: ANN401 - vLLM's CompletionOutput
    places = list(sample.logprobs or ()) if request.top_logprobs else []
    logprobs = tuple(
        _logprobs(token, place, request.top_logprobs) for token, place in zip(sample.token_ids, places, strict=False)
    )
    return VllmSample(sample.index, sample.text, tuple(sample.token_ids), logprobs, sample.finish_reason)


def _logprobs(token: int, place: Mapping[int, Any], most: int) -> TokenLogprobs:
    ranked = sorted(place.values(), key=lambda entry: entry.rank)
    top = tuple((entry.decoded_token or "", float(entry.logprob)) for entry in ranked[:most] if isfinite(entry.logprob))
    return TokenLogprobs(place[token].decoded_token or "", float(place[token].logprob), top)
