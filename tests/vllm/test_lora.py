"""A LoRA adapter on the real vLLM."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from pocket.problems import problems
from services.contracts.sampling import Sampling
from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.models import model_name, model_path, tokenizer_path
from services.engines.protocol import Generation
from services.engines.testing import complete, user_prompt

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]

HIDDEN, LAYERS, RANK = 128, 4, 8


def write_adapter(directory: Path, strength: float) -> Path:
    """Write an adapter with random weights for the pocket actor's queries and values; return its directory."""
    random = np.random.default_rng(1)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(LAYERS):
        for part in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            tensors[f"{name}.lora_A.weight"] = random.normal(size=(RANK, HIDDEN)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = (strength * random.normal(size=(HIDDEN, RANK))).astype(np.float32)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "pocket"}))
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory


@pytest.mark.parametrize(("strength", "same"), [(0.0, True), (1.0, False)])
async def test_an_adapter_changes_the_text(tmp_path: Path, strength: float, *, same: bool):
    """An adapter of strength zero leaves the text unchanged. Another adapter changes it."""
    from services.engines.vllm.engine import VllmEngine, VllmOptions  # noqa: PLC0415 - imports vLLM

    lora = str(write_adapter(tmp_path / "adapter", strength))
    options = VllmOptions(
        model_name("pocket-actor"), context_length=512, dtype="float32", block_size=32, enforce_eager=True, lora=lora
    )
    engine = await VllmEngine.load(options)
    try:
        generation = Generation(user_prompt(next(problems(3, split="dev")).text), Sampling(temperature=0.0, max_tokens=80))
        texts, _, _ = await complete(engine, generation)
    finally:
        await engine.close()
    assert (texts == await _texts_without_adapter(generation)) == same


async def _texts_without_adapter(generation: Generation) -> list[str]:
    """Return the texts of the actor without an adapter, on llama.cpp."""
    engine = await EmbeddedEngine.load(EmbeddedOptions(model_path("pocket-actor"), tokenizer_path("pocket-actor"), 512))
    try:
        return (await complete(engine, generation)).texts
    finally:
        await engine.close()
