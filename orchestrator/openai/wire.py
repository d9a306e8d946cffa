"""Response objects in the format of OpenAI's API: completions, chunks of a stream, errors."""

import json
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from services.contracts.solve import SolveResult
from services.errors import CounterpointError
from services.http.error_responses import problem_response

DONE = b"data: [DONE]\n\n"
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_SERVER = 500

FinishReason = Literal["stop", "length"]


class ErrorDetail(BaseModel):
    """An error; `param` names the parameter, `code` is that of the problem object."""

    message: str
    type: Literal["invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of an error response."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": "An error in the format of OpenAI's API."}
    for status in (401, 404, 413, 422, 429, 502, 503, 504)
}
"""Error responses of the routes, for the OpenAPI description."""


class ChatChunk(BaseModel):
    """A `chat.completion.chunk`: one delta, or the usage at the end."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any] | None = None


class ChatCompletion(BaseModel):
    """A `chat.completion`: the whole response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]


def encode(item: BaseModel | CounterpointError) -> bytes:
    """Encode a chunk, or an error after the first one, as a server-sent event."""
    if isinstance(item, CounterpointError):
        return b"data: " + json.dumps(error_body(item)).encode() + b"\n\n"
    without = {"usage"} if getattr(item, "usage", None) is None else None
    return b"data: " + item.model_dump_json(exclude=without).encode() + b"\n\n"


def refuse(error: CounterpointError) -> Response:
    """Return an error response in OpenAI's format, with the status and headers of the problem response."""
    response = problem_response(error)
    headers = {name: value for name, value in response.headers.items() if name in {"retry-after", "cache-control"}}
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


def error_body(error: CounterpointError) -> dict[str, Any]:
    """Return an error as `{"error": {"message", "type", "param", "code"}}`."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= _SERVER else "invalid_request_error")
    loc = [str(part) for part in error.errors[0].loc if part != "body"] if error.errors else []
    return {"error": {"message": error.detail, "type": kind, "param": ".".join(loc) or None, "code": error.code}}


def usage(result: SolveResult, ignored: tuple[str, ...]) -> dict[str, Any]:
    """Return the usage: the sums over both roles in OpenAI's fields, and the details under `counterpoint`.

    `reasoning_tokens` are the completion tokens of everything but the chosen solution.
    """
    used = result.usage
    prompt = used.actor.prompt_tokens + used.critic.prompt_tokens
    chosen = next((candidate.completion_tokens for candidate in result.candidates or () if candidate.selected), 0)
    account = result.model_dump(
        mode="json", include={"id", "answer", "stop_reason", "confidence", "strategy", "usage", "budget"}
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
        "prompt_tokens_details": {"cached_tokens": used.actor.cached_tokens + used.critic.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": max(0, used.completion_tokens - chosen)},
        "counterpoint": {**account, "degraded": [d.model_dump() for d in result.degraded], "ignored": list(ignored)},
    }


def finish_reason(result: SolveResult) -> FinishReason:
    """Return `length` if the chosen solution was truncated, else `stop`."""
    truncated = any(c.selected and c.finish_reason == "length" for c in result.candidates or ())
    return "length" if truncated else "stop"
