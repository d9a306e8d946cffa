"""Every error leaves as `application/problem+json`, whoever raised it: our own tree, the framework's, or a defect."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.contracts.errors import FieldError, Limit, ProblemDetails
from services.errors import (
    ActorFailed,
    BudgetTooSmall,
    Cancelled,
    CounterpointError,
    DeadlineExceeded,
    EngineFailed,
    Forbidden,
    IdempotencyConflict,
    InternalError,
    InvalidRequest,
    JobFinished,
    MethodNotAllowed,
    NotFound,
    NotReady,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
)

MEDIA_TYPE = "application/problem+json"

LONGEST_ECHO = 128
"""Characters of a name or message about a request that are sent back, so that nobody's request comes back in full."""

_BOUNDS = ("le", "lt", "ge", "gt", "max_length", "min_length", "limit")
_BY_CODE: dict[str, type[CounterpointError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        BudgetTooSmall,
        Unauthenticated,
        Forbidden,
        RateLimited,
        QuotaExhausted,
        NotFound,
        IdempotencyConflict,
        JobFinished,
        Cancelled,
        MethodNotAllowed,
        RequestTooLarge,
        EngineFailed,
        ActorFailed,
        Overloaded,
        NotReady,
        DeadlineExceeded,
        InternalError,
    )
}
_BY_STATUS: dict[int, type[CounterpointError]] = {
    400: InvalidRequest,
    404: NotFound,
    405: MethodNotAllowed,
}

log = structlog.get_logger("problems")


def problem_response(problem: ProblemDetails) -> Response:
    """The problem object as a response, with `Retry-After` in whole seconds where it has one."""
    headers = {"cache-control": "no-store"}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, ceil(problem.retry_after)))
    return JSONResponse(problem.body(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def error_of(problem: ProblemDetails) -> CounterpointError:
    """The error that a problem object was made from, in the process that reads it."""
    kind = _BY_CODE.get(problem.code, InternalError)
    return kind(problem.detail, limit=problem.limit, retry_after=problem.retry_after, errors=problem.errors or ())


def as_error(error: BaseException) -> CounterpointError:
    """The error that a client may see: a typed one, alone or in a group; anything else is a defect and is logged."""
    leaves = tuple(_leaves(error))
    typed = [leaf for leaf in leaves if isinstance(leaf, CounterpointError)]
    if len(typed) == len(leaves):
        return typed[0]
    log.error("unexpected_error", exc_info=error)
    return InternalError("an unexpected error; its trace is in the service's log")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error


def install(app: FastAPI) -> None:
    """Make an application answer every error with a problem object."""
    app.add_exception_handler(CounterpointError, _typed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Defects)


class Refused(HTTPException):
    """A typed error in the one form that the framework lets through while it reads a body."""

    def __init__(self, error: CounterpointError) -> None:
        super().__init__(error.status, error.detail)
        self.error = error


class Defects:
    """ASGI middleware: an unexpected error is a 500; where a response has begun, the connection is broken instead."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        begun = scope["type"] != "http"

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if begun:
                raise
            await problem_response(as_error(error).problem())(scope, receive, send)


def invalid(errors: Sequence[Any]) -> InvalidRequest:
    """The error for what pydantic found wrong; what was sent is not repeated, but for the names of fields."""
    fields = tuple(_field(entry) for entry in errors)
    first = fields[0]
    where = ".".join(str(part) for part in first.loc)
    return InvalidRequest(f"{where}: {first.msg}", limit=_limit(errors[0], where.removeprefix("body.")), errors=fields)


def _field(entry: dict[str, Any]) -> FieldError:
    loc = tuple(part if isinstance(part, int) else _echo(part) for part in entry["loc"])
    return FieldError(loc=loc, msg=_echo(entry["msg"]), type=entry["type"])


def _echo(text: str) -> str:
    """Text that a client may have written, cut, and without what UTF-8 cannot hold."""
    return text[:LONGEST_ECHO].encode("utf-8", "replace").decode()


def _limit(entry: dict[str, Any], name: str) -> Limit | None:
    context: dict[str, Any] = entry.get("ctx") or {}
    bounds = [context[bound] for bound in _BOUNDS if isinstance(context.get(bound), (int, float))]
    return Limit(name=name, value=bounds[0]) if bounds else None


async def _typed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CounterpointError)  # noqa: S101 - narrows what the framework's signature widens
    return problem_response(error.problem())


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    body: object = error.body
    refusal = _not_json() if isinstance(body, bytes) else invalid(error.errors())
    return problem_response(refusal.problem())


def _not_json() -> InvalidRequest:
    """A body that was not read, since it is not announced as JSON."""
    message = "the content type must be application/json"
    return InvalidRequest(message, errors=[FieldError(loc=("header", "content-type"), msg=message, type="content_type")])


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    response = problem_response(_of_framework(error).problem())
    response.headers.update(error.headers or {})
    return response


def _of_framework(error: HTTPException) -> CounterpointError:
    if isinstance(error, Refused):
        return error.error
    kind = _BY_STATUS.get(error.status_code, InternalError)
    if kind is not InvalidRequest:
        return kind(str(error.detail))
    message = "the body cannot be read: it is not JSON in UTF-8, is nested too deeply or holds too long a number"
    return InvalidRequest(message, errors=[FieldError(loc=("body",), msg=message, type="json_invalid")])
