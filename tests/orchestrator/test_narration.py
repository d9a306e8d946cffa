"""The same events in the wording of the terminal and of the chat."""

from counterpoint import render
from orchestrator.narration import narrate
from orchestrator.openai.reasoning import ReasoningText
from services.contracts.events import (
    BudgetWarning,
    CandidateFinished,
    CandidateJudged,
    CandidateStarted,
    DegradedEvent,
    SolveEvent,
    StepJudged,
    StepWritten,
    VotesChanged,
)
from services.contracts.solve import VoteGroup

EVENTS: list[SolveEvent] = [
    CandidateStarted(candidate="c0", parent=None, round=0),
    StepWritten(candidate="c0", index=1, text="2 + 3 = 6 {x} [red]\x1b"),
    StepJudged(candidate="c0", index=1, label="incorrect", p_correct=0.1, explanation="It is 5."),
    CandidateJudged(candidate="c0", verdict=None, p_correct=None, first_error=None),
    CandidateStarted(candidate="c0.1", parent="c0", round=1),
    CandidateStarted(candidate="c1", parent=None, round=0),
    StepWritten(candidate="c0.1", index=1, text="2 + 3 = 5"),
    CandidateJudged(candidate="c0.1", verdict="correct", p_correct=0.987, first_error=None),
    CandidateFinished(candidate="c1", answer=None, finish_reason="cancelled"),
    CandidateFinished(candidate="c0.1", answer="5", finish_reason="stop"),
    VotesChanged(groups=tuple(VoteGroup(answer=str(n), votes=1, weight=n / 8) for n in (1, 5, 2, 3))),
    DegradedEvent(code="critic_unavailable", detail="it is down"),
    BudgetWarning(limit="max_tokens", share=0.9),
]


def test_lines_of_the_terminal():
    """Rich markup; control characters of untrusted text are removed and its markup is escaped."""
    lines = [narrate(event, render.STYLE) for event in EVENTS]
    assert [line for line in lines if line is not None] == [
        "[bold]actor[/] writes c0",
        "  1. 2 + 3 = 6 {x} \\[red]",
        "[bold]critic[/] on step 1: [red]incorrect[/]: It is 5.",
        "[bold]critic[/] on c0: not judged",
        "[bold]actor[/] writes c0.1, refining c0",
        "[bold]actor[/] writes c1",
        "  1. 2 + 3 = 5",
        "[bold]critic[/] on c0.1: [green]correct[/], p(correct) = 0.99",
        "[yellow]degraded[/] critic_unavailable: it is down",
    ]


def test_reasoning_of_the_chat():
    """Markdown paragraphs; each is labelled where another source continues."""
    reasoning = ReasoningText()
    text = "".join(reasoning.add(event) for event in EVENTS)
    assert text.splitlines() == [
        "**Draft c0**",
        "2 + 3 = 6 {x} [red]\x1b",
        "",
        "[critique of c0] ✗ step 1 It is 5.",
        "Verdict: none",
        "",
        "**Refining c0 as c0.1**",
        "",
        "**Draft c1**",
        "",
        "[c0.1] 2 + 3 = 5",
        "",
        "[critique of c0.1] Verdict: correct, p = 0.99",
        "",
        "[c1] (c1: cancelled)",
        "",
        "[votes] 5: 0.62, 3: 0.38, 2: 0.25",
        "",
        "[degraded] (critic_unavailable: it is down)",
    ]
