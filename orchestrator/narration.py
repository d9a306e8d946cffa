"""Solve events as text: one renderer for every face, and a `Style` that holds the wording of one of them.

Everything a model wrote is untrusted and passes through the style's `escape`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.contracts import events
from services.contracts.critique import Label, Verdict

MAX_VOTE_GROUPS = 3
"""Number of answers shown of a vote, heaviest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Templates in the syntax of `str.format`, one per kind of line; where one is None, its events are left out.

    The defaults are Markdown, as chat frontends render it.
    """

    draft: str = "**Draft {candidate}**"
    refinement: str = "**Refining {parent} as {candidate}**"
    step: str = "{text}"
    step_judged: str = "{label} step {index}{explanation}"
    explanation: str = " {text}"
    """Part of `step_judged`, where the critic explained itself."""
    candidate_judged: str = "Verdict: {verdict}{probability}"
    probability: str = ", p = {p:.2f}"
    """Part of `candidate_judged`, where the engine gave a probability."""
    degraded: str = "({code}: {detail})"
    unfinished: str | None = "({candidate}: {reason})"
    """For a candidate that was cancelled or failed."""
    vote_group: str | None = "{answer}: {weight:.2f}"
    """For each group of answers; a vote is a list of them."""
    answer: str | None = None
    labels: Mapping[Label | None, str] = field(
        default_factory=lambda: {"correct": "✓", "incorrect": "✗", "unsure": "?", None: "?"}
    )
    verdicts: Mapping[Verdict | None, str] = field(
        default_factory=lambda: {"correct": "correct", "incorrect": "incorrect", "unsure": "unsure", None: "none"}
    )
    escape: Callable[[str], str] = str


MARKDOWN = Style()


def narrate(event: events.SolveEvent, style: Style) -> str | None:
    """Return the text of `event` in `style`, without a final line break; None if the style leaves it out."""
    escape = style.escape
    text = None
    match event:
        case events.CandidateStarted():
            template = style.refinement if event.parent else style.draft
            text = template.format(candidate=escape(event.candidate), parent=escape(event.parent or ""))
        case events.StepWritten():
            text = style.step.format(index=event.index, text=escape(event.text))
        case events.StepJudged():
            explanation = style.explanation.format(text=escape(event.explanation)) if event.explanation else ""
            text = style.step_judged.format(index=event.index, label=style.labels[event.label], explanation=explanation)
        case events.CandidateJudged():
            p = "" if event.p_correct is None else style.probability.format(p=event.p_correct)
            verdict = style.verdicts[event.verdict]
            text = style.candidate_judged.format(candidate=escape(event.candidate), verdict=verdict, probability=p)
        case events.CandidateFinished(finish_reason="cancelled" | "failed") if style.unfinished:
            text = style.unfinished.format(candidate=escape(event.candidate), reason=event.finish_reason)
        case events.VotesChanged() if style.vote_group:
            heaviest = sorted(event.groups, key=lambda group: -group.weight)[:MAX_VOTE_GROUPS]
            shares = [style.vote_group.format(answer=escape(str(group.answer)), weight=group.weight) for group in heaviest]
            text = ", ".join(shares)
        case events.DegradedEvent():
            text = style.degraded.format(code=escape(event.code), detail=escape(event.detail))
        case events.SolveFinished() if style.answer:
            answer, usage = escape(str(event.answer)), event.usage
            text = style.answer.format(answer=answer, stop_reason=event.stop_reason, usage=usage)
        case _:
            pass
    return text
