"""Fixtures of the tests on the real vLLM, run by `make test-vllm`.

Each model is loaded once per module. An engine takes half a minute to start and uses 3.5 GB.
"""

import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from counterpoint.stack import RunningStack, run_stack
from services.engines.protocol import Engine

SMOLLM2 = Path(sys.prefix) / "smollm2"
"""The directory that `make test-vllm` creates."""

for name, value in {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}.items():
    os.environ.setdefault(name, value)


def on_vllm(role: str, **more: object) -> dict[str, str]:
    """Return settings that run a role on vLLM's CPU build, with small cache blocks for the tests' short prompts."""
    fields = {"engine": "vllm", "vllm_dtype": "float32", "vllm_block_size": 32, "vllm_enforce_eager": True, **more}
    return {f"COUNTERPOINT_{role}_{name}".upper(): str(value) for name, value in fields.items()}


CORES = {"actor": {"VLLM_CPU_OMP_THREADS_BIND": "0"}, "critic": {"VLLM_CPU_OMP_THREADS_BIND": "1"}}
"""One core for each engine, since the threads of two engines on one core would block each other."""


@pytest.fixture(scope="module")
async def pair() -> AsyncGenerator[RunningStack]:
    """Run the three services with the pocket pair on vLLM."""
    settings = {**on_vllm("actor", context_length=1024), **on_vllm("critic", context_length=1024)}
    async with run_stack(settings, CORES, start_seconds=400) as running:
        yield running


@pytest.fixture(scope="module")
async def instructed() -> AsyncGenerator[RunningStack]:
    """Run the three services with SmolLM2-135M-Instruct on vLLM in both roles."""
    settings = {**on_vllm("actor", model=SMOLLM2), **on_vllm("critic", model=SMOLLM2)}
    async with run_stack(settings, CORES, start_seconds=400) as running:
        yield running


@pytest.fixture(scope="module")
async def smollm2() -> AsyncGenerator[Engine]:
    """Load SmolLM2 in this process, with at most four sequences at a time so that tests can observe queueing."""
    from services.engines.vllm.engine import VllmEngine, VllmOptions  # noqa: PLC0415 - imports vLLM

    options = VllmOptions(str(SMOLLM2), dtype="float32", block_size=32, enforce_eager=True, max_num_seqs=4)
    engine = await VllmEngine.load(options, 134_515_008)
    try:
        yield engine
    finally:
        await engine.close()
