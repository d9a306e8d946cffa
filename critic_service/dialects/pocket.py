"""The dialect of the pocket critic, which writes a derivation and a label per step (`pocket.wording`), without a guide.

The probability that a solution is correct is the likelihood of the all-correct critique, scored in one pass and calibrated
on the development split. An engine that cannot score generates the critique instead, at every depth.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from critic_service.dialects.base import PRIOR, RIGHT, WRONG, Case, Question
from critic_service.dialects.parsing import UnparsableCritique
from critic_service.scoring import probability, token_at
from pocket import wording
from pocket.calibration import Calibration
from services.contracts.critique import Critique, Depth, StepExplanation, StepLabel
from services.contracts.messages import Message
from services.engines.protocol import Prompt, TokenLogprobs

_LINE = re.compile(r"Step (\d{1,4}): (.*, has .*: (?:(correct)\.|incorrect: .+))")
_VERDICT = re.compile(r"Verdict: (?:correct|incorrect\. First error: step (\d{1,4}))\.")
_LABEL = re.compile(r"(?<!Verdict): (correct\.|incorrect: )")


@dataclass(frozen=True, slots=True)
class PocketCriticDialect:
    """The dialect of the pocket critic."""

    name = "pocket"

    calibration: Calibration

    def question(self, case: Case, depth: Depth, explain: str, *, scores: bool) -> Question:
        """Return the question for a depth; see `CriticDialect.question`."""
        lines = [" ".join(step.split()) for step in case.steps]
        problem = "\n".join(message.content for message in case.messages)
        solution = wording.unfinished(lines) if case.unfinished else "\n".join(lines)
        messages = (
            Message.model_construct(role="user", content=problem),
            Message.model_construct(role="assistant", content=solution),
        )

        def parse(text: str) -> Critique:
            return parse_lines(text, len(lines), depth, every=explain == "all")

        if depth == "explain" or not scores:
            return Question(Prompt(messages), None, parse, self._add_written_probabilities)
        return Question(Prompt(messages), None, parse, self._add_likelihood, wording.all_correct(lines))

    def _add_written_probabilities(self, critique: Critique, tokens: Sequence[TokenLogprobs]) -> Critique:
        """Return the critique with the same probability as a scored one, estimated from generated tokens.

        A generated critique equals the all-correct one up to its first error. At that label the probability of `correct`
        is used instead of that of the generated label, and the rest of the all-correct critique is taken as certain.
        """
        labelled = add_line_probabilities(critique, tokens)
        if labelled.p_correct is None:
            return labelled
        total = 0.0
        for token in tokens:
            if token.token.startswith(": incorrect"):
                right = probability(token.top, RIGHT, WRONG)
                total += math.log(max(right or 0.0, math.ulp(0.0)))
                break
            total += token.logprob
        return labelled.model_copy(update={"p_correct": self.calibration.probability(total)})

    def _add_likelihood(self, critique: Critique, tokens: Sequence[TokenLogprobs]) -> Critique:
        """Return the critique with labels, verdict and p_correct from the likelihood of the scored answer and its lines."""
        p = self.calibration.probability(sum(token.logprob for token in tokens))
        right = p >= PRIOR
        chances = [math.exp(min(0.0, part)) for part in _line_logprobs(tokens)]
        labels = tuple(
            StepLabel(index=label.index, label=RIGHT if right or chance >= PRIOR else WRONG, p_correct=chance)
            for label, chance in zip(critique.labels, chances, strict=False)
        )
        wrong = next((label.index for label in labels if label.label == WRONG), None)
        return critique.model_copy(
            update={
                "labels": labels[:wrong],
                "first_error": wrong,
                "verdict": RIGHT if right else WRONG,
                "p_correct": p,
            }
        )


def parse_lines(text: str, steps: int, depth: Depth, *, every: bool) -> Critique:
    """Parse one line per step, up to the first wrong one, then the verdict. Raises `UnparsableCritique`.

    An error after the last step means that the solution stops too early; it is not attached to a step.
    """
    *lines, last = text.strip().split("\n")
    verdict = _VERDICT.fullmatch(last)
    read = [_line(index, line) for index, line in enumerate(lines, start=1)]
    wrong = next((label.index for label, _ in read if label.label == WRONG), None)
    if (
        verdict is None
        or (verdict[1] and int(verdict[1])) != wrong
        or len(read) != (wrong or steps)
        or len(read) > steps + 1
    ):
        raise UnparsableCritique("its verdict is not that of one line a step", text)
    shown = read[:steps]
    return Critique(
        depth=depth,
        labels=tuple(label for label, _ in shown),
        explanations=tuple(words for label, words in shown if every or label.label == WRONG),
        first_error=wrong if wrong is not None and wrong <= steps else None,
        verdict=RIGHT if wrong is None else WRONG,
    )


def _line(index: int, line: str) -> tuple[StepLabel, StepExplanation]:
    match = _LINE.fullmatch(line)
    if match is None or int(match[1]) != index:
        raise UnparsableCritique("a line does not judge the step that is next", line)
    return StepLabel(index=index, label=RIGHT if match[3] else WRONG), StepExplanation(index=index, text=match[2])


def add_line_probabilities(critique: Critique, tokens: Sequence[TokenLogprobs]) -> Critique:
    """Return a generated critique with the probabilities of its labels, and their product as p_correct."""
    text = "".join(token.token for token in tokens)
    chances = [probability(token_at(tokens, match.start()).top, RIGHT, WRONG) for match in _LABEL.finditer(text)]
    known = [chance for chance in chances if chance is not None]
    if len(known) < len(chances) or len(chances) < len(critique.labels):
        return critique
    labels = tuple(
        label.model_copy(update={"p_correct": chance}) for label, chance in zip(critique.labels, known, strict=False)
    )
    return critique.model_copy(update={"labels": labels, "p_correct": math.prod(known)})


def _line_logprobs(tokens: Sequence[TokenLogprobs]) -> list[float]:
    """Return the log-probability of each line; a line break belongs to the line that it ends."""
    sums = [0.0]
    for token in tokens:
        sums[-1] += token.logprob
        if token.token.endswith("\n"):
            sums.append(0.0)
    return sums
