"""Every error leaves as `application/problem+json`, whoever raised it: our own tree, the framework's, or a defect."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.contracts.errors import FieldError, Limit, Problem
from services.errors import (
    ActorFailed,
    BudgetTooSmall,
    CounterpointError,
    DeadlineExceeded,
    EngineFailed,
    Forbidden,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotReady,
    Overloaded,
    RequestTooLarge,
    Unauthenticated,
)

MEDIA_TYPE = "application/problem+json"

_BOUNDS = ("le", "lt", "ge", "gt", "max_length", "min_length", "limit")
_BY_CODE: dict[str, type[CounterpointError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        BudgetTooSmall,
        Unauthenticated,
        Forbidden,
        NotFound,
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
    404: NotFound,
    405: MethodNotAllowed,
    413: RequestTooLarge,
    400: InvalidRequest,
}

log = structlog.get_logger("problems")


def problem_response(problem: Problem) -> Response:
    """The problem object as a response, with `Retry-After` in whole seconds where it has one."""
    headers = {"cache-control": "no-store"}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, ceil(problem.retry_after)))
    return JSONResponse(problem.body(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def error_of(problem: Problem) -> CounterpointError:
    """The error that a problem object was made from, in the process that reads it."""
    kind = _BY_CODE.get(problem.code, InternalError)
    return kind(problem.detail, limit=problem.limit, retry_after=problem.retry_after, errors=problem.errors or ())


def install(app: FastAPI) -> None:
    """Make an application answer every error with a problem object."""
    app.add_exception_handler(CounterpointError, _typed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def invalid(errors: Sequence[Any]) -> InvalidRequest:
    """The error for what pydantic found wrong; what was sent is never repeated."""
    fields = tuple(FieldError(loc=tuple(entry["loc"]), msg=str(entry["msg"]), type=str(entry["type"])) for entry in errors)
    first = fields[0]
    where = ".".join(str(part) for part in first.loc)
    return InvalidRequest(f"{where}: {first.msg}", limit=_limit(errors[0], where), errors=fields)


def _limit(entry: dict[str, Any], name: str) -> Limit | None:
    context: dict[str, Any] = entry.get("ctx") or {}
    bounds = [context[bound] for bound in _BOUNDS if isinstance(context.get(bound), (int, float))]
    return Limit(name=name, value=bounds[0]) if bounds else None


async def _typed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CounterpointError)  # noqa: S101 - narrows what the framework's signature widens
    return problem_response(error.problem())


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    return problem_response(invalid(error.errors()).problem())


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    kind = _BY_STATUS.get(error.status_code, InternalError)
    if kind is InvalidRequest:
        message = "the body is not JSON in UTF-8"
        found = InvalidRequest(message, errors=[FieldError(loc=("body",), msg=message, type="json_invalid")])
    else:
        found = kind(str(error.detail))
    return problem_response(found.problem())


async def _unexpected(_request: Request, error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error)
    return problem_response(InternalError("an unexpected error; its trace is in the service's log").problem())
