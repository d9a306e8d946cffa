"""The response of a solve: its outcome, its account, and its candidates in the detail of the requested trace."""

from typing import Any

from orchestrator.candidates import Candidate
from orchestrator.solve.state import Outcome, Solve
from services.contracts.calls import WrittenStep
from services.contracts.critique import StepLabel
from services.contracts.solve import BudgetAccount, CandidateTrace, SolveResult, SolveUsage, StepTrace, Trace


def result_of(solve: Solve, outcome: Outcome, strategy: dict[str, Any], trace: Trace, seconds: float) -> SolveResult:
    """Return the response of a solve that took `seconds`."""
    chosen, spent = outcome.candidate, solve.ledger.spent(seconds)
    actor, critic = solve.usage["actor"], solve.usage["critic"]
    candidates = tuple(trace_of(each, selected=each.id == chosen.id, trace=trace) for each in solve.candidates)
    return SolveResult(
        id=solve.id,
        answer=chosen.answer,
        solution=chosen.text,
        stop_reason=outcome.stop_reason,
        confidence=outcome.confidence,
        strategy=strategy,
        usage=SolveUsage(
            actor=actor,
            critic=critic,
            total_tokens=actor.total_tokens + critic.total_tokens,
            completion_tokens=actor.completion_tokens + critic.completion_tokens,
            cost=spent.cost,
            seconds=seconds,
        ),
        budget=BudgetAccount(limits=solve.ledger.limits, spent=spent),
        candidates=None if trace == "none" else candidates,
        degraded=tuple(solve.degraded),
    )


def trace_of(candidate: Candidate, *, selected: bool, trace: Trace) -> CandidateTrace:
    """Return the candidate as a response shows it; explanations are part of a `full` trace only."""
    critique = candidate.critique
    labels = {label.index: label for label in critique.labels} if critique else {}
    explanations = {entry.index: entry.text for entry in critique.explanations} if critique and trace == "full" else {}
    return CandidateTrace(
        id=candidate.id,
        parent=candidate.parent,
        round=candidate.round,
        answer=candidate.answer,
        p_correct=candidate.p_correct,
        verdict=candidate.verdict,
        first_error=candidate.first_error,
        selected=selected,
        finish_reason=candidate.finish_reason,
        completion_tokens=candidate.completion_tokens,
        steps=tuple(_step(step, labels.get(step.index), explanations.get(step.index)) for step in candidate.steps),
    )


def _step(step: WrittenStep, label: StepLabel | None, explanation: str | None) -> StepTrace:
    return StepTrace(
        index=step.index,
        text=step.text,
        label=label.label if label else None,
        p_correct=label.p_correct if label else None,
        explanation=explanation,
    )
