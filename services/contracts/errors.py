"""Problem details (RFC 9457), the wire format of every error."""

from typing import Any

from services.contracts.base import Reply


class Limit(Reply):
    """A limit that was reached: its name, its value, and the value that would have been enough."""

    name: str
    value: float | int | None = None
    needed: float | int | None = None


class FieldError(Reply):
    """One error in a request: its location, its description, and its machine-readable type."""

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
        """Return the JSON object without null fields."""
        return self.model_dump(mode="json", exclude_none=True)
