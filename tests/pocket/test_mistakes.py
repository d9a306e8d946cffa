"""The oracle and the constructed mistakes."""

from collections import Counter
from itertools import islice
from random import Random

from pocket import mistakes, oracle, wording
from pocket.problems import problems

PROBLEMS = list(islice(problems(5), 2000))


def test_a_right_solution_is_judged_right() -> None:
    """Its critique is exactly the all-correct critique."""
    for problem in PROBLEMS:
        solution = wording.solution(problem.steps)
        judgement = oracle.judge(problem.steps, solution)
        assert judgement.first_error is None
        assert judgement.critique == wording.all_correct(solution.splitlines())


def test_every_constructed_mistake_is_wrong_where_the_oracle_says() -> None:
    """Independently of the oracle: lines before the first error have the right values, that line does not."""
    random = Random(1)
    for problem in PROBLEMS:
        wrong = mistakes.mistaken(random, problem)
        at = oracle.judge(problem.steps, wrong).first_error
        assert at is not None
        right_values = [line.split()[-1] for line in wording.solution(problem.steps).splitlines()]
        values = [line.split()[-1] for line in wrong.splitlines()]
        assert values[: at - 1] == right_values[: at - 1]
        assert values[at - 1] != right_values[at - 1]


def test_mistakes_fall_on_every_line() -> None:
    """First errors occur in every step and in the answer."""
    random = Random(2)
    eights = list(islice(problems(6, level=8), 1000))
    positions = Counter(oracle.judge(problem.steps, mistakes.mistaken(random, problem)).first_error for problem in eights)
    assert set(positions) == set(range(1, 10))


def test_a_critique_stops_at_the_first_error() -> None:
    """It has a derivation, a label and an explanation, and ends with the verdict."""
    problem = next(p for p in PROBLEMS if p.level == 2)
    first, last = problem.steps
    right, slipped = f"{last.expression} = {last.value}", last.value + 1
    wrong = mistakes.written([(first, first.value), (last, slipped)])
    assert oracle.judge(problem.steps, wrong).critique.splitlines() == [
        f"Step 1: {first.expression} = {first.value}, has {first.value}: correct.",
        f"Step 2: {right}, has {slipped}: incorrect: {last.expression} is {last.value}, not {slipped}.",
        "Verdict: incorrect. First error: step 2.",
    ]


def test_a_wrong_last_line_is_an_error() -> None:
    """The line after the last step must state the answer."""
    problem = PROBLEMS[0]
    wrong = mistakes.written(mistakes.right(problem.steps), problem.answer + 1)
    assert oracle.judge(problem.steps, wrong).first_error == problem.level + 1


def test_a_missing_answer_is_an_error() -> None:
    """An unfinished solution is not right."""
    problem = PROBLEMS[0]
    cut = wording.solution(problem.steps).rpartition("\n")[0]
    assert oracle.judge(problem.steps, cut).first_error == problem.level + 1


def test_a_review_judges_every_line() -> None:
    """It has as many lines as the solution, regardless of earlier errors."""
    random = Random(3)
    for problem in PROBLEMS[:200]:
        lines = oracle.review(problem.steps, mistakes.scrambled(random, problem)).splitlines()
        assert len(lines) == problem.level + 1
