"""The error tree: each class carries its HTTP status and its code.

::

CounterpointError             500 internal_error
+-- InvalidRequest            422 invalid_request
|   +-- ContextExceeded       422 invalid_request
+-- BudgetTooSmall            422 budget_too_small
+-- Unauthenticated           401 unauthenticated
+-- RateLimited               429 rate_limited
+-- QuotaExhausted            429 quota_exhausted
+-- NotFound                  404 not_found
+-- MethodNotAllowed          405 method_not_allowed
+-- IdempotencyConflict       409 idempotency_conflict
+-- JobFinished               409 job_finished
+-- Cancelled                 409 cancelled
+-- RequestTooLarge           413 request_too_large
+-- EngineFailed              502 engine_failed
|   +-- EngineDied            502 engine_failed
+-- ActorFailed               502 actor_failed
+-- Overloaded                503 overloaded
+-- NotReady                  503 not_ready
+-- DeadlineExceeded          504 deadline_exceeded
+-- InternalError             500 internal_error
"""

from collections.abc import Sequence
from typing import ClassVar

from services.contracts.errors import FieldError, Limit, ProblemDetails


class CounterpointError(Exception):
    """Base of every error that is part of the public interface."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        limit: Limit | None = None,
        retry_after: float | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        """`detail` is a sentence for the user; `retry_after` is in seconds."""
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.retry_after = retry_after
        self.errors = tuple(errors)

    @property
    def needed(self) -> float | int | None:
        """The value of the limit that would have been enough, in its own unit, where it is known."""
        return self.limit.needed if self.limit else None

    def problem(self) -> ProblemDetails:
        """Return the problem details (RFC 9457)."""
        return ProblemDetails(
            type=f"urn:counterpoint:error:{self.code}",
            title=self.code.replace("_", " ").capitalize(),
            status=self.status,
            detail=self.detail,
            code=self.code,
            limit=self.limit,
            needed=self.needed,
            retry_after=self.retry_after,
            errors=self.errors or None,
        )


class InvalidRequest(CounterpointError):
    """The request is malformed, or asks for something unsupported."""

    status, code = 422, "invalid_request"


class ContextExceeded(InvalidRequest):
    """The prompt is longer than the model's context."""

    def __init__(self, *, needed: int, context_length: int) -> None:
        """Both lengths are in tokens."""
        super().__init__(
            f"the prompt needs {needed} tokens and the model's context holds {context_length}",
            limit=Limit(name="context_length", value=context_length, needed=needed),
        )


class BudgetTooSmall(CounterpointError):
    """The allowance or the budget does not cover a single completion token."""

    status, code = 422, "budget_too_small"


class Unauthenticated(CounterpointError):
    """No valid key was given."""

    status, code = 401, "unauthenticated"


class RateLimited(CounterpointError):
    """The key has sent too many requests."""

    status, code = 429, "rate_limited"


class QuotaExhausted(CounterpointError):
    """The key has used up its quota for the current period."""

    status, code = 429, "quota_exhausted"


class NotFound(CounterpointError):
    """The resource does not exist."""

    status, code = 404, "not_found"


class MethodNotAllowed(CounterpointError):
    """The path exists, but not for this method."""

    status, code = 405, "method_not_allowed"


class IdempotencyConflict(CounterpointError):
    """The idempotency key was used for a different request."""

    status, code = 409, "idempotency_conflict"


class JobFinished(CounterpointError):
    """The job has finished and accepts no more commands."""

    status, code = 409, "job_finished"


class Cancelled(CounterpointError):
    """The job was cancelled."""

    status, code = 409, "cancelled"


class RequestTooLarge(CounterpointError):
    """The request body is larger than the service accepts."""

    status, code = 413, "request_too_large"


class EngineFailed(CounterpointError):
    """The engine behind a role service failed."""

    status, code = 502, "engine_failed"


class EngineDied(EngineFailed):
    """The engine is gone; only a restart of the service brings it back."""


class ActorFailed(CounterpointError):
    """Every call to the actor failed, so there is no candidate."""

    status, code = 502, "actor_failed"


class Overloaded(CounterpointError):
    """Too many requests are in flight."""

    status, code = 503, "overloaded"


class NotReady(CounterpointError):
    """A service that this one depends on cannot be reached, or is still starting."""

    status, code = 503, "not_ready"


class DeadlineExceeded(CounterpointError):
    """The deadline passed before there was an answer."""

    status, code = 504, "deadline_exceeded"


class InternalError(CounterpointError):
    """An unexpected error: a defect of this service."""
