"""The error tree. Each class carries its HTTP status, code and whether the same call may be tried again.

::

CounterpointError
+-- InvalidRequest        422 invalid_request
|   +-- ContextExceeded   422 invalid_request      the prompt is longer than the model's context
+-- BudgetTooSmall        422 budget_too_small
+-- Unauthenticated       401 unauthenticated
+-- Forbidden             403 forbidden
+-- NotFound              404 not_found
+-- MethodNotAllowed      405 method_not_allowed
+-- RequestTooLarge       413 request_too_large
+-- EngineFailed          502 engine_failed        retryable
|   +-- EngineDied        502 engine_failed        retryable, once the service has been started again
+-- ActorFailed           502 actor_failed
+-- Overloaded            503 overloaded           retryable
+-- NotReady              503 not_ready            retryable
+-- DeadlineExceeded      504 deadline_exceeded
+-- InternalError         500 internal_error
"""

from collections.abc import Sequence
from typing import ClassVar

from services.contracts.errors import FieldError, Limit, ProblemDetails


class CounterpointError(Exception):
    """Base of every error that has a place in the public interface."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        limit: Limit | None = None,
        retry_after: float | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        """`detail` is a sentence for a person; `retry_after` is in seconds."""
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.retry_after = retry_after
        self.errors = tuple(errors)

    @property
    def needed(self) -> float | int | None:
        """The limit that would have been enough, in its own unit, where that is known."""
        return self.limit.needed if self.limit else None

    def problem(self) -> ProblemDetails:
        """The problem object (RFC 9457)."""
        return ProblemDetails(
            type=f"urn:counterpoint:error:{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            limit=self.limit,
            needed=self.needed,
            retry_after=self.retry_after,
            errors=self.errors or None,
        )


class InvalidRequest(CounterpointError):
    """The request is not one the service understands."""

    status, code, title = 422, "invalid_request", "Invalid request"


class ContextExceeded(InvalidRequest):
    """The prompt is longer than the model's context."""

    def __init__(self, *, needed: int, context_length: int) -> None:
        """Lengths are in tokens."""
        super().__init__(
            f"the prompt needs {needed} tokens and the model's context holds {context_length}",
            limit=Limit(name="context_length", value=context_length, needed=needed),
        )


class BudgetTooSmall(CounterpointError):
    """The allowance or budget does not cover even one token of completion."""

    status, code, title = 422, "budget_too_small", "Budget too small"


class Unauthenticated(CounterpointError):
    """No valid key was given."""

    status, code, title = 401, "unauthenticated", "Unauthenticated"


class Forbidden(CounterpointError):
    """The key may not do this."""

    status, code, title = 403, "forbidden", "Forbidden"


class RateLimited(CounterpointError):
    """The key has asked too often."""

    status, code, title = 429, "rate_limited", "Rate limited"


class QuotaExhausted(CounterpointError):
    """What the key may spend in its period is spent."""

    status, code, title = 429, "quota_exhausted", "Quota exhausted"


class NotFound(CounterpointError):
    """There is nothing under this name."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(CounterpointError):
    """The path exists, the method does not."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class IdempotencyConflict(CounterpointError):
    """The key was used for another request."""

    status, code, title = 409, "idempotency_conflict", "Idempotency conflict"


class JobFinished(CounterpointError):
    """What was asked of a job came after its end."""

    status, code, title = 409, "job_finished", "Job finished"


class Cancelled(CounterpointError):
    """Somebody who may cancelled it."""

    status, code, title = 409, "cancelled", "Cancelled"


class RequestTooLarge(CounterpointError):
    """The request body is larger than the service reads."""

    status, code, title = 413, "request_too_large", "Request too large"


class EngineFailed(CounterpointError):
    """The engine behind a role service failed."""

    status, code, title, retryable = 502, "engine_failed", "Engine failed", True


class EngineDied(EngineFailed):
    """The engine is gone and will not come back in this process."""


class ActorFailed(CounterpointError):
    """The actor answered every try with an error, so no candidate exists."""

    status, code, title = 502, "actor_failed", "Actor failed"


class Overloaded(CounterpointError):
    """Too many requests are in flight."""

    status, code, title, retryable = 503, "overloaded", "Overloaded", True


class NotReady(CounterpointError):
    """A service this one needs cannot be reached, or is still starting."""

    status, code, title, retryable = 503, "not_ready", "Not ready", True


class DeadlineExceeded(CounterpointError):
    """Time ran out before any answer existed."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class InternalError(CounterpointError):
    """A defect of this service."""
