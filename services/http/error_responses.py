"""Error responses: our own errors, the framework's and defects are all sent as `application/problem+json`."""

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
from services.errors import CounterpointError, InternalError, InvalidRequest, MethodNotAllowed, NotFound

MEDIA_TYPE = "application/problem+json"

MAX_ECHO_CHARS = 128
"""Longest name or message derived from a request that is sent back: a request is never repeated in full."""

_BOUNDS = ("le", "lt", "ge", "gt", "max_length", "min_length", "limit")
_BY_CODE = {kind.code: kind for kind in CounterpointError.__subclasses__()}
"""The class that stands for each code; a subclass of it shares the code."""
_BY_STATUS: dict[int, type[CounterpointError]] = {400: InvalidRequest, 404: NotFound, 405: MethodNotAllowed}

log = structlog.get_logger("problems")


def problem_response(error: CounterpointError) -> Response:
    """Return the response for an error: its problem details, and `Retry-After` in whole seconds if it has one."""
    problem = error.problem()
    headers = {"cache-control": "no-store"}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, ceil(problem.retry_after)))
    return JSONResponse(problem.body(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def error_of(problem: ProblemDetails) -> CounterpointError:
    """Return the error that problem details describe; an unknown code gives an `InternalError`."""
    kind = _BY_CODE.get(problem.code, InternalError)
    return kind(problem.detail, limit=problem.limit, retry_after=problem.retry_after, errors=problem.errors or ())


def as_error(error: BaseException) -> CounterpointError:
    """Return the error to send to a client: a typed one, alone or in a group. Log anything else: it is a defect."""
    leaves = tuple(_leaves(error))
    typed = [leaf for leaf in leaves if isinstance(leaf, CounterpointError)]
    if len(typed) == len(leaves):
        return typed[0]
    log.error("unexpected_error", exc_info=error)
    return InternalError("an unexpected error; its traceback is in the log of the service")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error


def install(app: FastAPI) -> None:
    """Make an application answer every error with problem details."""
    app.add_middleware(DefectResponder)

    @app.exception_handler(CounterpointError)
    async def typed(_request: Request, error: CounterpointError) -> Response:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def unreadable(_request: Request, error: RequestValidationError) -> Response:
        body: object = error.body
        if not isinstance(body, bytes):
            return problem_response(invalid(error.errors()))
        message = "the content type must be application/json"  # any other body is left unparsed, as bytes
        fields = [FieldError(loc=("header", "content-type"), msg=message, type="content_type")]
        return problem_response(InvalidRequest(message, errors=fields))

    @app.exception_handler(HTTPException)
    async def framework(_request: Request, error: HTTPException) -> Response:
        response = problem_response(_framework_error(error))
        response.headers.update(error.headers or {})
        return response


class Refused(HTTPException):
    """A typed error wrapped in the only type that the framework passes on while it reads a body."""

    def __init__(self, error: CounterpointError) -> None:
        super().__init__(error.status, error.detail)
        self.error = error


class DefectResponder:
    """ASGI middleware: answers an unexpected error with 500, or breaks the connection if the response has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        begun = scope["type"] != "http"

        async def observed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception as error:
            if begun:
                raise
            await problem_response(as_error(error))(scope, receive, send)


def invalid(errors: Sequence[Any]) -> InvalidRequest:
    """Return the error for pydantic's validation errors. Of the request it repeats only the names of fields."""
    fields = tuple(_field(entry) for entry in errors)
    first = fields[0]
    where = ".".join(str(part) for part in first.loc)
    return InvalidRequest(f"{where}: {first.msg}", limit=_limit(errors[0], where.removeprefix("body.")), errors=fields)


def _field(entry: dict[str, Any]) -> FieldError:
    loc = tuple(part if isinstance(part, int) else _echo(part) for part in entry["loc"])
    return FieldError(loc=loc, msg=_echo(entry["msg"]), type=entry["type"])


def _echo(text: str) -> str:
    """Shorten text that a client may have written, and replace characters that UTF-8 cannot encode."""
    return text[:MAX_ECHO_CHARS].encode("utf-8", "replace").decode()


def _limit(entry: dict[str, Any], name: str) -> Limit | None:
    context: dict[str, Any] = entry.get("ctx") or {}
    bounds = [context[bound] for bound in _BOUNDS if isinstance(context.get(bound), (int, float))]
    return Limit(name=name, value=bounds[0]) if bounds else None


def _framework_error(error: HTTPException) -> CounterpointError:
    if isinstance(error, Refused):
        return error.error
    kind = _BY_STATUS.get(error.status_code, InternalError)
    if kind is not InvalidRequest:
        return kind(str(error.detail))
    message = "the body cannot be read: it is not JSON in UTF-8, is nested too deeply, or contains a number that is too long"
    return InvalidRequest(message, errors=[FieldError(loc=("body",), msg=message, type="json_invalid")])
