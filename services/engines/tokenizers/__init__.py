"""Tokenizers: chat templates and token ids, computed here so that prompts are counted before they are sent.

They come from a model's tokenizer directory, or out of its GGUF file (`gguf_file`, `gguf_tokenizer`). No PyTorch is needed.
"""

import os

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # transformers would advise installing PyTorch

from services.engines.tokenizers.chat import ChatTokenizer, load_tokenizer
from services.engines.tokenizers.gguf_file import read_gguf
from services.engines.tokenizers.gguf_tokenizer import PRE_TOKENIZERS, gguf_tokenizer

__all__ = ["PRE_TOKENIZERS", "ChatTokenizer", "gguf_tokenizer", "load_tokenizer", "read_gguf"]
