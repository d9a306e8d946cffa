"""The calls that a role service is working on: admission, deadlines, and cancelling one by its id."""

from collections.abc import Generator
from contextlib import contextmanager

import anyio

from services.call_context import CALL_ID, CallContext
from services.contracts.errors import FieldError, Limit
from services.errors import InvalidRequest, Overloaded

RETRY_SECONDS = 1.0
"""When a refused caller may try again."""


class Calls:
    """Running calls by id."""

    def __init__(self, most: int) -> None:
        """At most `most` calls may run or wait for the engine at once."""
        self.most = most
        self._scopes: dict[str, anyio.CancelScope] = {}

    def __len__(self) -> int:
        return len(self._scopes)

    @contextmanager
    def running(self, call: CallContext) -> Generator[anyio.CancelScope]:
        """A scope that ends at the call's deadline or when the call is cancelled; see its `cancelled_caught`.

        Raises `Overloaded` when too many calls are running, `InvalidRequest` when one of the same id is.
        """
        if len(self._scopes) >= self.most:
            raise Overloaded(
                f"{self.most} calls are running or waiting",
                limit=Limit(name="calls", value=self.most),
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
        """Abort a call in the engine; its stream ends with what it has and its exact usage. False if there is none."""
        scope = self._scopes.get(call_id)
        if scope is not None:
            scope.cancel()
        return scope is not None
