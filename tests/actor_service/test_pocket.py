"""The pocket actor's dialect: its messages have the form that the model was trained on."""

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
    """Return the oracle's critique as the critic service returns it, and as the text that the critic writes."""
    judgement = oracle.judge(problem.steps, wrong)
    at = judgement.first_error
    assert at is not None
    words = judgement.critique.split("\n")[at - 1].partition(": ")[2]
    labels = tuple(StepLabel(index=k, label="incorrect" if k == at else "correct") for k in range(1, at + 1))
    explanations = (StepExplanation(index=at, text=words),)
    critique = Critique(depth="explain", labels=labels, explanations=explanations, first_error=at, verdict="incorrect")
    return critique, judgement.critique


@pytest.mark.parametrize(("problem", "wrong"), CASES[:20], ids=lambda _: "")
def test_critique_is_rendered_as_the_critic_writes_it(problem: Problem, wrong: str):
    """The critic's full text can be reconstructed from the explanation of the first error."""
    critique, words = judged(problem, wrong)
    assert critic_lines(wrong.split("\n"), critique) == words


def test_correct_critique_is_all_correct_and_one_without_explanation_is_empty():
    """An unparsable critique, one without an explanation, and a missing one all give the actor an empty text."""
    lines = ["Step 1: 2 + 3 = 5", "The answer is \\boxed{5}."]
    assert critic_lines(lines, Critique(depth="verdict", verdict="correct")) == wording.all_correct(lines)
    assert critic_lines(lines, Critique(depth="labels", verdict="unsure", unparsable=True)) == ""
    assert critic_lines(lines, Critique(depth="verdict", verdict="incorrect", first_error=1)) == ""
    assert critic_lines(lines, None) == ""


def test_each_prompt_extends_the_previous_one():
    """The rewrite prompt starts with the draft prompt, and rewinding only adds a prefix, so prefix caches hit."""
    problem, wrong = CASES[0]
    critique, words = judged(problem, wrong)
    messages = (Message(role="user", content=problem.text),)
    actor = PocketActorDialect()
    rewritten, rewound = actor.rewrite(messages, wrong, critique), actor.rewind(messages, wrong, "Step 1: kept\n", critique)
    assert [message.content for message in rewritten.messages] == [problem.text, wrong, words]
    assert actor.draft(messages).messages == rewritten.messages[:1]
    assert (rewound.messages, rewound.prefix) == (rewritten.messages, "Step 1: kept\n")
