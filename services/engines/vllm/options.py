"""Options of the vLLM engine, usable without vLLM installed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """The model and the settings that vLLM runs it with. `context_length` is in tokens; None selects vLLM's default."""

    model: str
    tokenizer_path: Path | None = None
    context_length: int = 2048
    dtype: str = "auto"
    gpu_memory_utilization: float = 0.9
    max_num_seqs: int = 256
    block_size: int | None = None
    enforce_eager: bool = False
    lora: str | None = None

    def arguments(self) -> dict[str, object]:
        """Return the arguments of vLLM's engine. Sampling is configured by each request."""
        arguments: dict[str, object] = {
            "model": self.model,
            "max_model_len": self.context_length,
            "dtype": self.dtype,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_num_seqs": self.max_num_seqs,
            "enforce_eager": self.enforce_eager,
            "enable_prefix_caching": True,
            "scheduling_policy": "priority",
            "generation_config": "vllm",
            "enable_lora": self.lora is not None,
            "block_size": self.block_size,
            "tokenizer": self.tokenizer_path and str(self.tokenizer_path),
        }
        return {name: value for name, value in arguments.items() if value is not None}
