"""Conversion of a pocket model directory to the GGUF file that llama.cpp loads, without torch or transformers.

Prompts are passed to llama.cpp as token ids from the directory's own `tokenizer.json`; the vocabulary in the GGUF file is
only used to turn tokens into text. Weights become float32, with which llama.cpp is fastest on these tiny models, and exact.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, TokenType
from numpy.typing import NDArray

from pocket.wording import SPECIALS

WEIGHTS = Path(__file__).parent / "weights"
FILE = "model.gguf"

Tensor = NDArray[np.float32]

_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main() -> None:
    """Convert both models, each within its directory."""
    for role in ("actor", "critic"):
        convert(WEIGHTS / role, WEIGHTS / role / FILE)


def convert(directory: Path, target: Path) -> Path:
    """Write the model in `directory` to the GGUF file `target` and return its path. The same input gives the same bytes."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    partial = target.with_suffix(".partial")
    writer = GGUFWriter(partial, "llama")
    writer.add_name(f"pocket-{directory.name}")
    writer.add_file_type(0)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    _add_vocabulary(writer, directory, config["eos_token_id"])
    for name, tensor in read_safetensors(directory / "model.safetensors"):
        head = config["head_dim"]
        paired = _paired(tensor, head) if name.endswith(("q_proj.weight", "k_proj.weight")) else tensor
        writer.add_tensor(_renamed(name), paired)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(target)
    return target


def read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the bfloat16 tensors of a file with their names, as float32. Raises `ValueError` for another type."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    for name, entry in sorted(header.items()):
        if name == "__metadata__":
            continue
        if entry["dtype"] != "BF16":
            raise ValueError(f"{path}: {name} is stored as {entry['dtype']}, not as BF16")
        start, end = entry["data_offsets"]
        halves = np.frombuffer(data[8 + length + start : 8 + length + end], dtype="<u2")
        yield name, (halves.astype("<u4") << 16).view("<f4").reshape(entry["shape"])


def _add_vocabulary(writer: GGUFWriter, directory: Path, end: int) -> None:
    vocabulary: dict[str, int] = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIALS else TokenType.NORMAL for token in tokens])
    writer.add_token_merges(["0 0"])  # llama.cpp requires the key; it tokenises no text here
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(value=False)
    writer.add_add_eos_token(value=False)


def _renamed(name: str) -> str:
    match name.removeprefix("model.").removesuffix(".weight").split(".", 2):
        case ["embed_tokens"]:
            return "token_embd.weight"
        case ["norm"]:
            return "output_norm.weight"
        case ["layers", place, part]:
            return f"blk.{place}.{_NAMES[part]}.weight"
        case _:
            raise ValueError(f"there is no tensor {name!r} in a Llama model")


def _paired(tensor: Tensor, head: int) -> Tensor:
    """Reorder the rows of queries and keys for llama.cpp, which rotates neighbours; Hugging Face rotates halves."""
    rows, columns = tensor.shape
    halves = tensor.reshape(rows // head, 2, head // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


if __name__ == "__main__":
    main()
