"""Parsers of critiques: they return what the text says or raise an error, and never guess."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic_service.dialects.parsing import UnparsableCritique, build_critique, parse_first, parse_labels, parse_published
from critic_service.scoring import label_probabilities, probability
from services.engines.protocol import TokenLogprobs

PUBLISHED = """Step sentence: Tom has $5 + 3 = 8$ apples.

Correctness of the step: Correct

Explanation: The sum is right.
Step sentence: He eats 2, so 8 - 2 = 5.
correctness of the step: WRONG
Explanation: 8 - 2 is 6,
not 5.
Correctness of the final answer: Wrong
Explanation: It follows from the wrong step.
"""


def test_published_format_is_parsed():
    """Field names may be in any case, blank lines may separate fields, and explanations may span several lines."""
    labels, words, final = parse_published(PUBLISHED, 2)
    critique = build_critique("explain", labels, words, final)
    assert ([label.label for label in labels], critique.first_error, critique.verdict) == (
        ["correct", "incorrect"],
        2,
        "incorrect",
    )
    assert words[1].text == "8 - 2 is 6,\nnot 5."


@given(st.randoms(use_true_random=False), st.sampled_from(["drop", "twice", "swap", "cut"]))
def test_mutated_critique_is_never_correct(source: random.Random, mutation: str):
    """When lines are removed, repeated, swapped or cut off, the parser raises or still reports the wrong step."""
    lines = PUBLISHED.splitlines()
    at, other = source.randrange(len(lines)), source.randrange(len(lines))
    if mutation == "drop":
        del lines[at]
    elif mutation == "twice":
        lines.insert(at, lines[at])
    elif mutation == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines = lines[:at]
    try:
        labels, words, final = parse_published("\n".join(lines), 2)
    except UnparsableCritique:
        return
    assert build_critique("explain", labels, words, final).verdict == "incorrect"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "correct",
        "{}",
        "[]",
        '{"1":"correct"}',
        '{"1":"correct","1":"correct","2":"correct"}',
        '{"2":"correct","1":"correct"}',
        '{"1":"maybe","2":"correct"}',
        '{"1":"correct","2":"corr',
        json.dumps({str(i): "correct" for i in range(1, 10_001)}),
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_text_without_exactly_one_label_per_step_is_unparsable(text: str):
    """The parser rejects empty text, noise, and labels that are missing, extra, duplicated, out of order or cut off."""
    with pytest.raises(UnparsableCritique):
        parse_labels(text, 2)


def test_explanation_belongs_to_the_first_error():
    """The explanation is attached to the first wrong step, and dropped if every step is correct."""
    assert parse_first('{"labels":{"1":"correct"},"explanation":"fine"}', 1)[1] == ()
    _, words = parse_first('{"labels":{"1":"incorrect"},"explanation":"2 + 2 is 4"}', 1)
    assert [(entry.index, entry.text) for entry in words] == [(1, "2 + 2 is 4")]


def test_probability_compares_the_two_words():
    """The probability is the share of the right word in the total mass of tokens that begin either word."""
    assert probability([("Cor", -0.1), (" In", -2.4), ("The", -0.5)], "Correct", "Incorrect") == pytest.approx(
        0.909, abs=1e-3
    )
    assert probability([("The", -0.5)], "Correct", "Incorrect") is None


def test_each_label_gets_the_probability_of_its_own_token():
    """Each label's probability is taken from the token where the label begins in the generated JSON."""
    pieces = ['{"', "1", '":"', "correct", '","', "2", '":"', "incorrect", '"}']
    tops = {3: (("correct", -0.05), ("incorrect", -3.0)), 7: (("correct", -2.0), ("incorrect", -0.1))}
    tokens = [TokenLogprobs(piece, -0.1, tops.get(i, ((piece, -0.1),))) for i, piece in enumerate(pieces)]
    first, second = label_probabilities(tokens, "correct", "incorrect")
    assert first is not None
    assert second is not None
    assert first > 0.9
    assert second < 0.2
