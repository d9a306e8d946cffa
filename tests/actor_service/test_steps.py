"""Parsing of steps and answers from solutions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor_service.answer import answer_of
from actor_service.steps import StepWriter, prefix_of, steps_of
from services.contracts.calls import WrittenStep

LINES = st.sampled_from(["Step 1: a", "step 2: b", "**Step 3**", "more", "", "The answer is 4.", "#### 5", "  x = 2", "Ste"])
TEXTS = st.lists(LINES).map("\n".join)


@given(TEXTS, st.lists(st.integers(0, 60)))
def test_incremental_splitting_gives_the_same_steps(text: str, cuts: list[int]):
    """The steps do not depend on how the text is divided into deltas."""
    writer = StepWriter()
    steps: list[WrittenStep] = []
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, end in pairwise(places):
        steps += writer.feed(text[start:end])
    assert tuple(steps + writer.close()) == steps_of(text)


@given(TEXTS)
def test_kept_steps_are_an_exact_prefix(text: str):
    """Keeping k steps returns the text up to the start of step k + 1."""
    for keep in range(len(steps_of(text)) + 1):
        kept = prefix_of(text, keep)
        assert text.startswith(kept)
        assert steps_of(kept) == steps_of(text)[:keep]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("So the answer is 42.", "42"),
        ("#### 7", "7"),
        ("The answer is $3$.", "3"),
        ("\\boxed{", None),
        ("no idea", None),
    ],
)
def test_answer_is_extracted_from_the_solution(text: str, answer: str | None):
    """The answer is the last complete box, else the last stated answer, else None."""
    assert answer_of(text) == answer
