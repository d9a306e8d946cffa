"""The text that each token of a scored text adds: exact for every kind of tokenizer, in linear time."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from services.engines.models import SMOLLM2, model_path
from services.engines.tokenizers import ChatTokenizer, gguf_tokenizer, read_gguf


class CountingTokenizer(ChatTokenizer):
    """A tokenizer that counts the ids it decodes."""

    ids_decoded = 0

    def decode(self, ids: Sequence[int]) -> str:
        """Decode the ids and count them."""
        self.ids_decoded += len(ids)
        return super().decode(ids)


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Return a tokenizer with byte fallback that drops the space before the first token."""
    words = ["<unk>", "\u2581", "\u2581a", "a", "b", ".", "\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("\u2581", "a")], unk_token="<unk>", byte_fallback=True))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template="x")


TOKENIZERS = {
    "byte-level": CountingTokenizer(gguf_tokenizer(read_gguf(model_path(SMOLLM2)))),
    "sentencepiece-like": CountingTokenizer(sentencepiece_like()),
}
ANY_TEXT = st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"]))
FEW_CHARACTERS = st.text("a b.\n\u00e9\u6f22\U0001f600")


def pieces_by_prefix(tokenizer: ChatTokenizer, ids: list[int]) -> tuple[str, ...]:
    """Return the pieces by definition: the text that each prefix of the ids adds to the previous one.

    An unfinished character is held back, but not at the end: a vocabulary may lack some of its bytes.
    """
    pieces, before = list[str](), ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end])
        whole = before if text.endswith("\ufffd") and end < len(ids) else text
        pieces.append(whole[len(before) :])
        before = whole
    return tuple(pieces)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=ANY_TEXT | FEW_CHARACTERS)
def test_each_piece_is_the_text_that_its_token_adds(name: str, text: str):
    """A character that spans several tokens is part of the last token's piece."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text)
    assert tokenizer.pieces(ids) == pieces_by_prefix(tokenizer, ids)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text("\ufffda\U0001f600", max_size=60) | st.integers(0, 60).map("\ufffd".__mul__))
def test_replacement_characters_are_preserved(name: str, text: str):
    """The pieces add up to the text even if it contains U+FFFD, which looks like an incomplete character."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text)
    pieces = tokenizer.pieces(ids)
    assert ("".join(pieces), len(pieces)) == (tokenizer.decode(ids), len(ids))


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", ["a b.\n", "\U0001f600", "\ufffd"], ids=["words", "emoji", "replacement"])
def test_decoding_takes_linear_time(name: str, text: str):
    """Twice as many tokens decode at most about twice as many ids."""
    tokenizer = TOKENIZERS[name]
    counts: list[int] = []
    for repeats in (100, 200):
        before = tokenizer.ids_decoded
        tokenizer.pieces(tokenizer.encode(text * repeats))
        counts.append(tokenizer.ids_decoded - before)
    assert 0 < counts[1] <= 2.2 * counts[0]
