"""Benchmarks of the service itself: each program measures and prints the figures of one run."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

VLLM = {"engine": "vllm", "vllm_dtype": "float32", "vllm_block_size": 32, "vllm_enforce_eager": True, "context_length": 1024}
"""Settings of a role whose pocket model runs on vLLM's CPU build, which needs blocks of a multiple of 32 tokens."""
VLLM_START_SECONDS = 400


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure and its limit."""

    name: str
    value: float
    limit: float
    unit: str = "x"

    @property
    def line(self) -> str:
        """The line of the report."""
        verdict = "ok" if self.value <= self.limit else "ABOVE"
        return f"{self.name:<72}{self.value:>9.2f} {self.unit:<3} limit {self.limit:>7.2f}  {verdict}"


def report(figures: Sequence[Figure]) -> int:
    """Print the figures; return the exit code, 0 if every one is within its limit."""
    for figure in figures:
        print_line(figure.line)
    return int(any(figure.value > figure.limit for figure in figures))


def print_line(line: str) -> None:
    """Print a line of a report at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def metric(client: httpx.AsyncClient, name: str) -> float:
    """Return the sum of the samples of a metric of a service."""
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))


def vllm_variables(*roles: str) -> dict[str, str]:
    """Return the environment variables that run these roles on vLLM."""
    return {f"COUNTERPOINT_{role}_{key}".upper(): str(value) for role in roles for key, value in VLLM.items()}


def vllm_process(core: int) -> dict[str, str]:
    """Return the environment variables that keep a vLLM process on a CPU core."""
    return {"VLLM_CPU_OMP_THREADS_BIND": str(core), "VLLM_CPU_KVCACHE_SPACE": "1"}
