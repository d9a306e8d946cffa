"""Neutralising: control tokens spelled out in untrusted text stay text."""

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
def test_neutralising_is_idempotent(text: str) -> None:
    """Neutralising is idempotent, with and without a list of tokens."""
    for tokens in (TOKENS, ()):
        once = neutralise(text, tokens)
        assert neutralise(once, tokens) == once


@given(TEXTS)
def test_only_breaks_are_added(text: str) -> None:
    """Removing the added breaks restores the text. Text without special tokens is unchanged."""
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
    """Markers of common templates are broken even if the engine reports no special tokens."""
    assert neutralise(f"a {marker} b", ()) == f"a {marker[0]}{BREAK}{marker[1:]} b"


@pytest.mark.parametrize("text", ["1 < 2 and |x| > 3", "[1, 2]", "a <b> c", "f(x) = <x, y>"])
def test_mathematics_is_unchanged(text: str) -> None:
    """Ordinary mathematics is unchanged, since it contains no marker."""
    assert neutralise(text, ()) == text
