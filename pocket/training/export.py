"""Export of a model for Hugging Face and vLLM: a directory with safetensors, configuration and tokenizer."""

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from pocket import tokenizer, wording
from pocket.training.data import tokenizer as pair_tokenizer
from pocket.training.model import EPSILON, THETA, Layer, Model

CONTEXT = 1024


def export(model: Model, directory: Path) -> None:
    """Write all files except the model card; weights are bfloat16."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm.weight}
    for place, layer in enumerate(model.layers):
        tensors |= {f"model.layers.{place}.{name}.weight": tensor for name, tensor in _layer(layer).items()}
    stored = {name: tensor.detach().bfloat16().contiguous() for name, tensor in tensors.items()}
    (directory / "model.safetensors").write_bytes(save(stored, {"format": "pt"}))
    end = pair_tokenizer().token_to_id(wording.END)
    _write(directory / "config.json", _config(model, end))
    _write(directory / "generation_config.json", {"eos_token_id": end, "pad_token_id": end, "do_sample": False})
    tokenizer.save(directory)


def rounded(model: Model) -> Model:
    """Round the weights in place as `export` stores them, and return the model, to measure what is shipped."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    return model


def _layer(layer: Layer) -> dict[str, Tensor]:
    q, k, v = layer.qkv.unbind(0)
    gate, up = layer.up.unbind(0)
    return {
        "input_layernorm": layer.attention_norm.weight,
        "post_attention_layernorm": layer.feed_norm.weight,
        "self_attn.q_proj": q,
        "self_attn.k_proj": k,
        "self_attn.v_proj": v,
        "self_attn.o_proj": layer.out[0],
        "mlp.gate_proj": gate,
        "mlp.up_proj": up,
        "mlp.down_proj": layer.down[0],
    }


def _config(model: Model, end: int) -> dict[str, object]:
    shape = model.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPSILON,
        "rope_theta": THETA,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": end,
        "torch_dtype": "bfloat16",
    }


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(f"{json.dumps(content, indent=2)}\n")
