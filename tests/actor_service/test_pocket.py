"""The pocket actor's messages are those that it was trained on."""

from itertools import islice
from random import Random

import pytest

from actor_service.dialects.pocket import PocketActorDialect, critic_lines
from pocket import mistakes, oracle, wording
from pocket.problems import Problem, problems
from services.contracts.critique import Critique, StepExplanation, StepLabel
from services.contracts.messages import Message

CASES = [(problem, mistakes.mistaken(Random(7), problem)) for problem in islice(problems(3, split="dev"), 60)]


def judged(problem: Problem, wrong: str) -> tuple[Critique, str]:
    """Return the oracle's critique as the critic service gives it, and in the critic's own words."""
    judgement = oracle.judge(problem.steps, wrong)
    at = judgement.first_error
    assert at is not None
    words = judgement.critique.split("\n")[at - 1].partition(": ")[2]
    labels = tuple(StepLabel(index=k, label="incorrect" if k == at else "correct") for k in range(1, at + 1))
    explanations = (StepExplanation(index=at, text=words),)
    critique = Critique(depth="explain", labels=labels, explanations=explanations, first_error=at, verdict="incorrect")
    return critique, judgement.critique


@pytest.mark.parametrize(("problem", "wrong"), CASES[:20], ids=lambda _: "")
def test_a_critique_is_phrased_in_the_critics_own_words(problem: Problem, wrong: str):
    """The explanation of the error is enough to write all of the critique again."""
    critique, words = judged(problem, wrong)
    assert critic_lines(wrong.split("\n"), critique) == words


def test_a_critique_without_errors_is_all_correct_and_an_unsure_one_is_empty():
    """An unreadable critique gives the actor no words; neither does one without an explanation."""
    lines = ["Step 1: 2 + 3 = 5", "The answer is \\boxed{5}."]
    assert critic_lines(lines, Critique(depth="verdict", verdict="correct")) == wording.all_correct(lines)
    assert critic_lines(lines, Critique(depth="labels", verdict="unsure", unparsable=True)) == ""
    assert critic_lines(lines, Critique(depth="verdict", verdict="incorrect", first_error=1)) == ""
    assert critic_lines(lines, None) == ""


def test_every_prompt_begins_with_the_one_before_it():
    """Prefix caches hit, and rewinding continues the refine prompt."""
    problem, wrong = CASES[0]
    critique, words = judged(problem, wrong)
    messages = (Message(role="user", content=problem.text),)
    actor = PocketActorDialect()
    rewritten, rewound = actor.rewrite(messages, wrong, critique), actor.rewind(messages, wrong, "Step 1: kept\n", critique)
    assert [message.content for message in rewritten.messages] == [problem.text, wrong, words]
    assert actor.draft(messages).messages == rewritten.messages[:1]
    assert (rewound.messages, rewound.prefix) == (rewritten.messages, "Step 1: kept\n")
