"""The problem object (RFC 9457) that every error becomes on the wire."""

from typing import Any

from services.contracts.base import Reply


class Limit(Reply):
    """A limit that was hit: its name, its value, and what would have been needed."""

    name: str
    value: float | int | None = None
    needed: float | int | None = None


class FieldError(Reply):
    """One thing wrong with a request: where, what, and its machine-readable type."""

    loc: tuple[str | int, ...]
    msg: str
    type: str


class ProblemDetails(Reply):
    """`application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    limit: Limit | None = None
    needed: float | int | None = None
    retry_after: float | None = None
    errors: tuple[FieldError, ...] | None = None

    def body(self) -> dict[str, Any]:
        """The JSON object, without what does not apply."""
        return self.model_dump(mode="json", exclude_none=True)
