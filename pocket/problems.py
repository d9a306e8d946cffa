"""The problem domain: seeded word problems that follow one quantity through 2 to 8 operations, and their exact solutions.

A story is a sequence of events. Its steps are the required arithmetic, its level is their number. The split is a hash of the
steps alone, so that no two splits share a problem, however it is worded.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, pairwise
from random import Random
from typing import Literal

from pocket import templates

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
LEVELS = range(2, 9)
BANDS = {"easy": range(2, 4), "middle": range(4, 6), "hard": range(6, 9)}
LARGEST = 999
"""Largest quantity in a right solution; the smallest is 1."""

_WEIGHTS = {"add": 6, "subtract": 6, "times": 3, "double": 2, "share": 3, "half": 2, "gain": 2, "lose": 2}
_DISTRACTED = 0.35
_JOINED = 0.3
_GROUPED = 0.35
_NEW = 0.1
"""Shares of problems with a distractor, of sentences joined to the previous one, of stories that begin with groups, and of
new names and sentences in the test split."""
_SYLLABLES = ("ba", "do", "fi", "ka", "lu", "mo", "na", "ri", "su", "te", "vi", "zo", "len", "mar", "tis", "gor")


Symbol = Literal["+", "-", "*", "/"]
SYMBOLS: tuple[Symbol, ...] = ("+", "-", "*", "/")
_SYMBOLS: dict[str, Symbol] = {
    "add": "+",
    "gain": "+",
    "subtract": "-",
    "lose": "-",
    "times": "*",
    "double": "*",
    "share": "/",
    "half": "/",
}
"""The operation of each event on the current quantity; `hold` and `groups` begin a story."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: `left symbol right`."""

    left: int
    symbol: Symbol
    right: int

    @property
    def value(self) -> int:
        """The result; a division is exact in a right solution and rounds down in a wrong one."""
        match self.symbol:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right
            case "/":
                return self.left // self.right

    @property
    def expression(self) -> str:
        """The operation as text, such as `19 - 5`."""
        return f"{self.left} {self.symbol} {self.right}"


@dataclass(frozen=True, slots=True)
class Event:
    """A change of the quantity; `each` is 0 unless `amount` groups of `each` are added or removed."""

    kind: str
    amount: int
    each: int = 0

    def steps(self, held: int) -> tuple[Step, ...]:
        """Return the required arithmetic, given the quantity before the event."""
        groups = (Step(self.amount, "*", self.each),) if self.each else ()
        symbol = _SYMBOLS.get(self.kind)
        return (*groups, Step(held, symbol, self.amount * (self.each or 1))) if symbol else groups


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem, its right steps, and the irrelevant number in its text (None without a distractor)."""

    text: str
    steps: tuple[Step, ...]
    distractor: int | None = None

    @property
    def answer(self) -> int:
        """The answer."""
        return self.steps[-1].value

    @property
    def level(self) -> int:
        """The number of operations."""
        return len(self.steps)

    @property
    def split(self) -> Split:
        """The split of the problem."""
        return split_of(self.steps)


def split_of(steps: Sequence[Step]) -> Split:
    """Return the split by a hash of operations and operands: a tenth for testing, a tenth for development."""
    canonical = "; ".join(step.expression for step in steps)
    bucket = int.from_bytes(sha256(canonical.encode()).digest()[:4]) % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def problems(
    seed: int, *, split: Split | None = None, level: int | None = None, invented: float = 0.15, varied: float = 0.5
) -> Iterator[Problem]:
    """Yield problems without end, the same for the same arguments.

    `invented` is the share of made-up names, `varied` the share of sentences from outside the basic set.
    """
    random = Random(f"{seed}/{split}/{level}")
    while True:
        events, steps = _story(random, level or random.choice(LEVELS))
        belongs = split_of(steps)
        if split in {None, belongs}:
            yield _render(random, events, steps, new=belongs == "test", invented=invented, varied=varied)


def distinct(seed: int, split: Split, count: int) -> list[Problem]:
    """Return the first `count` problems of a split that differ in text."""
    by_text: dict[str, Problem] = {}
    for problem in problems(seed, split=split):
        by_text[problem.text] = problem
        if len(by_text) == count:
            break
    return list(by_text.values())


def _story(random: Random, level: int) -> tuple[list[Event], tuple[Step, ...]]:
    cap = 20 + 22 * level
    first = _groups(random, "groups", cap) if random.random() < _GROUPED else Event("hold", random.randint(5, cap))
    events, steps = [first], list(first.steps(0))
    held = steps[-1].value if steps else first.amount
    while len(steps) < level:
        (kind,) = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        event = _event(random, kind, held, cap)
        if event is None:
            continue
        new_steps = event.steps(held)
        if len(steps) + len(new_steps) <= level and 1 <= new_steps[-1].value <= LARGEST:
            events.append(event)
            steps.extend(new_steps)
            held = new_steps[-1].value
    return events, tuple(steps)


def _groups(random: Random, kind: str, cap: int) -> Event:
    return Event(kind, random.randint(2, 9), random.randint(3, 4 + cap // 3))


def _event(random: Random, kind: str, held: int, cap: int) -> Event | None:
    """Return an event of this kind, or None if it does not fit the quantity."""
    match kind:
        case "add" | "subtract":
            return Event(kind, random.randint(2, cap))
        case "times":
            return Event(kind, random.randint(3, 9))
        case "double":
            return Event(kind, 2)
        case "gain" | "lose":
            return _groups(random, kind, cap)
        case _:
            divisors = [n for n in ((2,) if kind == "half" else range(3, 10)) if held % n == 0 and held > n]
            return Event(kind, random.choice(divisors)) if divisors else None


def _render(
    random: Random, events: Sequence[Event], steps: tuple[Step, ...], *, new: bool, invented: float, varied: float
) -> Problem:
    name, pronoun = _name(random, new=new, invented=invented)
    friend = next(another for another, _ in iter(lambda: _name(random, new=new, invented=invented), None) if another != name)
    items, other = random.sample(templates.ITEMS, 2)
    if random.random() < invented / 3:
        items = f"{_invent(random)}s"
    box, boxes = random.choice(list(templates.CONTAINERS.items()))
    words = {"name": name, "friend": friend, "items": items, "other": other, "box": box, "boxes": boxes}

    def sentence(kind: str, event: Event) -> str:
        choices = templates.VARIED[kind] if varied and random.random() < varied else templates.SENTENCES[kind]
        if new and random.random() < _NEW:
            choices = templates.NEW_SENTENCES.get(kind, choices)
        template = random.choice(choices).replace("{who}", random.choice((name, pronoun, pronoun)))
        return template.format(**words, n=event.amount, x=event.amount, y=event.each)

    sentences = [sentence(event.kind, event) for event in events]
    sentences = _joined(random, sentences, (f"{name} ", f"{pronoun} "))
    distractor = random.randint(3, 60) if random.random() < _DISTRACTED else None
    if distractor is not None:
        sentences.insert(random.randint(1, len(sentences)), sentence("distractor", Event("distractor", distractor)))
    sentences.append(sentence("question", Event("question", 0)))
    return Problem(" ".join(sentences), steps, distractor)


def _joined(random: Random, sentences: Sequence[str], subjects: tuple[str, ...]) -> list[str]:
    """Join some neighbours that have the same subject, as in `Ann has 3 boxes and gives away 7 pencils.`."""
    joined = [sentences[0]]
    for before, sentence in pairwise(sentences):
        subject = next((subject for subject in subjects if sentence.startswith(subject)), None)
        joinable = (
            subject and before.rpartition(". ")[2].startswith(subjects) and " and " not in joined[-1].rpartition(". ")[2]
        )
        if subject and joinable and random.random() < _JOINED:
            joined[-1] = f"{joined[-1][:-1]} and {sentence.removeprefix(subject)}"
        else:
            joined.append(sentence)
    return joined


def _name(random: Random, *, new: bool, invented: float) -> tuple[str, str]:
    if new and random.random() < _NEW:
        return random.choice(list(templates.NEW_NAMES.items()))
    if random.random() < invented:
        name = _invent(random).capitalize()
        return name, random.choice((templates.SHE, templates.HE))
    return random.choice(list(templates.NAMES.items()))


def _invent(random: Random) -> str:
    """Return a made-up word, so that words outside the vocabulary, encoded as bytes, occur in training."""
    return "".join(random.choices(_SYLLABLES, k=random.randint(2, 3)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print problems as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m pocket.problems", description=main.__doc__)
    parser.add_argument("--seed", type=int, required=True, help="seed of the sequence")
    parser.add_argument("--count", type=int, required=True, help="number of problems")
    parser.add_argument("--level", type=int, choices=LEVELS, help="number of operations; any if missing")
    parser.add_argument("--split", choices=SPLITS, help="split of the problems; any if missing")
    options = parser.parse_args(arguments)
    for problem in islice(problems(options.seed, split=options.split, level=options.level), options.count):
        line = {"problem": problem.text, "answer": str(problem.answer), "level": problem.level}
        sys.stdout.write(f"{json.dumps(line)}\n")


if __name__ == "__main__":
    main()
