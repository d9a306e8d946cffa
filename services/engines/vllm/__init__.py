"""The vLLM engine: vLLM in this process, on a GPU or with its CPU build.

vLLM is an optional extra, so importing this package does not import it; `engine` and `library` do. Only `library` uses it.
"""

from services.engines.vllm.options import VllmOptions

__all__ = ["VllmOptions"]
