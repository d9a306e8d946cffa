"""Steps and answers of solutions."""

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
def test_splitting_while_writing_is_splitting_at_once(text: str, cuts: list[int]):
    """However the text is cut into deltas, the same steps come out."""
    writer = StepWriter()
    steps: list[WrittenStep] = []
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, end in pairwise(places):
        steps += writer.feed(text[start:end])
    assert tuple(steps + writer.close()) == steps_of(text)


@given(TEXTS)
def test_kept_steps_are_an_exact_prefix(text: str):
    """Keeping k steps keeps the text up to where step k + 1 starts."""
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
def test_the_answer_is_what_the_solution_states(text: str, answer: str | None):
    """The last complete box, else the stated answer, else none."""
    assert answer_of(text) == answer
