"""The pocket critic's dialect: its lines are parsed or rejected, and scored."""

import math
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critic_service.dialects import Case
from critic_service.dialects.parsing import UnparsableCritique
from critic_service.dialects.pocket import PocketCriticDialect, add_line_probabilities, parse_lines
from pocket import mistakes, oracle, wording
from pocket.calibration import Calibration
from pocket.problems import problems
from services.contracts.messages import Message
from services.engines.protocol import TokenLogprobs

CASES = [(problem, mistakes.mistaken(Random(5), problem)) for problem in islice(problems(4, split="dev"), 80)]
TEXTS = [
    *(oracle.judge(problem.steps, wrong).critique for problem, wrong in CASES),
    *(wording.all_correct(wording.solution(problem.steps).split("\n")) for problem, _ in CASES),
]


def test_critique_of_a_wrong_solution_is_parsed():
    """It has labels up to the first error, with its explanation; an error after the last step is not attached to a step."""
    for problem, wrong in CASES:
        judgement, steps = oracle.judge(problem.steps, wrong), len(wrong.split("\n"))
        critique = parse_lines(judgement.critique, steps, "explain", every=False)
        at = judgement.first_error
        assert at is not None
        assert critique.verdict == "incorrect"
        assert critique.first_error == (at if at <= steps else None)
        assert [label.label for label in critique.labels] == (["correct"] * (at - 1) + ["incorrect"])[:steps]
        assert [words.index for words in critique.explanations] == ([at] if at <= steps else [])


def test_critique_of_a_right_solution_explains_every_step_on_request():
    """Every step is labelled correct and, with `every`, has an explanation."""
    for problem, _ in CASES[:10]:
        lines = wording.solution(problem.steps).split("\n")
        critique = parse_lines(wording.all_correct(lines), len(lines), "explain", every=True)
        assert (critique.verdict, critique.first_error, len(critique.labels)) == ("correct", None, len(lines))
        assert [words.index for words in critique.explanations] == list(range(1, len(lines) + 1))


@given(st.sampled_from(TEXTS), st.integers(1, 10), st.data())
def test_mutated_critique_is_rejected_or_consistent(text: str, steps: int, data: st.DataObject):
    """When lines are dropped, repeated, swapped or cut, no missing step is labelled, and `correct` covers every step."""
    lines = text.split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["drop", "double", "swap", "cut", "keep"])):
        case "drop":
            del lines[at]
        case "double":
            lines.insert(at, lines[at])
        case "swap":
            lines[at], lines[-1] = lines[-1], lines[at]
        case "cut":
            lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
        case _:
            pass
    try:
        critique = parse_lines("\n".join(lines), steps, "explain", every=True)
    except UnparsableCritique:
        return
    indices = [label.index for label in critique.labels]
    assert indices == list(range(1, len(indices) + 1))
    assert len(indices) <= steps
    wrong = [label.index for label in critique.labels if label.label == "incorrect"]
    assert wrong in ([], [len(indices)])
    if critique.verdict == "correct":
        assert len(indices) == steps
        assert not wrong


@given(st.text())
def test_noise_is_unparsable(text: str):
    """Arbitrary text raises `UnparsableCritique`."""
    with pytest.raises(UnparsableCritique):
        parse_lines(text, 3, "explain", every=False)


def _case() -> Case:
    steps = ("Step 1: 2 + 3 = 5", "Step 2: 5 * 2 = 11", "The answer is \\boxed{11}.")
    return Case((Message(role="user", content="A problem."),), steps, "unused")


def _scored_lines(text: str, doubted: int | None) -> list[TokenLogprobs]:
    """Return one token per line, each likely except that of line `doubted` (0-based)."""
    lines = text.splitlines(keepends=True)
    return [TokenLogprobs(line, math.log(0.01) if k == doubted else math.log(0.999)) for k, line in enumerate(lines)]


@pytest.mark.parametrize(("doubted", "first_error"), [(None, None), (1, 2), (0, 1), (2, 3)])
def test_likelihood_of_the_all_correct_critique_decides_the_verdict(doubted: int | None, first_error: int | None):
    """If the all-correct critique is likely, the solution is correct; otherwise its first unlikely line is the error."""
    question = PocketCriticDialect(Calibration(-1.5, 0.0)).question(_case(), "labels", "first", scores=True)
    assert question.scored_answer is not None
    critique = question.add_probabilities(
        question.parse(question.scored_answer), _scored_lines(question.scored_answer, doubted)
    )
    assert (critique.verdict, critique.first_error) == ("correct" if doubted is None else "incorrect", first_error)
    assert critique.p_correct is not None
    assert (critique.p_correct >= 0.5) is (doubted is None)
    assert len(critique.labels) == (first_error or 3)
    assert all(label.p_correct is not None for label in critique.labels)


def test_prompt_holds_problem_and_solution_and_scored_answer_is_optional():
    """Each step is put on one line; explanations, and engines that cannot score, have no scored answer."""
    critic = PocketCriticDialect(Calibration())
    messy = Case((Message(role="user", content="P"),), ("Step 1:\n 1 + 1 = 2", "done"), "x")
    question = critic.question(messy, "verdict", "first", scores=True)
    assert [message.content for message in question.prompt.messages] == ["P", "Step 1: 1 + 1 = 2\ndone"]
    assert critic.question(messy, "verdict", "first", scores=False).scored_answer is None
    assert critic.question(messy, "explain", "first", scores=True).scored_answer is None


def test_probability_of_a_written_critique_is_the_product_over_its_labels():
    """Each label's probability is P(correct) / (P(correct) + P(incorrect)), and p_correct is their product."""
    text = "Step 1: 2 + 3 = 5, has 5: correct.\nStep 2: 5 * 2 = 10, has 11: incorrect: 5 * 2 is 10, not 11.\n"
    text += "Verdict: incorrect. First error: step 2."
    critique = parse_lines(text, 3, "explain", every=False)
    pieces = [
        ("Step 1: 2 + 3 = 5, has 5", ()),
        (": correct.", ((": correct.", math.log(0.9)), (": incorrect: ", math.log(0.1)))),
        ("\nStep 2: 5 * 2 = 10, has 11", ()),
        (": incorrect: ", ((": incorrect: ", math.log(0.8)), (": correct.", math.log(0.2)))),
        ("5 * 2 is 10, not 11.\nVerdict: incorrect. First error: step 2.", ()),
    ]
    scored = add_line_probabilities(critique, [TokenLogprobs(piece, 0.0, top) for piece, top in pieces])
    assert [label.p_correct for label in scored.labels] == pytest.approx([0.9, 0.2])
    assert scored.p_correct == pytest.approx(0.18)


def test_verdict_of_a_written_critique_is_not_counted_as_a_label():
    """Only the step lines contribute to p_correct, since the verdict follows from them."""
    text = "Step 1: 2 + 3 = 5, has 5: correct.\nVerdict: correct."
    pieces = [
        ("Step 1: 2 + 3 = 5, has 5", ()),
        (": correct.", ((": correct.", math.log(0.9)), (": incorrect: ", math.log(0.1)))),
        ("\nVerdict: correct.", ((" the", 0.0),)),
    ]
    scored = add_line_probabilities(
        parse_lines(text, 1, "explain", every=False), [TokenLogprobs(piece, 0.0, top) for piece, top in pieces]
    )
    assert scored.p_correct == pytest.approx(0.9)
