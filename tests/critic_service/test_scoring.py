"""Label probabilities from token log-probabilities, for any division of the text into tokens."""

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
    """Return `text` cut into pieces at `places` (modulo its length)."""
    bounds = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(bounds)]


def generated(pieces: list[str], starts: list[int], tops: list[float]) -> list[TokenLogprobs]:
    """Return a token for each piece; the one in which label k starts gives probability k of `tops` to the right word."""
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
    """Layout and token boundaries do not matter, as long as no token contains the starts of two labels."""
    text = json.dumps({str(index): label for index, label in enumerate(labels, 1)}, indent=indent)
    starts = [text.index(label, text.index(f'"{index}"')) for index, label in enumerate(labels, 1)]
    wanted = data.draw(st.lists(st.floats(0.01, 0.99), min_size=len(labels), max_size=len(labels)))
    pieces = cut(text, [*places, *(start - 1 for start in starts)])
    probabilities = label_probabilities(generated(pieces, starts, wanted), RIGHT, WRONG)
    assert probabilities == [pytest.approx(p) for p in wanted]


@given(st.lists(st.tuples(TOKENS, LOGPROBS), max_size=20))
def test_probability_is_in_the_unit_interval_or_none(top: list[tuple[str, float]]):
    """The probabilities of the two words are in [0, 1] and add up to 1, or are both None."""
    p, q = probability(top, RIGHT, WRONG), probability(top, WRONG, RIGHT)
    if p is None:
        assert q is None
        return
    assert 0 <= p <= 1
    assert q is not None
    assert p + q == pytest.approx(1)


@given(st.lists(st.tuples(TOKENS, LOGPROBS), max_size=8), LOGPROBS)
def test_more_mass_on_a_word_never_lowers_its_probability(top: list[tuple[str, float]], logprob: float):
    """Adding an alternative that begins the right word does not lower that word's probability."""
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
    """Case and leading spaces are ignored, prefixes count, other tokens do not, and probabilities are capped at 1."""
    assert probability(top, RIGHT, WRONG) == (None if p is None else pytest.approx(p))


def test_text_inside_an_explanation_is_not_a_label():
    """Text that imitates a label inside a JSON string is ignored, since its quotes are escaped."""
    text = json.dumps({"labels": {"1": "incorrect"}, "explanation": 'He says "1": "correct" and "label": "correct".'})
    tokens = [TokenLogprobs(character, -0.1, (("incorrect", -0.1),)) for character in text]
    assert label_probabilities(tokens, RIGHT, WRONG) == [0.0]


@given(LABELS, st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_probabilities_are_used_only_if_there_is_one_per_label(words: list[str], probabilities: list[float | None]):
    """If the counts differ, none is used; p_correct is the smallest one, or None if any label has none."""
    labels = [StepLabel(index=index, label=_label(word)) for index, word in enumerate(words, 1)]
    scored = with_probabilities(labels, probabilities)
    given_ = probabilities if len(probabilities) == len(labels) else [None] * len(labels)
    assert [label.p_correct for label in scored] == given_
    known = [p for p in given_ if p is not None]
    assert build_critique("labels", scored, ()).p_correct == (min(known) if len(known) == len(labels) else None)


def _label(word: str) -> Label:
    return "correct" if word == RIGHT else "incorrect"
