"""Text formats shared by training and the services."""

from itertools import islice

import jinja2
import pytest

from actor_service.steps import prefix_of, steps_of
from pocket import wording
from pocket.problems import problems
from pocket.wording import Claim

PROBLEMS = list(islice(problems(9), 200))


def test_prompts_form_a_chain() -> None:
    """Each prompt begins with the previous one and its completion, which allows prefix caching."""
    assert wording.prompt("P") == "<problem>P<solution>"
    assert wording.prompt("P", "S") == "<problem>P<solution>S<critique>"
    assert wording.prompt("P", "S", "C") == "<problem>P<solution>S<critique>C<refine>"
    assert wording.prompt("P", "S", "") == "<problem>P<solution>S<critique><refine>"


@pytest.mark.parametrize("turns", [("P",), ("P", "S"), ("P", "S", "C")])
def test_the_chat_template_writes_the_same_chain(turns: tuple[str, ...]) -> None:
    """The template renders the same text as `prompt`."""
    messages = [{"role": "user", "content": turn} for turn in turns]
    template = jinja2.Environment(autoescape=True).from_string(
        "{% autoescape false %}" + wording.CHAT_TEMPLATE + "{% endautoescape %}"
    )
    assert template.render(messages=messages, add_generation_prompt=True) == wording.prompt(*turns)


def test_the_actor_service_splits_a_solution_into_its_lines() -> None:
    """The answer is a separate step, and a prefix ends with a line break."""
    for problem in PROBLEMS:
        solution = wording.solution(problem.steps)
        assert [step.text for step in steps_of(solution)] == solution.splitlines()
        assert prefix_of(solution, 2) == "".join(solution.splitlines(keepends=True)[:2])


def test_claims_are_parsed_back() -> None:
    """Parsing a line is the inverse of writing it."""
    for problem in PROBLEMS:
        for index, step in enumerate(problem.steps, start=1):
            line = wording.step_line(index, step.expression, step.value)
            assert wording.claim(line) == Claim(step.expression, str(step.value))
        assert wording.claim(wording.answer_line(problem.answer)) == Claim("", str(problem.answer))


@pytest.mark.parametrize("line", ["Therefore it is so.", "Step 3:", "Step 3: 12 +", ""])
def test_a_line_of_another_form_has_no_value(line: str) -> None:
    """Any line can be parsed."""
    assert wording.claim(line).value == "nothing"


def test_all_correct_accepts_every_line() -> None:
    """It repeats the claims with its own line numbers, and ends with the verdict."""
    lines = ["Step 1: 2 + 2 = 5", "The answer is \\boxed{7}."]
    assert wording.all_correct(lines).splitlines() == [
        "Step 1: 2 + 2 = 5, has 5: correct.",
        "Step 2: answer 7, has answer 7: correct.",
        "Verdict: correct.",
    ]
