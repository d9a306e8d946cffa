"""Options of the vLLM engine, which can be built where vLLM is not installed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """The model, and how vLLM runs it; None leaves the choice to vLLM. `context_length` is in tokens."""

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
        """Return the arguments of vLLM's engine; only requests decide how tokens are sampled."""
        fields: dict[str, object] = {
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
        }
        if self.block_size is not None:
            fields["block_size"] = self.block_size
        if self.tokenizer_path is not None:
            fields["tokenizer"] = str(self.tokenizer_path)
        return fields
