"""The text formats that training and the services share."""

from itertools import islice

import jinja2
import pytest

from actor_service.steps import prefix_of, steps_of
from pocket import wording
from pocket.problems import problems
from pocket.wording import Claim

PROBLEMS = list(islice(problems(9), 200))


def test_prompts_are_one_chain() -> None:
    """Each prompt begins with the one before it and what was written there, so that prefix caches hit."""
    assert wording.prompt("P") == "<problem>P<solution>"
    assert wording.prompt("P", "S") == "<problem>P<solution>S<critique>"
    assert wording.prompt("P", "S", "C") == "<problem>P<solution>S<critique>C<refine>"
    assert wording.prompt("P", "S", "") == "<problem>P<solution>S<critique><refine>"


@pytest.mark.parametrize("turns", [("P",), ("P", "S"), ("P", "S", "C")])
def test_the_chat_template_writes_the_same_chain(turns: tuple[str, ...]) -> None:
    """So an engine that applies templates needs nothing else."""
    messages = [{"role": "user", "content": turn} for turn in turns]
    template = jinja2.Environment(autoescape=True).from_string(
        "{% autoescape false %}" + wording.CHAT_TEMPLATE + "{% endautoescape %}"
    )
    assert template.render(messages=messages, add_generation_prompt=True) == wording.prompt(*turns)


def test_the_actor_service_splits_a_solution_into_its_lines() -> None:
    """The answer is a step of its own, and a prefix ends with a line break, where a token ends too."""
    for problem in PROBLEMS:
        solution = wording.solution(problem.steps)
        assert [step.text for step in steps_of(solution)] == solution.splitlines()
        assert prefix_of(solution, 2) == "".join(solution.splitlines(keepends=True)[:2])


def test_a_claim_gives_back_what_was_written() -> None:
    """Reading a line undoes writing it."""
    for problem in PROBLEMS:
        for index, step in enumerate(problem.steps, start=1):
            line = wording.step_line(index, step.expression, step.value)
            assert wording.claim(line) == Claim(step.expression, str(step.value))
        assert wording.claim(wording.answer_line(problem.answer)) == Claim("", str(problem.answer))


@pytest.mark.parametrize("line", ["Therefore it is so.", "Step 3:", "Step 3: 12 +", ""])
def test_a_line_of_another_form_claims_nothing(line: str) -> None:
    """Whatever a model writes can be asked about."""
    assert wording.claim(line).value == "nothing"


def test_all_correct_agrees_with_everything() -> None:
    """It repeats the claims, numbers the lines itself, and ends with the verdict."""
    lines = ["Step 1: 2 + 2 = 5", "The answer is \\boxed{7}."]
    assert wording.all_correct(lines).splitlines() == [
        "Step 1: 2 + 2 = 5, has 5: correct.",
        "Step 2: answer 7, has answer 7: correct.",
        "Verdict: correct.",
    ]
