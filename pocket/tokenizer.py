"""The pair's tokenizer: words and fixed phrases whole, digits and everything else by the byte.

A byte-level vocabulary without merges: a piece of text is one token if the vocabulary holds it, and its bytes otherwise. So
any text encodes, and decodes to itself. Pieces end at line breaks, so a solution may be cut after any line.
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
"""How text is cut: the phrases of `wording`, operators, words with the space before them and before a digit, digits."""

_SAMPLE, _FREQUENT = 6_000, 5
"""Problems that are read for words, and how often a word must occur."""


def build() -> Tokenizer:
    """The tokenizer, the same every time."""
    cut = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    encode = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pre_tokenizer = pre_tokenizers.Sequence([cut, encode])
    found = Counter(piece for text in _texts() for piece, _ in pre_tokenizer.pre_tokenize_str(text))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    steps = {f"StepĠ{index}:Ġ" for index in range(1, 13)}
    words = sorted(({piece for piece, count in found.items() if count >= _FREQUENT} | steps) - set(letters))
    ids = {piece: place for place, piece in enumerate([*wording.SPECIALS, *letters, *words])}
    tokenizer = Tokenizer(models.BPE(ids, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(token, special=True, normalized=False) for token in wording.SPECIALS]
    tokenizer.add_special_tokens(specials)  # pyright: ignore[reportUnknownMemberType] - the stub says list without its items
    return tokenizer


def save(directory: Path) -> None:
    """Write the files that Hugging Face, vLLM and the embedded engine read."""
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
    """Training problems in stock sentences, with everything that is written about them."""
    random = Random(0)
    for problem in islice(problems(0, split="train", invented=0.0, varied=0.0), _SAMPLE):
        wrong = mistakes.mistaken(random, problem)
        yield from (problem.text, wrong, oracle.judge(problem.steps, wrong).critique)
        yield from (wording.solution(problem.steps), oracle.review(problem.steps, wrong))
        yield wording.all_correct(wrong.splitlines())
