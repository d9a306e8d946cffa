"""One solve while it runs.

`state` holds everything that the branches of a strategy share, with the `candidate_register` beside it. `context` is the
only thing that a strategy sees. Below it, `actor_calls` and `critic_calls` turn the streams of the role services into
candidates and critiques; each call goes through `leased_call`, under a size from `estimates`. Errors keep their type here:
turning a limit into an answer is the runner's task.
"""

from orchestrator.solve.context import Context
from orchestrator.solve.estimates import Mode
from orchestrator.solve.pipelining import PipelineOptions
from orchestrator.solve.state import AnswerNow, Attempt, Emit, Outcome, Solve

__all__ = ["AnswerNow", "Attempt", "Context", "Emit", "Mode", "Outcome", "PipelineOptions", "Solve"]
