"""The exchange between actor and critic as the reasoning text that a chat frontend shows."""

from orchestrator.narration import MARKDOWN, narrate
from services.contracts import events


class ReasoningText:
    """Accumulates events as paragraphs. Candidates may be written side by side, so a change of source is labelled."""

    def __init__(self) -> None:
        self._source: str | None = None

    def add(self, event: events.SolveEvent) -> str:
        """Return the text that an event adds; empty for an event that is not shown."""
        line = narrate(event, MARKDOWN)
        if line is None:
            return ""
        source, previous = _source(event), self._source
        self._source = source
        if previous in {source, None}:
            return f"{line}\n"
        return f"\n{line}\n" if line.startswith("**") else f"\n[{source}] {line}\n"


def _source(event: events.SolveEvent) -> str:
    """Return the label of the paragraph that an event belongs to."""
    match event:
        case events.CandidateStarted() | events.StepWritten() | events.CandidateFinished():
            return event.candidate
        case events.StepJudged() | events.CandidateJudged():
            return f"critique of {event.candidate}"
        case events.VotesChanged():
            return "votes"
        case _:
            return "degraded"
