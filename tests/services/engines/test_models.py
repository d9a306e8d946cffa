"""Model files: located by name or path, read without their weights, and refused with a clear error."""

from pathlib import Path

import pytest
from gguf import GGUFWriter
from numpy import zeros

from services.engines.models import SMOLLM2, ModelError, model_path
from services.engines.tokenizers import load_tokenizer, read_gguf


def write_model(path: Path, pre: str, template: str | None = "{{ messages[0]['content'] }}") -> Path:
    """Write a tiny GGUF file with a vocabulary of letters and three special tokens; return its path."""
    writer = GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(["<s>", "a", "b", "ab", "<tool>", "<turn>"])
    writer.add_token_types([3, 1, 1, 1, 4, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("weights", zeros((3, 4), dtype="float32"))
    writer.add_tensor("bias", zeros(5, dtype="float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_bundled_model_is_located_by_name() -> None:
    """The name `smollm2` resolves to a GGUF file with readable metadata."""
    file = read_gguf(model_path(SMOLLM2))
    assert file.parameters == 134_515_008
    assert file.text("tokenizer.ggml.pre") == "smollm"
    assert file.number("llama.context_length") == 8192


def test_a_path_is_used_as_it_is(tmp_path: Path) -> None:
    """Any existing path is accepted. A missing file is an error that lists the known names."""
    path = write_model(tmp_path / "tiny.gguf", "gpt-2")
    assert model_path(str(path)) == path
    with pytest.raises(ModelError, match="smollm2"):
        model_path(str(tmp_path / "other.gguf"))


def test_metadata_written_by_the_gguf_library_is_read(tmp_path: Path) -> None:
    """Metadata of every type and the parameter count are read back. A missing key is empty."""
    file = read_gguf(write_model(tmp_path / "tiny.gguf", "gpt-2"))
    assert file.parameters == 17
    assert file.texts("tokenizer.ggml.tokens") == ["<s>", "a", "b", "ab", "<tool>", "<turn>"]
    assert file.numbers("tokenizer.ggml.token_type") == [3, 1, 1, 1, 4, 3]
    assert file.number("llama.context_length") == 64
    assert (file.text("none"), file.number("none"), file.texts("none"), file.numbers("none")) == (None, None, [], [])


def test_the_tokenizer_of_a_gguf_file_works(tmp_path: Path) -> None:
    """Merges apply, and control and user-defined tokens are matched whole and listed as special tokens."""
    tokenizer = load_tokenizer(write_model(tmp_path / "tiny.gguf", "gpt-2"))
    assert tokenizer.encode("abb<s>a<tool><turn>") == [3, 2, 0, 1, 4, 5]
    assert tokenizer.special_tokens == ("<s>", "<tool>", "<turn>")


@pytest.mark.parametrize(("pre", "template"), [("unheard-of", "x"), ("gpt-2", None)])
def test_an_unknown_tokenizer_is_refused(tmp_path: Path, pre: str, template: str | None) -> None:
    """An unknown pre-tokenizer or a missing chat template is an error."""
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(write_model(tmp_path / "tiny.gguf", pre, template))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all", b"GGUF\x09\x00\x00\x00" + bytes(16)])
def test_an_invalid_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is empty, truncated, of another format or of an unknown version is refused."""
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.gguf"):
        read_gguf(path)
