"""The dialects for instruct models: a question after the fenced solution, and a guide for answers of JSON or one word."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from critic_service.dialects.base import PRIOR, RIGHT, WRONG, Case, Question
from critic_service.dialects.parsing import build_critique, label_of, parse_all, parse_first, parse_labels, parse_published
from critic_service.nonce import without_nonce
from critic_service.scoring import label_probabilities, probability, with_probabilities
from services.contracts.critique import Critique, Depth
from services.engines.protocol import Guide, TokenLogprobs

CHOICES = ("Correct", "Incorrect")
MAX_EXPLANATION_CHARS = 400
"""Longest guided explanation: enough for the first error, cheap enough for a small critic."""


@dataclass(frozen=True, slots=True)
class CriticChatDialect:
    """The questions to an instruct model; `explanations` makes the one for explanations."""

    name: str
    explanations: Callable[[Case, str], Question]

    def question(self, case: Case, depth: Depth, explain: str, *, scores: bool) -> Question:
        """Return the question for a depth. Whatever the critic writes, the nonce does not leave in its words."""
        del scores  # the answer is always written
        if depth == "verdict":
            return verdict(case)
        question = labels(case) if depth == "labels" else self.explanations(case, explain)

        def parse(text: str) -> Critique:
            critique = question.parse(text)
            explanations = tuple(
                entry.model_copy(update={"text": without_nonce(entry.text, case.nonce)}) for entry in critique.explanations
            )
            return critique.model_copy(update={"explanations": explanations})

        return replace(question, parse=parse)


def add_label_probabilities(critique: Critique, tokens: Sequence[TokenLogprobs]) -> Critique:
    """Return the critique with the probabilities of its labels, from the tokens that were written."""
    scored = with_probabilities(critique.labels, label_probabilities(tokens, RIGHT, WRONG))
    final = "incorrect" if critique.verdict == "incorrect" and critique.first_error is None else None
    return build_critique(critique.depth, scored, critique.explanations, final)


def add_verdict_probability(critique: Critique, tokens: Sequence[TokenLogprobs]) -> Critique:
    """Return the critique with the probability of its word, which alone decides the direction where there is none."""
    p = probability(tokens[0].top, *CHOICES) if tokens else None
    decided = critique.verdict if p is None else ("correct" if p >= PRIOR else "incorrect")
    return critique.model_copy(update={"verdict": decided, "p_correct": p})


def verdict(case: Case) -> Question:
    """Ask for one guided word, whose probability is p_correct."""
    prompt = case.prompt("Is this solution correct, with the right final answer? Reply with one word, Correct or Incorrect.")

    def parse(text: str) -> Critique:
        return Critique(depth="verdict", verdict=label_of(text))

    return Question(prompt, Guide("choice", CHOICES), parse, add_verdict_probability)


def labels(case: Case) -> Question:
    """Ask for a label for each step, in one guided answer."""
    count = len(case.steps)
    prompt = case.prompt(f"Label each of the {count} steps as {RIGHT} or {WRONG}. Reply with JSON: step number to label.")

    def parse(text: str) -> Critique:
        return build_critique("labels", parse_labels(text, count), ())

    return Question(prompt, _json(_label_schema(count)), parse, add_label_probabilities)


def explain_structured(case: Case, explain: str) -> Question:
    """Ask for labels and words, as guided JSON: about the first error, or about every step."""
    return _explain_all(case) if explain == "all" else _explain_first(case)


def _explain_all(case: Case) -> Question:
    count = len(case.steps)
    entry = _object({"explanation": _words(), "label": {"enum": [RIGHT, WRONG]}})
    schema = _object({"steps": {"type": "array", "items": entry, "minItems": count, "maxItems": count}})
    prompt = case.prompt(
        f"For each of the {count} steps explain in one sentence whether it holds, then label it. Reply with JSON."
    )

    def parse(text: str) -> Critique:
        return build_critique("explain", *parse_all(text, count))

    return Question(prompt, _json(schema), parse, add_label_probabilities)


def _explain_first(case: Case) -> Question:
    count = len(case.steps)
    schema = _object({"labels": _label_schema(count), "explanation": _words()})
    prompt = case.prompt(
        f"Label each of the {count} steps as {RIGHT} or {WRONG}, then explain the first wrong step in one or two sentences: "
        "what is wrong and what it should be. Reply with JSON."
    )

    def parse(text: str) -> Critique:
        return build_critique("explain", *parse_first(text, count))

    return Question(prompt, _json(schema), parse, add_label_probabilities)


def explain_mathcritique(case: Case, explain: str) -> Question:
    """Ask for the published format (arXiv 2411.16579), in free text."""
    count = len(case.steps)
    stop = " Stop after the first wrong step." if explain == "first" else ""
    prompt = case.prompt(
        f"Go through the {count} steps in order. For each write three lines:\nStep sentence: the step repeated\n"
        "Correctness of the step: Correct or Wrong\nExplanation: why\n"
        f"Then write: Correctness of the final answer: Correct or Wrong, and an Explanation.{stop}"
    )

    def parse(text: str) -> Critique:
        return build_critique("explain", *parse_published(text, count))

    return Question(prompt, None, parse, add_label_probabilities)


STRUCTURED = CriticChatDialect("structured", explain_structured)
MATHCRITIQUE = CriticChatDialect("mathcritique", explain_mathcritique)


def _json(schema: dict[str, Any]) -> Guide:
    return Guide("json", json.dumps(schema))


def _label_schema(count: int) -> dict[str, Any]:
    return _object({str(index): {"enum": [RIGHT, WRONG]} for index in range(1, count + 1)})


def _words() -> dict[str, Any]:
    return {"type": "string", "maxLength": MAX_EXPLANATION_CHARS}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required: Sequence[str] = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
