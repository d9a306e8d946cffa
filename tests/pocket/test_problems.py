"""The problem domain: seeded, exact, split by operations and not by wording."""

import json
import re
from collections import defaultdict
from itertools import islice

import pytest

from pocket import templates
from pocket.problems import LARGEST, LEVELS, SPLITS, Problem, Split, Step, main, problems, split_of


def drawn(count: int, seed: int = 7, split: Split | None = None, level: int | None = None) -> list[Problem]:
    """Return the first problems of a seed."""
    return list(islice(problems(seed, split=split, level=level), count))


def test_the_same_seed_gives_the_same_problems() -> None:
    """Another seed gives other problems."""
    assert drawn(50) == drawn(50)
    assert drawn(50) != drawn(50, seed=8)


def test_splits_never_overlap() -> None:
    """Among 100,000 problems no operations occur in two splits, and each split has its share."""
    by_split: dict[str, set[tuple[Step, ...]]] = defaultdict(set)
    for problem in islice(problems(3), 100_000):
        by_split[problem.split].add(problem.steps)
    sizes = {split: len(by_split[split]) for split in SPLITS}
    everything = {steps for members in by_split.values() for steps in members}
    assert sum(sizes.values()) == len(everything)
    shares = {split: size / len(everything) for split, size in sizes.items()}
    assert shares == pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1}, abs=0.01)


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_holds_its_own_problems_only(split: Split) -> None:
    """Every problem of a requested split has a hash of that split."""
    assert {split_of(problem.steps) for problem in drawn(300, split=split)} == {split}


def pattern(sentence: str) -> str:
    """Return a regular expression for a sentence with its fields filled in, joined to another or not."""
    numbers = re.sub(r"\{[nxy]\}", r"\\d+", sentence.rstrip(".?"))
    return rf"\b{re.sub(r'{[a-z]+}', r'[A-Za-z]+', numbers)}(?:[.?]| and )"


def test_new_names_and_sentences_are_for_testing_only() -> None:
    """New names and sentences occur in the test split only."""
    new = [*templates.NEW_NAMES, *(pattern(sentence) for table in templates.NEW_SENTENCES.values() for sentence in table)]
    for split in SPLITS:
        texts = "\n".join(problem.text for problem in drawn(4000, split=split))
        occurs = [re.search(expression, texts) is not None for expression in new]
        assert all(occurs) if split == "test" else not any(occurs)


def test_new_sentences_have_known_words_only() -> None:
    """Only the sentences are new, not their words."""
    known = set(" ".join(sentence for table in templates.SENTENCES.values() for sentence in table).split())
    new = " ".join(sentence for table in templates.NEW_SENTENCES.values() for sentence in table).split()
    assert {word.strip(".,?") for word in new} <= {word.strip(".,?") for word in known}


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_the_number_of_operations(level: int) -> None:
    """Every level can be requested."""
    assert {problem.level for problem in drawn(100, level=level)} == {level}


def test_every_step_is_exact_and_follows_from_those_before() -> None:
    """Independently of the generator: Python computes the same, and each operand is in the story or an earlier step."""
    for problem in drawn(3000):
        known = {int(word) for word in problem.text.replace(".", " ").replace(",", " ").split() if word.isdigit()} | {2}
        for step in problem.steps:
            assert {step.left, step.right} <= known
            exact = eval(step.expression)  # noqa: S307 - digits and an operator
            assert exact == step.value
            assert 1 <= step.value <= LARGEST
            known.add(step.value)
        assert problem.answer == problem.steps[-1].value


def test_a_distractor_is_in_the_text() -> None:
    """About a third of the problems contain an irrelevant number."""
    with_distractor = [problem for problem in drawn(500) if problem.distractor is not None]
    assert with_distractor
    assert all(f" {problem.distractor} " in problem.text for problem in with_distractor)


def test_the_command_prints_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is an object with the keys `problem`, `answer` and `level`."""
    main(["--seed", "4", "--count", "3", "--level", "5", "--split", "test"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["level"] for line in lines] == [5, 5, 5]
    assert all(set(line) == {"problem", "answer", "level"} and line["answer"].isdigit() for line in lines)
