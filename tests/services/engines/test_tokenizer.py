"""Tokenizers: the same ids as llama.cpp's, and control tokens that text cannot forge."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.messages import Message
from services.engines.llama import EmbeddedOptions, Event, Llama
from services.engines.models import SMOLLM2, ModelError, model_path
from services.engines.protocol import Prompt
from services.engines.testing import user_prompt
from services.engines.tokenizers import PRE_TOKENIZERS, ChatTokenizer, gguf_tokenizer, load_tokenizer, read_gguf
from services.errors import InvalidRequest
from services.role.neutralise import neutralise

TOKENIZER = load_tokenizer(model_path(SMOLLM2))
"""For properties, which cannot take fixtures cheaply."""

VARIED = (
    "The capital of France is Paris.",
    "1234567890 + 3.14159 = 1,000,000",
    "  two  spaces\tand\ttabs \n\n\n three lines \r\n end ",
    "don't we'll I'M they'RE",
    "na\u00efve caf\u00e9 \u6f22\u5b57 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0639\u0631 \u03b1\u2264\u03b2",
    "\N{GRINNING FACE}\N{SNOWMAN} \u00bd \u0661\u0662\u0663 e\u0301 \u200b",
    r"$\frac{a}{b} \boxed{42}$ <div class='x'>{\"a\": [1, 2]}</div>",
    "<|im_start|>user\nhi<|im_end|>\n<file_sep>x",
    "def f(x):\n    return x**2  # square\n",
)


@pytest.mark.embedded
def test_ids_match_llama_cpp(smollm2: ChatTokenizer) -> None:
    """Text tokenised by llama.cpp has as many tokens as our ids and reuses their cache entry, except for the last."""
    llama = Llama(EmbeddedOptions(model_path(SMOLLM2), context_length=256, slots=1, batch=64))

    def prompt_and_cached_tokens(prompt: object) -> tuple[int, int]:
        events: list[Event] = []
        request = {"prompt": prompt, "n_predict": 1, "stream": True, "cache_prompt": True}
        llama.complete(request, lambda event: bool(events.append(event)))
        usage = events[-1]["usage"]
        return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    for text in VARIED:
        ids = smollm2.encode(text)
        assert prompt_and_cached_tokens(ids)[0] == len(ids)
        assert prompt_and_cached_tokens(text) == (len(ids), len(ids) - 1), text
    llama.close()


def test_the_models_own_template_is_applied(smollm2: ChatTokenizer) -> None:
    """Messages are enclosed in control tokens, and the assistant's message is left open, followed by the prefix."""
    text = smollm2.render(user_prompt("Hi", "Step 1:"))
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nStep 1:")
    assert smollm2.prompt_ids(user_prompt("Hi"))[0] == smollm2.encode("<|im_start|>")[0]


@settings(max_examples=200)
@given(st.lists(st.sampled_from([*TOKENIZER.special_tokens, "<|", "|>", "im_end", " ", "a"]), max_size=8).map("".join))
def test_neutralised_text_contains_no_special_id(text: str) -> None:
    """After neutralising, any text is encoded as ordinary tokens only."""
    special = {TOKENIZER.encode(token)[0] for token in TOKENIZER.special_tokens}
    assert special.isdisjoint(TOKENIZER.encode(neutralise(text, TOKENIZER.special_tokens)))


def test_text_that_is_not_neutralised_can_forge_control_tokens() -> None:
    """Without neutralising, a special token spelled out in a message is encoded as that token's id."""
    assert TOKENIZER.encode("<|im_end|>")[0] in TOKENIZER.encode("a <|im_end|> b")


def test_a_directory_gives_the_same_ids(smollm2: ChatTokenizer, tmp_path: Path) -> None:
    """A tokenizer directory gives the same ids as the GGUF file."""
    file = read_gguf(model_path(SMOLLM2))
    inner = gguf_tokenizer(file)
    inner.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": file.text("tokenizer.chat_template")}), "utf-8"
    )
    loaded = load_tokenizer(tmp_path)
    assert loaded.special_tokens == smollm2.special_tokens
    for text in VARIED:
        assert loaded.prompt_ids(user_prompt(text)) == smollm2.prompt_ids(user_prompt(text))


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """The error for a directory without a tokenizer names the directory."""
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


def test_messages_that_the_template_rejects_are_the_callers_error() -> None:
    """A template that rejects the order of roles raises the caller's error."""
    strict = gguf_tokenizer(read_gguf(model_path(SMOLLM2)))
    strict.chat_template = "{{ raise_exception('users first') }}"
    with pytest.raises(InvalidRequest, match="users first"):
        ChatTokenizer(strict).render(Prompt((Message(role="assistant", content="x"),)))


def test_whole_characters_are_distinguished_from_parts(smollm2: ChatTokenizer) -> None:
    """Tokens of plain text hold whole characters. Tokens of a rare character hold only parts of it."""
    assert not smollm2.splits_characters(smollm2.encode("plain text"))
    assert smollm2.splits_characters(smollm2.encode("\N{GRINNING FACE}"))


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("gpt-2", ["I", "'ll", "\u0120add", "\u01201234", ",", "\u0120", "\u0120x", "\u010a"]),
        ("smollm", ["I", "'ll", "\u0120add", "\u0120", "1", "2", "3", "4", ",", "\u0120", "\u0120x", "\u010a"]),
        ("qwen2", ["I", "'ll", "\u0120add", "\u0120", "1", "2", "3", "4", ",", "\u0120", "\u0120x", "\u010a"]),
        ("llama-bpe", ["I", "'ll", "\u0120add", "\u0120", "123", "4", ",", "\u0120", "\u0120x", "\u010a"]),
    ],
)
def test_text_is_split_as_the_model_was_trained(name: str, pieces: list[str]) -> None:
    """Each model family groups digits and spaces in its own way."""
    split = PRE_TOKENIZERS[name].pre_tokenize_str("I'll add 1234,  x\n")
    assert [piece for piece, _ in split] == pieces
