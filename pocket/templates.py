"""Wording of the problems: names, items, sentences. The `NEW_` tables are used in the test split only.

`SENTENCES` is the basic set, from which the vocabulary is built. `VARIED` combines its words in more ways, except those that
are reserved for testing. A new sentence has no new word; a new name is encoded as bytes.

Fields: `who` is a name or its pronoun, `name`, `friend`; `items` and `other` are plurals; `box` and `boxes` are a container;
`n` is the operand; `x` and `y` are the operands of a group. A sentence that begins with `{who}` may be joined to its
predecessor.
"""

from collections.abc import Mapping, Sequence
from itertools import product

SHE, HE = "She", "He"

NAMES: Mapping[str, str] = {
    **dict.fromkeys(
        ("Ann", "Mia", "Lena", "Eva", "Rosa", "Ida", "Nora", "Clara", "Emma", "Julia", "Sara", "Vera", "Alice", "Kate"), SHE
    ),
    **dict.fromkeys(
        ("Tom", "Ben", "Max", "Leo", "Paul", "Sam", "Jack", "Noah", "Finn", "Oscar", "Hugo", "Adam", "David", "Peter"), HE
    ),
}
NEW_NAMES: Mapping[str, str] = {"Greta": SHE, "Olivia": SHE, "Priya": SHE, "Ivan": HE, "Kofi": HE, "Walter": HE}

ITEMS: Sequence[str] = (
    "apples", "pencils", "stamps", "marbles", "coins", "books", "shells", "cards", "stickers", "oranges", "eggs", "cookies",
    "beads", "buttons", "nuts", "plums", "pears", "stones", "flowers", "candles", "cups", "balls", "toys", "lemons",
)  # fmt: skip

CONTAINERS: Mapping[str, str] = {"box": "boxes", "bag": "bags", "basket": "baskets", "pack": "packs", "jar": "jars"}

SENTENCES: Mapping[str, Sequence[str]] = {
    "hold": (
        "{name} has {n} {items}.",
        "{name} owns {n} {items}.",
        "{name} starts with {n} {items}.",
        "At first {name} has {n} {items}.",
        "There are {n} {items} on the table of {name}.",
    ),
    "groups": (
        "{name} has {x} {boxes} of {y} {items} each.",
        "{name} has {x} {boxes} with {y} {items} in each.",
        "A {box} holds {y} {items}. {name} has {x} {boxes}.",
        "Each {box} holds {y} {items} and {name} has {x} {boxes}.",
        "There are {y} {items} in each of the {x} {boxes} of {name}.",
    ),
    "add": (
        "{who} buys {n} more {items}.",
        "{who} buys {n} more.",
        "{who} finds {n} {items}.",
        "{who} picks {n} more {items}.",
        "{who} gets {n} {items} from {friend}.",
        "{friend} gives {name} {n} {items}.",
        "Then {n} more {items} arrive.",
        "{who} wins another {n} {items}.",
    ),
    "subtract": (
        "{who} gives {n} {items} to {friend}.",
        "{who} gives away {n} {items}.",
        "{who} loses {n} {items}.",
        "{who} loses {n} of them.",
        "{who} sells {n} of the {items}.",
        "{who} uses {n} {items}.",
        "{friend} takes {n} {items}.",
        "Then {n} {items} are lost.",
    ),
    "times": (
        "{who} makes the number of {items} {n} times as large.",
        "Then the {items} become {n} times as many.",
        "By the next day {name} has {n} times as many {items}.",
        "The number of {items} grows to {n} times what it was.",
    ),
    "double": (
        "{who} doubles the number of {items}.",
        "Then the number of {items} doubles.",
        "By the next day there are twice as many {items}.",
    ),
    "share": (
        "{who} shares the {items} equally among {n} friends and keeps one share.",
        "{who} splits the {items} into {n} equal parts and keeps one part.",
        "The {items} are split into {n} equal piles, and {name} keeps one pile.",
        "{who} keeps one of {n} equal parts of the {items}.",
    ),
    "half": (
        "{who} gives half of the {items} to {friend}.",
        "{who} loses half of the {items}.",
        "Then half of the {items} are sold.",
        "{friend} takes half of the {items}.",
    ),
    "gain": (
        "{who} buys {x} {boxes} of {y} {items} each.",
        "{who} gets {x} more {boxes} with {y} {items} in each.",
        "{friend} brings {x} {boxes} of {y} {items} each.",
        "Each of {x} friends gives {name} {y} {items}.",
    ),
    "lose": (
        "{who} gives away {x} {boxes} of {y} {items} each.",
        "{who} sells {x} {boxes} with {y} {items} in each.",
        "{who} gives {y} {items} to each of {x} friends.",
        "{friend} takes {x} {boxes} of {y} {items} each.",
    ),
    "distractor": (
        "{friend} has {n} {other}.",
        "{friend} is {n} years old.",
        "The walk home takes {n} minutes.",
        "{friend} buys {n} {other}.",
        "There are {n} {other} on the table.",
        "The day begins with {n} minutes of rain.",
    ),
    "question": (
        "How many {items} does {name} have now?",
        "How many {items} does {name} have in the end?",
        "How many {items} are left?",
        "How many {items} are there now?",
    ),
}

NEW_SENTENCES: Mapping[str, Sequence[str]] = {
    "hold": ("At first {name} owns {n} {items}.",),
    "groups": ("{name} owns {x} {boxes} with {y} {items} in each.",),
    "add": ("{who} finds {n} more.", "{who} gets another {n} {items}."),
    "subtract": ("{who} loses {n} of the {items}.",),
    "times": ("By the next day there are {n} times as many {items}.",),
    "double": ("By the next day {name} has twice as many {items}.",),
    "share": ("{who} splits the {items} into {n} equal piles and keeps one pile.",),
    "half": ("{who} sells half of the {items}.",),
    "gain": ("{who} finds {x} {boxes} of {y} {items} each.",),
    "lose": ("{who} loses {x} {boxes} with {y} {items} in each.",),
    "question": ("How many {items} are there in the end?",),
}


def _combined(*parts: Sequence[str]) -> list[str]:
    return [" ".join(words) for words in product(*parts)]


_GROUPS = ("{x} {boxes} of {y} {items} each.", "{x} {boxes} with {y} {items} in each.")
_FAMILIES: Mapping[str, Sequence[str]] = {
    "hold": _combined(("{name} has", "{name} owns", "{name} starts with", "At first {name} owns"), ("{n} {items}.",)),
    "groups": _combined(("{name} has", "{name} owns", "{name} starts with", "At first {name} has"), _GROUPS),
    "add": _combined(
        ("{who} buys", "{who} finds", "{who} picks", "{who} gets", "{who} wins", "{friend} gives {name}", "{friend} brings"),
        ("{n} {items}.", "{n} more {items}.", "{n} more.", "another {n} {items}."),
    ),
    "subtract": [
        *_combined(("{who} sells", "{who} loses"), ("{n} of the {items}.", "{n} of them.")),
        *_combined(
            ("{who} gives away", "{who} uses", "{friend} takes"), ("{n} {items}.", "{n} of the {items}.", "{n} of them.")
        ),
    ],
    "times": _combined(
        ("Then", "Now", "By the next day"),
        (
            "there are {n} times as many {items}.",
            "{name} has {n} times as many {items}.",
            "the {items} become {n} times as many.",
        ),
    ),
    "double": _combined(
        ("Then", "Now", "By the next day"),
        ("there are twice as many {items}.", "{name} has twice as many {items}.", "the number of {items} doubles."),
    ),
    "share": _combined(
        ("{who} splits the {items} into {n} equal", "{who} shares the {items} equally into {n}"),
        ("parts and keeps one part.", "piles and keeps one pile."),
    ),
    "half": _combined(
        ("{who} gives away", "{who} loses", "{who} sells", "{who} uses", "{friend} takes"),
        ("half of the {items}.", "half of them."),
    ),
    "gain": _combined(("{who} buys", "{who} gets", "{who} finds", "{who} wins", "{friend} brings"), _GROUPS),
    "lose": _combined(("{who} gives away", "{who} sells", "{who} loses", "{who} uses", "{friend} takes"), _GROUPS),
    "distractor": _combined(("{friend} has", "{friend} buys", "{friend} sells"), ("{n} {other}.",)),
    "question": _combined(
        ("How many {items} does {name} have", "How many {items} are there", "How many {items} are left"),
        ("now?", "in the end?"),
    ),
}
VARIED: Mapping[str, Sequence[str]] = {
    kind: [sentence for sentence in sentences if sentence not in NEW_SENTENCES.get(kind, ())]
    for kind, sentences in _FAMILIES.items()
}
