"""Probabilities out of log-probabilities: each label's own, whatever the tokens' bounds, and none that was not given."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic_service.dialects import RIGHT, WRONG
from critic_service.dialects.parsing import build_critique
from critic_service.scoring import label_probabilities, probability, with_probabilities
from services.contracts.critique import Label, StepLabel
from services.engines.protocol import TokenLogprobs

LABELS = st.lists(st.sampled_from([RIGHT, WRONG]), min_size=1, max_size=6)
LOGPROBS = st.floats(min_value=-30, max_value=0)
TOKENS = st.sampled_from(["c", "correct", " Correct", '"cor', "in", "Incorrect", "i", "the", "", '"', "{", "1", "corner"])


def cut(text: str, places: list[int]) -> list[str]:
    """Cut `text` into pieces."""
    bounds = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(bounds)]


def generated(pieces: list[str], starts: list[int], tops: list[float]) -> list[TokenLogprobs]:
    """Return tokens, of which the one that holds the k-th label's start has the k-th probability of being right."""
    tokens: list[TokenLogprobs] = []
    at = 0
    for piece in pieces:
        held = [p for start, p in zip(starts, tops, strict=True) if at <= start < at + len(piece)]
        top = ((RIGHT, math.log(held[0])), (WRONG, math.log(1 - held[0]))) if held else ((piece, -0.1),)
        tokens.append(TokenLogprobs(piece, -0.1, top))
        at += len(piece)
    return tokens


@given(LABELS, st.sampled_from([None, 1]), st.lists(st.integers(0, 500)), st.data())
def test_every_label_gets_its_own_probability(labels: list[str], indent: int | None, places: list[int], data: st.DataObject):
    """However the document is laid out and cut into tokens, as long as no token holds the starts of two labels."""
    text = json.dumps({str(index): label for index, label in enumerate(labels, 1)}, indent=indent)
    starts = [text.index(label, text.index(f'"{index}"')) for index, label in enumerate(labels, 1)]
    wanted = data.draw(st.lists(st.floats(0.01, 0.99), min_size=len(labels), max_size=len(labels)))
    pieces = cut(text, [*places, *(start - 1 for start in starts)])
    probabilities = label_probabilities(generated(pieces, starts, wanted), RIGHT, WRONG)
    assert probabilities == [pytest.approx(p) for p in wanted]


@given(st.lists(st.tuples(TOKENS, LOGPROBS), max_size=20))
def test_a_probability_is_one_or_none(top: list[tuple[str, float]]):
    """Whatever the alternatives, the result is in [0, 1], the words' shares add up to one, and silence is no opinion."""
    p, q = probability(top, RIGHT, WRONG), probability(top, WRONG, RIGHT)
    if p is None:
        assert q is None
        return
    assert 0 <= p <= 1
    assert q is not None
    assert p + q == pytest.approx(1)


@given(st.lists(st.tuples(TOKENS, LOGPROBS), max_size=8), LOGPROBS)
def test_more_mass_on_a_word_never_counts_against_it(top: list[tuple[str, float]], logprob: float):
    """A further alternative that begins the right word does not lower its probability."""
    before, after = probability(top, RIGHT, WRONG), probability([*top, ("correct", logprob)], RIGHT, WRONG)
    assert after is not None
    assert after >= (before or 0.0) - 1e-12


@pytest.mark.parametrize(
    ("top", "p"),
    [
        ([("correct", math.log(0.6)), ("incorrect", math.log(0.2))], 0.75),
        ([(" C", math.log(0.3)), ("In", math.log(0.1))], 0.75),
        ([("cor", math.log(0.1)), ("Correct", math.log(0.2)), ("inc", math.log(0.1))], 0.75),
        ([('"', -0.1), ("the", -0.2)], None),
        ([], None),
        ([("correct", 0.5)], 1.0),
    ],
)
def test_words_are_recognised_by_their_beginning(top: list[tuple[str, float]], p: float | None):
    """In any case, after a space, in part; what begins neither word says nothing; rounding above 1 is cut."""
    assert probability(top, RIGHT, WRONG) == (None if p is None else pytest.approx(p))


def test_words_inside_an_explanation_are_no_labels():
    """Quotes inside a JSON string are escaped, so what imitates a label there is not one."""
    text = json.dumps({"labels": {"1": "incorrect"}, "explanation": 'He says "1": "correct" and "label": "correct".'})
    tokens = [TokenLogprobs(character, -0.1, (("incorrect", -0.1),)) for character in text]
    assert label_probabilities(tokens, RIGHT, WRONG) == [0.0]


@given(LABELS, st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_probabilities_that_do_not_match_the_labels_are_left_out(words: list[str], probabilities: list[float | None]):
    """One for each label or none at all; the whole is as sound as its weakest step, unknown where a step is."""
    labels = [StepLabel(index=index, label=_label(word)) for index, word in enumerate(words, 1)]
    scored = with_probabilities(labels, probabilities)
    given_ = probabilities if len(probabilities) == len(labels) else [None] * len(labels)
    assert [label.p_correct for label in scored] == given_
    known = [p for p in given_ if p is not None]
    assert build_critique("labels", scored, ()).p_correct == (min(known) if len(known) == len(labels) else None)


def _label(word: str) -> Label:
    return "correct" if word == RIGHT else "incorrect"
