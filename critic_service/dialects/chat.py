"""The dialects for instruct models: a question after the fenced solution, answered as guided JSON, one word or free text."""

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
"""Maximum length of a guided explanation: enough for the first error, and affordable for a small critic."""
EXPLANATION = {"type": "string", "maxLength": MAX_EXPLANATION_CHARS}


@dataclass(frozen=True, slots=True)
class CriticChatDialect:
    """A dialect for instruct models; `explanations` creates the question for the depth `explain`."""

    name: str
    explanations: Callable[[Case, str], Question]

    def question(self, case: Case, depth: Depth, explain: str, *, scores: bool) -> Question:
        """Return the question for a depth. The nonce is removed from the explanations that the critic writes."""
        del scores  # answers are always generated
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
    """Return the critique with the probabilities of its labels, computed from the generated tokens."""
    scored = with_probabilities(critique.labels, label_probabilities(tokens, RIGHT, WRONG))
    final = "incorrect" if critique.verdict == "incorrect" and critique.first_error is None else None
    return build_critique(critique.depth, scored, critique.explanations, final)


def add_verdict_probability(critique: Critique, tokens: Sequence[TokenLogprobs]) -> Critique:
    """Return the critique with p_correct, which decides the verdict; without log-probabilities the verdict is unchanged."""
    p = probability(tokens[0].top, *CHOICES) if tokens else None
    decided = critique.verdict if p is None else ("correct" if p >= PRIOR else "incorrect")
    return critique.model_copy(update={"verdict": decided, "p_correct": p})


def verdict(case: Case) -> Question:
    """Ask for one guided word, whose probability is p_correct."""
    prompt = case.prompt("Is this solution correct, with the right final answer? Reply with one word, Correct or Incorrect.")

    return Question(
        prompt,
        Guide("choice", CHOICES),
        lambda text: Critique(depth="verdict", verdict=label_of(text)),
        add_verdict_probability,
    )


def labels(case: Case) -> Question:
    """Ask for a label for each step, as guided JSON."""
    count = len(case.steps)
    text = f"Label each of the {count} steps as {RIGHT} or {WRONG}. Reply with JSON: step number to label."
    return _question(case, text, _label_schema(count), "labels", parse_labels)


def explain_structured(case: Case, explain: str) -> Question:
    """Ask for labels and an explanation of the first error or of every step, as guided JSON."""
    count = len(case.steps)
    if explain == "all":
        entry = _object({"explanation": EXPLANATION, "label": {"enum": [RIGHT, WRONG]}})
        schema = _object({"steps": {"type": "array", "items": entry, "minItems": count, "maxItems": count}})
        text = f"For each of the {count} steps explain in one sentence whether it holds, then label it. Reply with JSON."
        return _question(case, text, schema, "explain", parse_all)
    schema = _object({"labels": _label_schema(count), "explanation": EXPLANATION})
    text = (
        f"Label each of the {count} steps as {RIGHT} or {WRONG}, then explain the first wrong step in one or two sentences: "
        "what is wrong and what it should be. Reply with JSON."
    )
    return _question(case, text, schema, "explain", parse_first)


def explain_mathcritique(case: Case, explain: str) -> Question:
    """Ask for the published format (arXiv 2411.16579), as free text."""
    stop = " Stop after the first wrong step." if explain == "first" else ""
    text = (
        f"Go through the {len(case.steps)} steps in order. For each write three lines:\nStep sentence: the step repeated\n"
        "Correctness of the step: Correct or Wrong\nExplanation: why\n"
        f"Then write: Correctness of the final answer: Correct or Wrong, and an Explanation.{stop}"
    )
    return _question(case, text, None, "explain", parse_published)


STRUCTURED = CriticChatDialect("structured", explain_structured)
MATHCRITIQUE = CriticChatDialect("mathcritique", explain_mathcritique)


def _question(
    case: Case, text: str, schema: dict[str, Any] | None, depth: Depth, parse: Callable[[str, int], tuple[Any, ...]]
) -> Question:
    """Return a question whose answer `parse` turns into labels, explanations and possibly the label of the final answer."""

    def critique(answer: str) -> Critique:
        return build_critique(depth, *parse(answer, len(case.steps)))

    guide = Guide("json", json.dumps(schema)) if schema else None
    return Question(case.prompt(text), guide, critique, add_label_probabilities)


def _label_schema(count: int) -> dict[str, Any]:
    return _object({str(index): {"enum": [RIGHT, WRONG]} for index in range(1, count + 1)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required: Sequence[str] = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
