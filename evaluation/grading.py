"""Grading: compares answers with a problem's reference answer."""

import anyio

from evaluation.problem_sets import ProblemItem
from orchestrator.answers import AnswerEquivalence
from orchestrator.answers.text import compare

WARM_UP_SECONDS = 60
"""The longest that the mathematics library may take to load."""


async def grade(answers: AnswerEquivalence, answer: str | None, item: ProblemItem) -> bool:
    """Return whether an answer is right: by the set's own test if it has one, else by text, number and mathematics.

    Raises `TimeoutError` if the mathematics library is not loaded in `WARM_UP_SECONDS`.
    """
    if answer is None:
        return False
    if item.accepts is not None:
        return item.accepts(answer)
    if compare(answer, item.answer) == "unknown":
        with anyio.fail_after(WARM_UP_SECONDS):
            await answers.warm.wait()
    return await answers.equivalent(answer, item.answer) == "same"


def is_right(answer: str | None, item: ProblemItem) -> bool:
    """Return whether an answer equals the reference answer by text and number alone."""
    return answer is not None and compare(answer, item.answer) == "same"
