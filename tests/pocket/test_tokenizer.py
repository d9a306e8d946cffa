"""The tokenizer: lossless for any text, one token per digit and per known word."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pocket import tokenizer, wording

ROOT = Path(__file__).parents[2]
TOKENIZER = tokenizer.build()


def ids(text: str) -> list[int]:
    """Return the token ids of a text."""
    return TOKENIZER.encode(text, add_special_tokens=False).ids


@given(st.text())
def test_any_text_can_be_decoded(text: str) -> None:
    """Encoding and decoding give the original text."""
    assert TOKENIZER.decode(ids(text), skip_special_tokens=False) == text


@given(st.integers(min_value=0), st.sampled_from(["{}", "has {} apples", "{} + 1 = 2", "Step 1: {} * 3", "= {}\n"]))
def test_digits_are_single(number: int, frame: str) -> None:
    """A number has as many tokens as digits, in any position."""
    pieces = [TOKENIZER.decode([token]) for token in ids(frame.format(number))]
    digits = [piece for piece in pieces if piece.isdigit()]
    assert "".join(digits).startswith(str(number))
    assert all(len(piece) == 1 for piece in digits)


def test_the_fixed_wording_is_short() -> None:
    """Phrases of the fixed wording are single tokens."""
    assert len(ids("Step 1: 12 + 7 = 19\n")) == len("12719") + 4
    assert len(ids(", has 14: correct.")) == len("14") + 2


def test_special_tokens_come_first() -> None:
    """Each special token is a single token, numbered from 0."""
    assert [ids(special) for special in wording.SPECIALS] == [[place] for place in range(len(wording.SPECIALS))]


@given(st.text(), st.text())
def test_text_may_be_cut_at_line_breaks(before: str, after: str) -> None:
    """The tokens of two parts are those of the whole."""
    assert ids(f"{before}\n{after}") == ids(f"{before}\n") + ids(after)


def test_the_shipped_tokenizer_is_up_to_date() -> None:
    """Both models ship the tokenizer that `build` returns."""
    for role in ("actor", "critic"):
        directory = ROOT / "pocket" / "weights" / role
        shipped = Tokenizer.from_file(str(directory / "tokenizer.json"))
        assert json.loads(shipped.to_str()) == json.loads(TOKENIZER.to_str())
        assert json.loads((directory / "tokenizer_config.json").read_text())["chat_template"] == wording.CHAT_TEMPLATE
