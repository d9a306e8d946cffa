"""The requests of the role services and the events of their responses, one SSE stream per call.

A stream may also end with an `error` event, whose data is a `services.contracts.errors.ProblemDetails`.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from services.contracts.base import FilledText, Reply, Text
from services.contracts.critique import Critique, Depth, StepExplanation, StepLabel
from services.contracts.messages import ProblemRequest
from services.contracts.sampling import Sampling
from services.contracts.usage import Allowance, Usage

MAX_SAMPLES = 64
"""Most samples of one call."""
MAX_STEPS = 512
"""Most steps a solution may have when it is critiqued or refined."""

FinishReason = Literal["stop", "length", "cancelled", "failed"]
Samples = Annotated[int, Field(ge=1, le=MAX_SAMPLES)]


class DraftRequest(ProblemRequest):
    """`POST /v1/draft`: write `n` solutions. `plain` sends the messages to the model unchanged, without the step prompt."""

    n: Samples = 1
    sampling: Sampling = Sampling()
    allowance: Allowance = Allowance()
    plain: bool = False


class RefineRequest(ProblemRequest):
    """`POST /v1/refine`: write `n` new solutions given a critique of `solution`.

    `keep_steps` > 0 rewinds: that many steps are kept and the actor continues after them; 0 rewrites from the start.
    """

    solution: Text
    critique: Critique | None = None
    keep_steps: Annotated[int, Field(ge=0, le=MAX_STEPS)] = 0
    n: Samples = 1
    sampling: Sampling = Sampling()
    allowance: Allowance = Allowance()


class CritiqueRequest(ProblemRequest):
    """`POST /v1/critique`: judge a solution, given as its steps, at a depth."""

    steps: Annotated[tuple[FilledText, ...], Field(min_length=1, max_length=MAX_STEPS)]
    depth: Depth = "verdict"
    explain: Literal["first", "all"] = "first"
    unfinished: bool = False
    """True if the solution is still being written, so that missing steps are not errors."""
    sampling: Sampling = Sampling(temperature=0.0)
    allowance: Allowance = Allowance()


class WrittenStep(Reply):
    """A step of a solution (1-based index)."""

    index: Annotated[int, Field(ge=1)]
    text: Text


class StepEvent(Reply):
    """A step is complete. `sample` is 0-based, `index` 1-based."""

    type: Literal["step"] = "step"
    sample: Annotated[int, Field(ge=0)]
    index: Annotated[int, Field(ge=1)]
    text: Text


class CandidateEvent(Reply):
    """A sample is complete: its whole text, its steps and the answer it states."""

    type: Literal["candidate"] = "candidate"
    sample: Annotated[int, Field(ge=0)]
    text: Text
    steps: tuple[WrittenStep, ...]
    answer: Text | None
    finish_reason: FinishReason
    completion_tokens: int = 0
    """Tokens that were sampled for it."""


class LabelEvent(StepLabel):
    """The critic labelled a step."""

    type: Literal["label"] = "label"


class ExplanationEvent(StepExplanation):
    """The critic explained a step."""

    type: Literal["explanation"] = "explanation"


class CritiqueEvent(Critique):
    """The critique is complete."""

    type: Literal["critique"] = "critique"


class UsageEvent(Usage):
    """The usage of the call so far; the last such event has the total."""

    type: Literal["usage"] = "usage"


ActorEvent = Annotated[StepEvent | CandidateEvent | UsageEvent, Field(discriminator="type")]
"""Any event of an actor's call."""
CriticEvent = Annotated[LabelEvent | ExplanationEvent | CritiqueEvent | UsageEvent, Field(discriminator="type")]
"""Any event of a critic's call."""

ACTOR_EVENT: TypeAdapter[ActorEvent] = TypeAdapter(ActorEvent)
"""Parses an event of an actor's call by its `type`."""
CRITIC_EVENT: TypeAdapter[CriticEvent] = TypeAdapter(CriticEvent)
"""Parses an event of a critic's call by its `type`."""
