"""Whether two answers are the same: text and numbers tell at once, mathematics is done where it can be killed."""

from orchestrator.answers.equivalence import Answers
from orchestrator.answers.text import Equivalent

__all__ = ["Answers", "Equivalent"]
