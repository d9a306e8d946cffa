"""Neutralising: text from requests cannot act as control tokens.

A chat template is text too, so a special token inside a problem or a solution would become a real control token when the
rendered prompt is tokenised. A zero-width space after the first character breaks every occurrence; it is invisible to a
reader, but not to a tokenizer. Where an engine does not know its special tokens, well-known markers are broken instead.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

BREAK = "\u200b"
"""Zero-width space."""

WELL_KNOWN = (
    r"<[|\uff5c][^<>\s]{1,64}[|\uff5c]>",  # <|im_start|>, <|eot_id|>, and the full-width bars of DeepSeek
    r"</?(?:s|bos|eos|pad|unk|mask|sep|cls)>",  # SentencePiece
    r"<(?:start|end)_of_(?:turn|image|role)>",  # Gemma, Granite
    r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]",  # Mistral
    r"<</?SYS>>",  # Llama 2
    r"</?(?:think|tool_call|tool_response)>",  # Qwen
)
"""Markers of the common chat templates, as regular expressions."""


def neutralise(text: str, special_tokens: Sequence[str]) -> str:
    """Break every special token in `text`; text without any is returned unchanged, and twice is the same as once.

    With no `special_tokens` the `WELL_KNOWN` markers are broken instead. Tokens of a single character cannot be broken;
    no chat template uses one as a control token.
    """
    if not special_tokens:
        return _starts(WELL_KNOWN).sub(_broken, text)
    present = tuple(token for token in special_tokens if len(token) > 1 and token in text)
    return _starts(tuple(map(re.escape, present))).sub(_broken, text) if present else text


def _broken(start: re.Match[str]) -> str:
    return start[0] + BREAK


@lru_cache(maxsize=256)
def _starts(tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Compile a pattern for the first character of each occurrence, overlapping ones included."""
    return re.compile(rf"(?={'|'.join(tokens)}).", re.DOTALL)
