"""Token ids and chat templates, from a tokenizer directory or out of a GGUF file.

Ids are computed here and not in the engine, so that a prompt is counted exactly before it is sent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import jinja2
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from services.engines.gguf_file import read_gguf
from services.engines.gguf_tokenizer import gguf_tokenizer
from services.engines.models import ModelError
from services.engines.protocol import Prompt
from services.errors import InvalidRequest


class _Typed(Protocol):
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
        self._tokenizer = cast("_Typed", tokenizer)
        if not self._tokenizer.chat_template:
            raise ModelError("the tokenizer has no chat template")
        self._vocabulary = self._tokenizer.backend_tokenizer
        added = self._tokenizer.added_tokens_decoder.values()
        self.special_tokens = tuple(sorted({token.content for token in added if token.content.strip()}))
        """Every special and added token that is more than white space."""

    def render(self, prompt: Prompt) -> str:
        """The text that the model reads. Raises `InvalidRequest` when the template refuses the messages."""
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"the model's chat template refuses these messages: {error}") from error
        return f"{text}{prompt.prefix}"

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, to which nothing is added."""
        return self._vocabulary.encode(text, add_special_tokens=False).ids

    def splits_characters(self, ids: Sequence[int]) -> bool:
        """Whether a token holds only a part of a character."""
        return any("\ufffd" in self._vocabulary.decode([token], skip_special_tokens=False) for token in ids)

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The text that each token adds; a character that spans several belongs to the last of them."""
        found: list[str] = []
        before = ""
        for end in range(1, len(ids) + 1):
            text = self._vocabulary.decode(ids[:end], skip_special_tokens=False)
            whole = before if text.endswith("\ufffd") else text
            found.append(whole[len(before) :])
            before = whole
        return tuple(found)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a rendered prompt."""
        return self.encode(self.render(prompt))


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Read a directory with `tokenizer.json`, or a GGUF file. Raises `ModelError`; blocks for up to a second."""
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
