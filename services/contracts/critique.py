"""The critique of one solution."""

from typing import Annotated, Literal

from pydantic import Field

from services.contracts.base import Probability, Reply, Text

Label = Literal["correct", "incorrect", "unsure"]
Verdict = Literal["correct", "incorrect", "unsure"]
Depth = Literal["verdict", "labels", "explain"]

DEPTHS: tuple[Depth, ...] = ("verdict", "labels", "explain")
"""The depths, from the cheapest to the most expensive."""

StepIndex = Annotated[int, Field(ge=1)]


class StepLabel(Reply):
    """The critic's judgement of one step (1-based); `p_correct` is null if the engine returns no probabilities."""

    index: StepIndex
    label: Label
    p_correct: Probability | None = None


class StepExplanation(Reply):
    """The critic's explanation of one step (1-based)."""

    index: StepIndex
    text: Text


class Critique(Reply):
    """The critic's judgement of one candidate.

    `labels` and `explanations` are ordered by index and may stop after the first error. `first_error` is the index of the
    first step labelled `incorrect`. An unparsable critique has the verdict `unsure`, no `p_correct`, and `unparsable` set.
    """

    depth: Depth
    labels: tuple[StepLabel, ...] = ()
    explanations: tuple[StepExplanation, ...] = ()
    first_error: StepIndex | None = None
    verdict: Verdict
    p_correct: Probability | None = None
    unparsable: bool = False
