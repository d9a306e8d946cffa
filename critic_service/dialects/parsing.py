"""Parsers of a critic's output: they return what the text says or raise `UnparsableCritique`, and never guess."""

import json
import re
from collections.abc import Sequence
from typing import Any

from services.contracts.critique import Critique, Depth, Label, StepExplanation, StepLabel

MAX_EXPLANATION_CHARS = 2_000
MAX_OFFENDING_CHARS = 200

LabelsAndExplanations = tuple[tuple[StepLabel, ...], tuple[StepExplanation, ...]]

_LABELS: dict[str, Label] = {"correct": "correct", "incorrect": "incorrect", "wrong": "incorrect"}
_FIELD = re.compile(
    r"^[ \t*#>-]*(step sentence|correctness of the step|correctness of the final answer|explanation)[ \t*]*:[ \t*]*(.*)$",
    re.IGNORECASE,
)

_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that JSON can escape but a message cannot contain: null bytes, unpaired surrogates."""


class UnparsableCritique(Exception):
    """Critic output that is not in the expected format; `offending` is the beginning of the text."""

    def __init__(self, reason: str, offending: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offending = offending[:MAX_OFFENDING_CHARS]


def label_of(word: str) -> Label:
    """Return the label for a word, ignoring case, periods, asterisks and underscores. Raises `UnparsableCritique`."""
    label = _LABELS.get(word.strip().strip("*_.").lower())
    if label is None:
        raise UnparsableCritique("not a label", word)
    return label


def parse_labels(text: str, steps: int) -> LabelsAndExplanations:
    """Parse `{"1": "correct", ...}`: a label for each step in order, up to the last step or the first wrong one."""
    return _labels(_json(text), steps, text), ()


def parse_first(text: str, steps: int) -> LabelsAndExplanations:
    """Parse `{"labels": {...}, "explanation": "..."}`: the labels, and an explanation of the first wrong step, if any."""
    document = _json(text)
    labels = _labels(document.get("labels"), steps, text)
    wrong = first_error(labels)
    return labels, () if wrong is None else (_explanation(wrong, document.get("explanation"), text),)


def parse_all(text: str, steps: int) -> LabelsAndExplanations:
    """Parse `{"steps": [{"explanation": "...", "label": "correct"}, ...]}`: an explanation and a label for each step."""
    entries: Any = _json(text).get("steps")
    if not isinstance(entries, list) or not 0 < len(entries) <= steps:  # pyright: ignore[reportUnknownArgumentType] - any JSON
        raise UnparsableCritique("not one entry a step", text)
    if not all(isinstance(entry, dict) for entry in entries):  # pyright: ignore[reportUnknownVariableType] - any JSON
        raise UnparsableCritique("an entry is not an object", text)
    known: list[dict[str, Any]] = entries  # pyright: ignore[reportUnknownVariableType] - any JSON
    labels = _labels({str(index): entry.get("label") for index, entry in enumerate(known, start=1)}, steps, text)
    return labels, tuple(_explanation(x.index, known[x.index - 1].get("explanation"), text) for x in labels)


def parse_published(text: str, steps: int) -> tuple[tuple[StepLabel, ...], tuple[StepExplanation, ...], Label | None]:
    """Parse the published format (arXiv 2411.16579): three fields per step, then those of the final answer.

    Steps are matched by order. The critique may stop after the first wrong step, without fields for the final answer.
    """
    labels: list[StepLabel] = []
    words: list[StepExplanation] = []
    final: Label | None = None
    subject: int | None = None
    opened = 0
    for name, value in _fields(text):
        if final is not None and name != "explanation":
            raise UnparsableCritique("something follows the final answer", value)
        if name == "step sentence":
            opened += 1
            subject = None
        elif name == "correctness of the step":
            if opened != len(labels) + 1 or opened > steps:
                raise UnparsableCritique("a label without its step", text)
            labels.append(StepLabel(index=opened, label=label_of(value)))
            subject = opened
        elif name == "correctness of the final answer":
            final, subject = label_of(value), None
        elif subject is not None and value:
            words.append(_explanation(subject, value, text))
            subject = None
    _complete(labels, steps, opened, final, text)
    return tuple(labels), tuple(words), final


def build_critique(
    depth: Depth,
    labels: Sequence[StepLabel],
    explanations: Sequence[StepExplanation],
    final: Label | None = None,
) -> Critique:
    """Build a critique. A wrong step makes the verdict `incorrect`, whatever the label of the final answer.

    p_correct is the smallest of the steps' probabilities: a chain of steps is as sound as its weakest one. It is None
    if any step has none.
    """
    wrong = first_error(labels)
    known = [label.p_correct for label in labels if label.p_correct is not None]
    return Critique(
        depth=depth,
        labels=tuple(labels),
        explanations=tuple(explanations),
        first_error=wrong,
        verdict="incorrect" if wrong is not None or final == "incorrect" else "correct",
        p_correct=min(known) if known and len(known) == len(labels) else None,
    )


def first_error(labels: Sequence[StepLabel]) -> int | None:
    """Return the index of the first step labelled `incorrect`, or None."""
    return next((label.index for label in labels if label.label == "incorrect"), None)


def _json(text: str) -> dict[str, Any]:
    try:
        document: Any = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # thousands of digits raise a plain ValueError
        raise UnparsableCritique("not JSON", text) from error
    if not isinstance(document, dict):
        raise UnparsableCritique("not a JSON object", text)
    return document  # pyright: ignore[reportUnknownVariableType] - any JSON


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's members. Raises `UnparsableCritique` for a duplicate name."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise UnparsableCritique("a name is given twice", str(pairs))
    return document


def _labels(members: object, steps: int, text: str) -> tuple[StepLabel, ...]:
    if not isinstance(members, dict) or not 0 < len(members) <= steps:  # pyright: ignore[reportUnknownArgumentType] - any JSON
        raise UnparsableCritique("not a label for each step", text)
    labels: list[StepLabel] = []
    for index, (name, word) in enumerate(members.items(), start=1):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
        if name != str(index) or not isinstance(word, str):
            raise UnparsableCritique("labels are not in the order of the steps", text)
        labels.append(StepLabel(index=index, label=label_of(word)))
    if len(labels) < steps and labels[-1].label != "incorrect":
        raise UnparsableCritique("it stops before an error and before the end", text)
    return tuple(labels)


def _explanation(index: int, words: object, text: str) -> StepExplanation:
    if not isinstance(words, str) or _UNWRITABLE.search(words):
        raise UnparsableCritique("an explanation is not text", text)
    return StepExplanation(index=index, text=words[:MAX_EXPLANATION_CHARS])


def _fields(text: str) -> list[tuple[str, str]]:
    """Return the named fields in order; a line without a field name continues the previous field."""
    fields: list[tuple[str, str]] = []
    for line in text.replace("\x00", "").splitlines():
        match = _FIELD.match(line)
        if match:
            fields.append((match.group(1).lower(), match.group(2).strip()))
        elif line.strip() and fields:
            name, value = fields[-1]
            if name.startswith("correctness"):
                raise UnparsableCritique("something follows a label", line)
            fields[-1] = (name, f"{value}\n{line.strip()}" if name == "explanation" else value)
        elif line.strip():
            raise UnparsableCritique("it does not begin with a field", line)
    return fields


def _complete(labels: list[StepLabel], steps: int, opened: int, final: Label | None, text: str) -> None:
    if not labels or opened != len(labels):
        raise UnparsableCritique("a step without its label", text)
    stopped_at_error = labels[-1].label == "incorrect"
    if not stopped_at_error and (len(labels) < steps or final is None):
        raise UnparsableCritique("it stops before an error and before the end", text)
