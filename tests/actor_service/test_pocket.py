"""The pocket actor's turns are those it was trained on."""

from itertools import islice
from random import Random

import pytest

from actor_service.pocket import PocketActor, words_of
from pocket import mistakes, oracle, wording
from pocket.problems import Problem, problems
from services.contracts.critique import Critique, StepExplanation, StepLabel
from services.contracts.problem import Message

CASES = [(problem, mistakes.mistaken(Random(7), problem)) for problem in islice(problems(3, split="dev"), 60)]


def told(problem: Problem, wrong: str) -> tuple[Critique, str]:
    """The oracle's critique as the critic service tells it, and in the critic's own words."""
    judged = oracle.judge(problem.steps, wrong)
    at = judged.first_error
    assert at is not None
    words = judged.critique.split("\n")[at - 1].partition(": ")[2]
    labels = tuple(StepLabel(index=k, label="incorrect" if k == at else "correct") for k in range(1, at + 1))
    said = (StepExplanation(index=at, text=words),)
    return Critique(depth="explain", labels=labels, explanations=said, first_error=at, verdict="incorrect"), judged.critique


@pytest.mark.parametrize(("problem", "wrong"), CASES[:20], ids=lambda _: "")
def test_a_critique_comes_back_in_the_critics_own_words(problem: Problem, wrong: str):
    """What the critic said of the error is enough to say all of it again."""
    critique, words = told(problem, wrong)
    assert words_of(wrong.split("\n"), critique) == words


def test_what_finds_nothing_is_told_as_all_correct_and_what_is_unsure_is_silent():
    """An unreadable critique tells the actor nothing; neither does one without an explanation."""
    lines = ["Step 1: 2 + 3 = 5", "The answer is \\boxed{5}."]
    assert words_of(lines, Critique(depth="verdict", verdict="correct")) == wording.all_correct(lines)
    assert words_of(lines, Critique(depth="labels", verdict="unsure", unparsable=True)) == ""
    assert words_of(lines, Critique(depth="verdict", verdict="incorrect", first_error=1)) == ""
    assert words_of(lines, None) == ""


def test_every_prompt_begins_with_the_one_before_it():
    """So that prefix caches hit, and rewinding continues the refine prompt."""
    problem, wrong = CASES[0]
    critique, words = told(problem, wrong)
    turns = (Message(role="user", content=problem.text),)
    actor = PocketActor()
    again, rewound = actor.rewrite(turns, wrong, critique), actor.rewind(turns, wrong, "Step 1: kept\n", critique)
    assert [message.content for message in again.messages] == [problem.text, wrong, words]
    assert actor.draft(turns).messages == again.messages[:1]
    assert (rewound.messages, rewound.prefix) == (again.messages, "Step 1: kept\n")
