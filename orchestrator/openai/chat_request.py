"""The body of `POST /v1/chat/completions`, and its translation to a `SolveRequest`.

Unknown parameters are ignored and reported; what would change the meaning of the request is refused: more than one choice,
content parts other than text, messages of tools.
"""

from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from orchestrator.openai.presets import Preset, preset
from orchestrator.request import SolveRequest
from services.contracts.sampling import MAX_SEED
from services.http.error_responses import invalid


def _text(content: object) -> object:
    """Join a list of text parts; null becomes the empty text."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    texts: list[str] = []
    for part in cast("list[Any]", content):
        match part:
            case {"type": "text", "text": str() as text}:
                texts.append(text)
            case _:
                raise PydanticCustomError("part_not_text", "only text parts are supported")
    return "\n".join(texts)


def _role(role: object) -> object:
    return "system" if role == "developer" else role


def _stops(stop: object) -> object:
    return [stop] if isinstance(stop, str) else ([] if stop is None else stop)


def _one(n: object) -> object:
    if n is not None and n != 1:
        raise PydanticCustomError("one_choice", "a response has exactly one choice: n must be 1")
    return 1


BODY: dict[str, Any] = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string"},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"enum": ["system", "developer", "user", "assistant"]},
                    "content": {"type": "string"},
                },
            },
        },
        "stream": {"type": "boolean"},
    },
}
"""JSON schema of the commonly used part of the body, for the OpenAPI description."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class ChatMessage(BaseModel):
    """One message; further fields are ignored."""

    role: Annotated[Literal["system", "user", "assistant"], BeforeValidator(_role)]
    content: Annotated[str, BeforeValidator(_text)] = ""


class StreamOptions(BaseModel):
    """Options of a streamed response."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The supported parameters; `model_extra` holds the others."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    n: Annotated[int, BeforeValidator(_one)] = 1
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: Annotated[list[str], BeforeValidator(_stops)] = []
    strategy: Any = None
    budget: dict[str, Any] | None = None

    @property
    def preset(self) -> Preset:
        """The preset that the model id names. Raises `NotFound`."""
        return preset(self.model)

    @property
    def wants_usage(self) -> bool:
        """True if a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the parameters that were sent but are not supported."""
        return tuple(sorted(self.model_extra or {}))

    def solve_request(self) -> SolveRequest:
        """Return the equivalent solve. Raises `NotFound` and `InvalidRequest`."""
        body: dict[str, Any] = {
            "messages": [message.model_dump() for message in self.messages],
            "strategy": self.strategy or dict(self.preset.strategy),
            "budget": self.budget or {},
            "sampling": {
                "temperature": self.temperature,
                "top_p": self.top_p,
                "seed": None if self.seed is None else self.seed % (MAX_SEED + 1),
                "max_tokens": self.max_completion_tokens or self.max_tokens,
                "stop": self.stop,
            },
            "trace": "summary",
        }
        return validated(SolveRequest, body)


def validated(kind: type[ModelT], body: object) -> ModelT:
    """Validate a decoded body. Raises `InvalidRequest`."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False)) from error
