"""The dialogue of actor and critic as text: what a chat frontend shows as the model's reasoning."""

from services.contracts.events import (
    CandidateFinished,
    CandidateJudged,
    CandidateStarted,
    DegradedEvent,
    SolveEvent,
    StepJudged,
    StepWritten,
    VotesChanged,
)

_MARKS = {"correct": "✓", "incorrect": "✗", "unsure": "?"}
_SHOWN_VOTES = 3


class Dialogue:
    """Tells events as paragraphs; the lines of candidates that are written side by side carry their names."""

    def __init__(self) -> None:
        self._speaking: str | None = None

    def tell(self, event: SolveEvent) -> str:
        """The text that an event adds; empty for events that say nothing new."""
        found = self._line(event)
        return "" if found is None else self._said(*found)

    def _line(self, event: SolveEvent) -> tuple[str, str] | None:  # noqa: PLR0911 - one for each kind of event
        """Who speaks, and what is said."""
        match event:
            case CandidateStarted():
                what = f"Refining {event.parent} as {event.candidate}" if event.parent else f"Draft {event.candidate}"
                return event.candidate, f"**{what}**\n"
            case StepWritten():
                return event.candidate, f"{event.text}\n"
            case StepJudged():
                return f"critique of {event.candidate}", self._judged(event)
            case CandidateJudged():
                return f"critique of {event.candidate}", self._verdict(event)
            case CandidateFinished() if event.finish_reason in {"cancelled", "failed"}:
                return event.candidate, f"({event.candidate}: {event.finish_reason})\n"
            case VotesChanged():
                return "votes", self._votes(event)
            case DegradedEvent():
                return "degraded", f"({event.code}: {event.detail})\n"
            case _:
                return None

    def _said(self, speaker: str, text: str) -> str:
        """The text under its speaker's name, where another one spoke before."""
        if self._speaking == speaker:
            return text
        first, self._speaking = self._speaking is None, speaker
        return text if first else f"\n{text}" if text.startswith("**") else f"\n[{speaker}] {text}"

    @staticmethod
    def _judged(event: StepJudged) -> str:
        words = f" {event.explanation}" if event.explanation else ""
        return f"{_MARKS.get(event.label or 'unsure', '?')} step {event.index}{words}\n"

    @staticmethod
    def _verdict(event: CandidateJudged) -> str:
        p = "" if event.p_correct is None else f", p = {event.p_correct:.2f}"
        return f"Verdict: {event.verdict or 'none'}{p}\n"

    @staticmethod
    def _votes(event: VotesChanged) -> str:
        leading = sorted(event.groups, key=lambda group: -group.weight)[:_SHOWN_VOTES]
        return ", ".join(f"{group.answer}: {group.weight:.2f}" for group in leading) + "\n"
