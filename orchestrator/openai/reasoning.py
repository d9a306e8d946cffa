"""The exchange between actor and critic as the reasoning text that a chat frontend shows."""

from orchestrator.narration import Style, narrate
from services.contracts import events

STYLE = Style(
    draft="**Draft {candidate}**",
    refinement="**Refining {parent} as {candidate}**",
    step="{text}",
    step_judged="{label} step {index}{explanation}",
    explanation=" {text}",
    candidate_judged="Verdict: {verdict}{probability}",
    probability=", p = {p:.2f}",
    degraded="({code}: {detail})",
    unfinished="({candidate}: {reason})",
    vote_group="{answer}: {weight:.2f}",
    labels={"correct": "✓", "incorrect": "✗", "unsure": "?", None: "?"},
    verdicts={"correct": "correct", "incorrect": "incorrect", "unsure": "unsure", None: "none"},
)
"""Markdown, as chat frontends render it."""


class ReasoningText:
    """Accumulates events as paragraphs. Candidates may be written side by side, so a change of source is labelled."""

    def __init__(self) -> None:
        self._source: str | None = None

    def add(self, event: events.SolveEvent) -> str:
        """Return the text that an event adds; empty for an event that is not shown."""
        line = narrate(event, STYLE)
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
