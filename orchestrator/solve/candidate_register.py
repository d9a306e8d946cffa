"""The candidates of a solve: those that are complete, those being written, and what is reserved to judge them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.budget import Lease
from orchestrator.candidates import Candidate


@dataclass(slots=True)
class CandidateRegister:
    """Every candidate of one solve, by id, from the moment its writing starts."""

    _complete: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    _unfinished: dict[str, bool] = field(default_factory=dict[str, bool])
    _reserved: dict[str, Lease] = field(default_factory=dict[str, Lease])
    _sampled: dict[str, int] = field(default_factory=dict[str, int])

    def __iter__(self) -> Iterator[Candidate]:
        """Iterate over the complete candidates in place order."""
        return iter(sorted(self._complete.values(), key=lambda candidate: candidate.place))

    def get(self, candidate_id: str | None) -> Candidate | None:
        """Return a complete candidate with all that is known of it, or None."""
        return self._complete.get(candidate_id or "")

    def start(self, candidate_id: str) -> bool:
        """Register that a candidate is being written. Return False if it was already, by an attempt that failed."""
        started = candidate_id not in self._unfinished
        self._unfinished[candidate_id] = True
        return started

    def finish(self, candidate: Candidate) -> bool:
        """Register a candidate, complete or cut, as far as it was written. Return True if it was being written."""
        self._complete[candidate.id] = candidate
        return self._end(candidate.id)

    def update(self, candidate: Candidate) -> None:
        """Replace a complete candidate, after a critique."""
        self._complete[candidate.id] = candidate

    def fail(self, candidate_id: str) -> bool:
        """Give up a candidate and its reservation. Return True if it was being written."""
        self.release([candidate_id])
        return self._end(candidate_id)

    def cancel(self, prefix: str) -> list[str]:
        """Give up the candidates being written whose ids begin with `prefix`; return these ids, in order of their start."""
        cancelled = [candidate_id for candidate_id in self._unfinished if candidate_id.startswith(prefix)]
        for candidate_id in cancelled:
            self._end(candidate_id)
        return cancelled

    def reserve(self, candidate_ids: Iterable[str], leases: Iterable[Lease]) -> None:
        """Keep a reservation for the judgement of each candidate, as far as there are any."""
        self._reserved.update(zip(candidate_ids, leases, strict=False))

    def take_reservation(self, candidate_id: str) -> Lease | None:
        """Return the reservation for judging a candidate and forget it; None if there is none."""
        return self._reserved.pop(candidate_id, None)

    def release(self, candidate_ids: Iterable[str] | None = None) -> None:
        """Release the reservations of these candidates, or all of them."""
        for candidate_id in tuple(self._reserved) if candidate_ids is None else candidate_ids:
            lease = self._reserved.pop(candidate_id, None)
            if lease is not None:
                lease.release()

    def record_sampled(self, candidate_id: str, tokens: int) -> None:
        """Record the tokens that were sampled for a candidate that was written alone, even if it was cut."""
        self._sampled[candidate_id] = tokens

    def sampled(self, candidate: Candidate) -> int:
        """Return the tokens that were sampled for a candidate: as recorded, else those of its text."""
        return self._sampled.get(candidate.id, candidate.completion_tokens)

    def _end(self, candidate_id: str) -> bool:
        return self._unfinished.pop(candidate_id, False)
