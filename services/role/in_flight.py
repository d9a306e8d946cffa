"""The calls in flight in a role service: admission, deadlines, and cancellation by id."""

from collections.abc import Generator
from contextlib import contextmanager

import anyio

from services.call_context import CALL_ID, CallContext
from services.contracts.errors import FieldError, Limit
from services.errors import InvalidRequest, Overloaded

RETRY_SECONDS = 1.0
"""`Retry-After` of a refused call."""


class CallsInFlight:
    """Calls that run or wait for the engine, by id, at most `limit` at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._scopes: dict[str, anyio.CancelScope] = {}

    def __len__(self) -> int:
        return len(self._scopes)

    @contextmanager
    def admit(self, call: CallContext) -> Generator[anyio.CancelScope]:
        """Open a scope that ends at the call's deadline or when the call is cancelled; see its `cancelled_caught`.

        Raises `Overloaded` if too many calls are in flight, `InvalidRequest` if one of them has the same id.
        """
        if len(self._scopes) >= self.limit:
            raise Overloaded(
                f"{self.limit} calls are running or waiting",
                limit=Limit(name="calls", value=self.limit),
                retry_after=RETRY_SECONDS,
            )
        if call.call_id in self._scopes:
            message = f"a call with the {CALL_ID} {call.call_id} is running"
            raise InvalidRequest(message, errors=[FieldError(loc=("header", CALL_ID), msg=message, type="call_id")])
        deadline = float("inf") if call.deadline is None else call.deadline
        with anyio.CancelScope(deadline=deadline) as scope:
            self._scopes[call.call_id] = scope
            try:
                yield scope
            finally:
                self._scopes.pop(call.call_id, None)

    def cancel(self, call_id: str) -> bool:
        """Abort a call, whose stream ends with its output so far and the exact usage. Return False if it is unknown."""
        scope = self._scopes.get(call_id)
        if scope is not None:
            scope.cancel()
        return scope is not None
