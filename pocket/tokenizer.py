"""The tokenizer of the pocket pair: a token per word, fixed phrase or digit, and bytes for everything else.

The vocabulary is byte-level without merges: a piece of text is one token if it is in the vocabulary, else its bytes.
Any text can be encoded and decodes to itself. Pieces end at line breaks, so a solution may be cut after any line.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from pocket import mistakes, oracle, wording
from pocket.problems import problems

PIECES = (
    r"Step \d{1,2}: |, has (?:answer )?|: (?:correct\.|incorrect: )"
    r"|Verdict: correct\.|Verdict: incorrect\. First error: step |The answer is \\boxed\{|\}\."
    r"| [-+*/=] | ?\p{L}+(?: (?=\d))?|\d| ?[^\s\p{L}\d]|\s"
)
"""Pattern that splits text: phrases of `wording`, operators, words with a leading space and before a digit, digits."""

_SAMPLE, _FREQUENT = 6_000, 5
"""Number of problems that words are collected from, and the least count of a word."""


def build() -> Tokenizer:
    """Build the tokenizer; the result is always the same."""
    cut = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    encode = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pre_tokenizer = pre_tokenizers.Sequence([cut, encode])
    counts = Counter(piece for text in _texts() for piece, _ in pre_tokenizer.pre_tokenize_str(text))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    steps = {f"StepĠ{index}:Ġ" for index in range(1, 13)}
    words = sorted(({piece for piece, count in counts.items() if count >= _FREQUENT} | steps) - set(letters))
    ids = {piece: place for place, piece in enumerate([*wording.SPECIALS, *letters, *words])}
    tokenizer = Tokenizer(models.BPE(ids, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(token, special=True, normalized=False) for token in wording.SPECIALS]
    tokenizer.add_special_tokens(specials)  # pyright: ignore[reportUnknownMemberType] - the stub says list without its items
    return tokenizer


def save(directory: Path) -> None:
    """Write the tokenizer files for Hugging Face, vLLM and the embedded engine."""
    build().save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": wording.END,
        "pad_token": wording.END,
        "additional_special_tokens": list(wording.SPECIALS[1:]),
        "chat_template": wording.CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (directory / "tokenizer_config.json").write_text(f"{json.dumps(settings, indent=2)}\n")


def _texts() -> Iterator[str]:
    """Yield training problems in basic sentences, with their solutions and critiques."""
    random = Random(0)
    for problem in islice(problems(0, split="train", invented=0.0, varied=0.0), _SAMPLE):
        wrong = mistakes.mistaken(random, problem)
        yield from (problem.text, wrong, oracle.judge(problem.steps, wrong).critique)
        yield from (wording.solution(problem.steps), oracle.review(problem.steps, wrong))
        yield wording.all_correct(wrong.splitlines())
