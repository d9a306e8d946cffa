"""The tokenizer: exact for any text, digits apart, words whole."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pocket import tokenizer, wording

ROOT = Path(__file__).parents[2]
TOKENIZER = tokenizer.build()


def ids(text: str) -> list[int]:
    """Token ids of a text."""
    return TOKENIZER.encode(text, add_special_tokens=False).ids


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    """Every byte has a token."""
    assert TOKENIZER.decode(ids(text), skip_special_tokens=False) == text


@given(st.integers(min_value=0), st.sampled_from(["{}", "has {} apples", "{} + 1 = 2", "Step 1: {} * 3", "= {}\n"]))
def test_digits_are_single(number: int, frame: str) -> None:
    """A number is as many tokens as it has digits, wherever it stands."""
    apart = [TOKENIZER.decode([token]) for token in ids(frame.format(number))]
    digits = [piece for piece in apart if piece.isdigit()]
    assert "".join(digits).startswith(str(number))
    assert all(len(piece) == 1 for piece in digits)


def test_the_fixed_wording_is_short() -> None:
    """A step takes as many tokens as it has digits, and five more."""
    assert len(ids("Step 1: 12 + 7 = 19\n")) == len("12719") + 4
    assert len(ids(", has 14: correct.")) == len("14") + 2


def test_openings_are_single_tokens() -> None:
    """And the end is the first of all."""
    assert [ids(special) for special in wording.SPECIALS] == [[place] for place in range(len(wording.SPECIALS))]


@given(st.text(), st.text())
def test_text_may_be_cut_at_line_breaks(before: str, after: str) -> None:
    """Kept steps and what follows them are tokenised alike apart and together."""
    assert ids(f"{before}\n{after}") == ids(f"{before}\n") + ids(after)


def test_the_shipped_files_are_what_is_built() -> None:
    """Both models carry the same tokenizer, and it is this one."""
    for role in ("actor", "critic"):
        directory = ROOT / "pocket" / "weights" / role
        shipped = Tokenizer.from_file(str(directory / "tokenizer.json"))
        assert json.loads(shipped.to_str()) == json.loads(TOKENIZER.to_str())
        assert json.loads((directory / "tokenizer_config.json").read_text())["chat_template"] == wording.CHAT_TEMPLATE
