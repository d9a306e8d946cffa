"""The GGUF file: llama.cpp computes the same as a numpy implementation on the original weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pocket import wording
from pocket.convert import convert, read_safetensors
from pocket.problems import problems
from services.contracts.messages import Message
from services.contracts.sampling import Sampling
from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.protocol import Generation, Prompt
from services.engines.tokenizers import load_tokenizer, read_gguf

WEIGHTS = Path(__file__).parents[2] / "pocket" / "weights"
HEAD = 64

Array = NDArray[np.float32]


def normalise(x: Array, weight: Array) -> Array:
    """Apply root-mean-square normalisation."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def rotate(x: Array) -> Array:
    """Apply rotary positions to (heads, length, head)."""
    rates = 10_000.0 ** (-np.arange(0, HEAD, 2, dtype=np.float32) / HEAD)
    angles: Array = np.outer(np.arange(x.shape[1], dtype=np.float32), np.tile(rates, 2)).astype(np.float32)
    first, second = np.split(x, 2, axis=-1)
    return x * np.cos(angles) + np.concatenate((-second, first), axis=-1) * np.sin(angles)


def log_probabilities(directory: Path, ids: list[int]) -> Array:
    """Return the log-probabilities of every next token, (length, vocabulary)."""
    w = {name.removeprefix("model.").removesuffix(".weight"): tensor for name, tensor in read_safetensors(directory)}
    x = w["embed_tokens"][ids]
    mask = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    for layer in range(sum(name.endswith("q_proj") for name in w)):
        at = f"layers.{layer}"
        y = normalise(x, w[f"{at}.input_layernorm"])
        q, k, v = ((y @ w[f"{at}.self_attn.{n}_proj"].T).reshape(len(ids), -1, HEAD).swapaxes(0, 1) for n in "qkv")
        scores = rotate(q) @ rotate(k).swapaxes(1, 2) / np.sqrt(HEAD) + mask
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        x = x + mixed.swapaxes(0, 1).reshape(len(ids), -1) @ w[f"{at}.self_attn.o_proj"].T
        y = normalise(x, w[f"{at}.post_attention_layernorm"])
        gate, up = y @ w[f"{at}.mlp.gate_proj"].T, y @ w[f"{at}.mlp.up_proj"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{at}.mlp.down_proj"].T
    logits = normalise(x, w["norm"]) @ w["embed_tokens"].T
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


def test_converting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """A converted file can be checked by its hash."""
    files = [convert(WEIGHTS / "actor", tmp_path / f"{place}.gguf").read_bytes() for place in "ab"]
    assert files[0] == files[1]


def test_both_models_are_small() -> None:
    """Together they take less than 10 MB in the repository."""
    sizes = [file.stat().st_size for file in WEIGHTS.rglob("*") if file.suffix != ".gguf" and file.is_file()]
    assert sum(sizes) < 10_000_000


@pytest.mark.anyio
@pytest.mark.embedded
@pytest.mark.parametrize("role", ["actor", "critic"])
async def test_llama_cpp_agrees_with_the_reference(role: str, tmp_path: Path) -> None:
    """Greedy tokens and their log-probabilities agree with the numpy reference."""
    directory = WEIGHTS / role
    path = convert(directory, tmp_path / "model.gguf")
    problem = next(problems(1, split="test"))
    turns = (problem.text,) if role == "actor" else (problem.text, wording.solution(problem.steps))
    prompt = Prompt(tuple(Message(role="user", content=turn) for turn in turns))
    sampling = Sampling(temperature=0.0, max_tokens=200)
    engine = await EmbeddedEngine.load(EmbeddedOptions(path, tokenizer_path=directory, batch=64))
    async with engine.generate(Generation(prompt, sampling, top_logprobs=1)) as running:
        deltas = [delta async for delta in running]
    await engine.close()
    text = "".join(delta.text for delta in deltas)
    tokenizer = load_tokenizer(directory)
    before = tokenizer.encode(wording.prompt(*turns))
    after = tokenizer.encode(text + wording.END)
    scores = log_probabilities(directory / "model.safetensors", before + after)[len(before) - 1 : -1]
    assert text.startswith("Step 1: ")
    assert scores.argmax(-1).tolist() == after
    logprobs: list[Any] = [token.logprob for delta in deltas for token in delta.logprobs]
    expected = scores.max(-1)[: len(logprobs)]
    assert logprobs == pytest.approx(expected.tolist(), abs=0.02)
    assert read_gguf(path).parameters == engine.parameters
