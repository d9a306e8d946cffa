"""The domain: seeded, exact, split by what is asked and not by how it is told."""

import json
import re
from collections import defaultdict
from itertools import islice

import pytest

from pocket import templates
from pocket.problems import LARGEST, LEVELS, SPLITS, Problem, Split, Step, main, problems, split_of


def drawn(count: int, seed: int = 7, split: Split | None = None, level: int | None = None) -> list[Problem]:
    """The first problems of a seed."""
    return list(islice(problems(seed, split=split, level=level), count))


def test_the_same_seed_gives_the_same_problems() -> None:
    """A seed is a sequence; another seed is another one."""
    assert drawn(50) == drawn(50)
    assert drawn(50) != drawn(50, seed=8)


def test_splits_never_overlap() -> None:
    """Among 100,000 problems nothing that is asked occurs in two splits, and each split has its share."""
    found: dict[str, set[tuple[Step, ...]]] = defaultdict(set)
    for problem in islice(problems(3), 100_000):
        found[problem.split].add(problem.steps)
    sizes = {split: len(found[split]) for split in SPLITS}
    everything = {steps for members in found.values() for steps in members}
    assert sum(sizes.values()) == len(everything)
    shares = {split: size / len(everything) for split, size in sizes.items()}
    assert shares == pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1}, abs=0.01)


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_holds_its_own_problems_only(split: Split) -> None:
    """Asking for a split gives problems whose hash belongs to it."""
    assert {split_of(problem.steps) for problem in drawn(300, split=split)} == {split}


def pattern(sentence: str) -> str:
    """A regular expression for a sentence with its fields filled in, whether another is joined to it or not."""
    numbers = re.sub(r"\{[nxy]\}", r"\\d+", sentence.rstrip(".?"))
    return rf"\b{re.sub(r'{[a-z]+}', r'[A-Za-z]+', numbers)}(?:[.?]| and )"


def test_new_names_and_sentences_are_for_testing_only() -> None:
    """What the card calls new occurs in the test split and nowhere else."""
    new = [*templates.NEW_NAMES, *(pattern(sentence) for table in templates.NEW_SENTENCES.values() for sentence in table)]
    for split in SPLITS:
        texts = "\n".join(problem.text for problem in drawn(4000, split=split))
        told = [re.search(expression, texts) is not None for expression in new]
        assert all(told) if split == "test" else not any(told)


def test_new_sentences_have_known_words_only() -> None:
    """So it is the sentence that is new."""
    known = set(" ".join(sentence for table in templates.SENTENCES.values() for sentence in table).split())
    new = " ".join(sentence for table in templates.NEW_SENTENCES.values() for sentence in table).split()
    assert {word.strip(".,?") for word in new} <= {word.strip(".,?") for word in known}


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_the_number_of_operations(level: int) -> None:
    """Every level can be asked for."""
    assert {problem.level for problem in drawn(100, level=level)} == {level}


def test_every_step_is_exact_and_follows_from_those_before() -> None:
    """Checked apart from the generator: Python's own arithmetic, and operands that the story or an earlier step gives."""
    for problem in drawn(3000):
        known = {int(word) for word in problem.text.replace(".", " ").replace(",", " ").split() if word.isdigit()} | {2}
        for step in problem.steps:
            assert {step.left, step.right} <= known
            exact = eval(step.expression)  # noqa: S307 - digits and an operator
            assert exact == step.value
            assert 1 <= step.value <= LARGEST
            known.add(step.value)
        assert problem.answer == problem.steps[-1].value


def test_a_distractor_is_told_and_not_used() -> None:
    """It stands in the text."""
    found = [problem for problem in drawn(500) if problem.distractor is not None]
    assert found
    assert all(f" {problem.distractor} " in problem.text for problem in found)


def test_the_command_prints_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, with the keys that evaluation reads."""
    main(["--seed", "4", "--count", "3", "--level", "5", "--split", "test"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["level"] for line in lines] == [5, 5, 5]
    assert all(set(line) == {"problem", "answer", "level"} and line["answer"].isdigit() for line in lines)
