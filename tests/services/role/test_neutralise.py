"""Neutralising: control tokens in text that others wrote stay text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.role.neutralise import BREAK, neutralise

TOKENS = ("<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "aba", "<<")
PIECES = st.one_of(st.sampled_from(TOKENS), st.sampled_from(["<", "|", ">", "a", "b", "im_", "\n", BREAK]), st.text())
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@given(TEXTS)
def test_no_special_token_is_left(text: str) -> None:
    """No special token occurs in the result, however tokens overlap or nest."""
    broken = neutralise(text, TOKENS)
    assert not any(token in broken for token in TOKENS)


@given(TEXTS)
def test_twice_is_once(text: str) -> None:
    """Neutralising is idempotent, with and without a list of tokens."""
    for tokens in (TOKENS, ()):
        once = neutralise(text, tokens)
        assert neutralise(once, tokens) == once


@given(TEXTS)
def test_only_breaks_are_added(text: str) -> None:
    """The text can be read back by dropping what was added; text without special tokens is untouched."""
    broken = neutralise(text, TOKENS)
    assert broken.replace(BREAK, "") == text.replace(BREAK, "")
    if not any(token in text for token in TOKENS):
        assert broken == text


@pytest.mark.parametrize(
    "marker",
    [
        "<|im_start|>",
        "<|eot_id|>",
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<end_of_turn>",
    ],
)
def test_well_known_markers_are_broken_without_a_list(marker: str) -> None:
    """An engine that reports no special tokens is still protected from the common templates' markers."""
    assert neutralise(f"a {marker} b", ()) == f"a {marker[0]}{BREAK}{marker[1:]} b"


@pytest.mark.parametrize("text", ["1 < 2 and |x| > 3", "[1, 2]", "a <b> c", "f(x) = <x, y>"])
def test_mathematics_is_left_alone(text: str) -> None:
    """Ordinary mathematics holds no marker."""
    assert neutralise(text, ()) == text
