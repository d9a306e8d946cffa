# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""Record the metrics that vLLM exports before its first request, to test dashboards without vLLM.

After `make test-vllm`, run `.venv-vllm/bin/python tests/deploy/recorded/record.py MODEL`. No weights are loaded.
"""

import sys
from pathlib import Path

from prometheus_client import REGISTRY, generate_latest
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.metrics.loggers import PrometheusStatLogger


def record(model: str) -> None:
    """Write `vllm.txt`."""
    arguments = EngineArgs(model=model, served_model_name="smollm2", max_model_len=512)
    PrometheusStatLogger(arguments.create_engine_config(), [0])
    lines = generate_latest(REGISTRY).decode().splitlines()
    samples = [line for line in lines if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith("vllm:")]
    samples = [line for line in samples if "_created" not in line]
    Path(__file__).with_name("vllm.txt").write_text("\n".join(samples) + "\n", "utf-8")


if __name__ == "__main__":
    record(sys.argv[1])
