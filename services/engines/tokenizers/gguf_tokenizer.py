"""The tokenizer inside a GGUF file, for byte-level BPE vocabularies.

The file names its pre-tokenizer (`tokenizer.ggml.pre`) without describing it, so only the names in `PRE_TOKENIZERS` are
supported; other models need their tokenizer directory. The splits are those of the models' published `tokenizer.json`.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from services.engines.models import ModelError
from services.engines.tokenizers.gguf_file import GgufFile

CONTROL, USER_DEFINED = 3, 4
"""GGUF types of the tokens that are never split."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The split of cl100k; DIGITS is a placeholder for the quantifier of digits per token."""


def gguf_tokenizer(file: GgufFile) -> PreTrainedTokenizerFast:
    """Build the tokenizer with its chat template. Raises `ModelError` for an unsupported kind."""
    kind, pre = file.text("tokenizer.ggml.model"), file.text("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ModelError(
            f"the tokenizer {kind!r} with pre-tokenizer {pre!r} cannot be read out of a GGUF file: "
            "give the model's tokenizer directory"
        )
    tokenizer = Tokenizer(_bpe(file, whole_words=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens(_added(file))  # pyright: ignore[reportUnknownMemberType] - the stub says list without its items
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=file.text("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **_named(file),
    )


def _split(digits: str) -> pre_tokenizers.PreTokenizer:
    words = pre_tokenizers.Split(Regex(_WORDS.replace("DIGITS", digits)), behavior="isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
PRE_TOKENIZERS: dict[str, pre_tokenizers.PreTokenizer] = {
    "gpt-2": _GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT2]),
    "qwen2": _split(""),
    "llama-bpe": _split("{1,3}"),
}


def _bpe(file: GgufFile, *, whole_words: bool) -> models.BPE:
    tokens = file.texts("tokenizer.ggml.tokens")
    pairs = [tuple(merge.split(" ", 1)) for merge in file.texts("tokenizer.ggml.merges")]
    merges = [(left, right) for left, right in pairs]
    return models.BPE({token: place for place, token in enumerate(tokens)}, merges, ignore_merges=whole_words)


def _added(file: GgufFile) -> list[AddedToken]:
    tokens, kinds = file.texts("tokenizer.ggml.tokens"), file.numbers("tokenizer.ggml.token_type")
    return [
        AddedToken(token, special=kind == CONTROL, normalized=False)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind in {CONTROL, USER_DEFINED}
    ]


def _named(file: GgufFile) -> dict[str, str]:
    """Return the tokens that a chat template refers to by name."""
    tokens = file.texts("tokenizer.ggml.tokens")
    ids = {name: file.number(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    return {f"{name}_token": tokens[place] for name, place in ids.items() if place is not None}
