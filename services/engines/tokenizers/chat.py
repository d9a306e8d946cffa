"""Chat templates and token ids, from a tokenizer directory or a GGUF file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import jinja2
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from services.engines.models import ModelError
from services.engines.protocol import Prompt
from services.engines.tokenizers.gguf_file import read_gguf
from services.engines.tokenizers.gguf_tokenizer import gguf_tokenizer
from services.errors import InvalidRequest

HELD_TOKENS, MAX_HELD_TOKENS = 12, 16
"""Numbers of tokens held back as parts of an incomplete character, which has at most four bytes.

The text of more than a few such tokens ends with U+FFFD only if the text repeats that character itself. It has three bytes,
so it is complete after 12 one-byte tokens; the other four allow for a different character that begins after it.
"""


class _TypedTokenizer(Protocol):
    """The part of `PreTrainedTokenizerFast` used here, whose own types are incomplete."""

    chat_template: str | None
    backend_tokenizer: Tokenizer
    added_tokens_decoder: dict[int, AddedToken]

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...


class ChatTokenizer:
    """A model's chat template and vocabulary."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = cast("_TypedTokenizer", tokenizer)
        if not self._tokenizer.chat_template:
            raise ModelError("the tokenizer has no chat template")
        self._vocabulary = self._tokenizer.backend_tokenizer
        added = self._tokenizer.added_tokens_decoder.values()
        self.special_tokens = tuple(sorted({token.content for token in added if token.content.strip()}))
        """All special and added tokens except those of only white space."""

    def render(self, prompt: Prompt) -> str:
        """Return the text that the model reads. Raises `InvalidRequest` if the template refuses the messages."""
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"the model's chat template refuses these messages: {error}") from error
        return f"{text}{prompt.prefix}"

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without adding special tokens."""
        return self._vocabulary.encode(text, add_special_tokens=False).ids

    def splits_characters(self, ids: Sequence[int]) -> bool:
        """Return whether any token contains only a part of a character."""
        return any("\ufffd" in self._vocabulary.decode([token], skip_special_tokens=False) for token in ids)

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text that each token adds; joined, the pieces are the decoded text.

        A character that spans several tokens belongs to the last of them. The cost is linear in the number of tokens. Each
        step decodes the tokens held back together with the ones just before them, since a tokenizer may drop the space
        before the first token that it decodes.
        """
        text = self.decode(ids)
        pieces = [""] * len(ids)
        start = read = position = context = 0  # ids[start:read] are decoded again; text[:position] is in pieces
        for end in range(1, len(ids) + 1):
            window = self.decode(ids[start:end])
            added, held = window[context:], end - read
            repeated = held >= HELD_TOKENS and text.startswith(added, position)
            if window.endswith("\ufffd") and end < len(ids) and held < MAX_HELD_TOKENS and not repeated:
                continue
            stop = len(text) if end == len(ids) else position + len(added)
            pieces[end - 1], position = text[position:stop], stop
            start, read = read, end
            context = len(self.decode(ids[start:read]))
        return tuple(pieces)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return self._vocabulary.decode(ids, skip_special_tokens=False)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the token ids of a rendered prompt."""
        return self.encode(self.render(prompt))


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Load a tokenizer from a directory with `tokenizer.json` or a GGUF file; blocks up to a second. Raises `ModelError`."""
    if path.is_file():
        return ChatTokenizer(gguf_tokenizer(read_gguf(path)))
    try:
        return ChatTokenizer(_from_directory(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} holds no tokenizer: {error}") from error


def _from_directory(path: Path) -> PreTrainedTokenizerFast:
    return cast(
        "PreTrainedTokenizerFast",
        PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True),  # pyright: ignore[reportUnknownMemberType] - its keyword arguments have no types
    )
