"""Tokenizers: chat templates and token ids, computed here so that prompts can be counted before they are sent.

They are loaded from a model's tokenizer directory or its GGUF file (`gguf_file`, `gguf_tokenizer`), without PyTorch.
"""

import os

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # transformers would advise installing PyTorch

from services.engines.tokenizers.chat import ChatTokenizer, load_tokenizer
from services.engines.tokenizers.gguf_file import read_gguf
from services.engines.tokenizers.gguf_tokenizer import PRE_TOKENIZERS, gguf_tokenizer

__all__ = ["PRE_TOKENIZERS", "ChatTokenizer", "gguf_tokenizer", "load_tokenizer", "read_gguf"]
