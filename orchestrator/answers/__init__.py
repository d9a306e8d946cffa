"""Equivalence of answers: whether two answers to a problem are the same, however they are written.

Text, numbers and choices are compared at once, in this process. Symbolic mathematics is left to a process of its own, which
is limited in time and memory, since the text comes from a model; a comparison that it cannot decide is `unknown`.
"""

from orchestrator.answers.equivalence import AnswerEquivalence
from orchestrator.answers.text import Comparison, compare

__all__ = ["AnswerEquivalence", "Comparison", "compare"]
