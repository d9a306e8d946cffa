"""The identity of a call: request, session (solve), call, trace, deadline, priority and tenant, in headers on every hop."""

import re
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

import anyio
from fastapi import Depends
from starlette.requests import Request

from services.contracts.errors import FieldError
from services.errors import InvalidRequest

REQUEST_ID = "X-Request-ID"
SESSION_ID = "X-Session-ID"
CALL_ID = "X-Call-ID"
TRACE = "traceparent"
DEADLINE = "X-Deadline-Ms"
PRIORITY = "X-Priority"
TENANT = "X-Tenant-ID"

MAX_DEADLINE_MS = 24 * 3_600_000

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_PRIORITY = re.compile(r"-?[0-9]{1,6}")
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class CallContext:
    """The identity of one call. `deadline` is in seconds on the event loop's clock; None = no deadline.

    Engines that support priorities serve a lower `priority` first. Prefix caches are separate for each `tenant`.
    """

    request_id: str
    session_id: str
    call_id: str
    traceparent: str | None = None
    deadline: float | None = None
    priority: int = 0
    tenant: str = ""

    def remaining(self) -> float | None:
        """Return the seconds left, never negative; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - anyio.current_time())

    def headers(self) -> dict[str, str]:
        """Return the headers that carry this identity to the next hop."""
        headers = {REQUEST_ID: self.request_id, SESSION_ID: self.session_id, CALL_ID: self.call_id}
        if self.traceparent:
            headers[TRACE] = self.traceparent
        if self.priority:
            headers[PRIORITY] = str(self.priority)
        if self.tenant:
            headers[TENANT] = self.tenant
        remaining = self.remaining()
        if remaining is not None:
            headers[DEADLINE] = str(max(1, int(remaining * 1000)))
        return headers


async def call_context(request: Request) -> CallContext:
    """Read the identity from a request's headers. Ids that are missing or malformed are generated, other values ignored.

    Raises `InvalidRequest` for a deadline that is not a whole number of milliseconds.
    """
    request_id = request.scope.get("request_id") or new_id("req")
    return CallContext(
        request_id=request_id,
        session_id=_valid(request.headers.get(SESSION_ID)) or request_id,
        call_id=_valid(request.headers.get(CALL_ID)) or new_id("call"),
        traceparent=request.scope.get(TRACE) or traceparent_of(request.headers.get(TRACE)),
        deadline=_deadline(request.headers.get(DEADLINE)),
        priority=int(_valid(request.headers.get(PRIORITY), _PRIORITY) or 0),
        tenant=request.scope.get("tenant") or _valid(request.headers.get(TENANT)) or "",
    )


Call = Annotated[CallContext, Depends(call_context)]
"""The parameter of a route that receives the identity of its call."""


def request_id_of(header: str | None) -> str:
    """Return the caller's request id if it is well-formed, else a new one."""
    return _valid(header) or new_id("req")


def traceparent_of(header: str | None) -> str | None:
    """Return the caller's `traceparent` if it is well-formed."""
    return _valid(header, _TRACE)


def new_id(prefix: str) -> str:
    """Return a new identifier."""
    return f"{prefix}_{uuid4().hex}"


def _valid(value: str | None, pattern: re.Pattern[str] = _ID) -> str | None:
    return value if value and pattern.fullmatch(value) else None


def _deadline(value: str | None) -> float | None:
    if value is None:
        return None
    if not value.isdecimal() or not 0 < int(value[:12]) <= MAX_DEADLINE_MS or len(value) > len(str(MAX_DEADLINE_MS)):
        message = f"{DEADLINE} must be a whole number of milliseconds between 1 and {MAX_DEADLINE_MS}"
        raise InvalidRequest(message, errors=[FieldError(loc=("header", DEADLINE), msg=message, type="deadline")])
    return anyio.current_time() + int(value) / 1000
