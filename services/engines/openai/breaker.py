"""A circuit breaker: a server that fails repeatedly gets no calls for a while, then a single one as a probe."""

from dataclasses import dataclass

import anyio

FAILURES = 3
"""Failures in a row that open the circuit; a refused connection opens it at once."""
OPEN_SECONDS = 0.5
LONGEST_OPEN_SECONDS = 30.0
"""Time that a circuit stays open: at first, and at most. Each failed probe doubles it."""


@dataclass(slots=True)
class Breaker:
    """A circuit. Closed: calls pass. Open: none passes. Half-open, after its time: one call passes as a probe."""

    failures: int = 0
    until: float = 0.0
    _pause: float = OPEN_SECONDS
    _probing: bool = False

    @property
    def open(self) -> bool:
        """True if the circuit has been opened and no probe has closed it."""
        return self.failures >= FAILURES

    def allows(self) -> bool:
        """Return whether a call may pass now."""
        return not self.open or (anyio.current_time() >= self.until and not self._probing)

    def begin(self) -> None:
        """Let a call pass."""
        self._probing = self.open

    def succeed(self) -> None:
        """Close the circuit after a call that was answered."""
        self.failures, self._pause, self._probing = 0, OPEN_SECONDS, False

    def fail(self, *, refused: bool = False) -> None:
        """Count a failed call; `refused` means that there was no connection."""
        was_open = self.open
        self.failures = FAILURES if refused else self.failures + 1
        self._probing = False
        if self.open:
            self._pause = min(2 * self._pause, LONGEST_OPEN_SECONDS) if was_open else OPEN_SECONDS
            self.until = anyio.current_time() + self._pause

    def abandon(self) -> None:
        """Ignore a call that was cancelled before its outcome was known."""
        self._probing = False
