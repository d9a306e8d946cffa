"""Label probabilities from token log-probabilities.

At the token where a label begins, the mass of the likely tokens that begin the right word is compared with that of those
that begin the wrong one: p = P(right) / (P(right) + P(wrong)). The log-probabilities are those before any guide.
"""

import math
import re
from collections.abc import Sequence

from services.contracts.critique import StepLabel
from services.engines.protocol import TokenLogprobs

_LABEL_AT = re.compile(r'"(\d+)"\s*:\s*"([A-Za-z]+)|"label"\s*:\s*"([A-Za-z]+)')


def probability(top: Sequence[tuple[str, float]], right: str, wrong: str) -> float | None:
    """Return P(right) / (P(right) + P(wrong)) from a token's alternatives; None if neither word is among them."""
    masses = {right: 0.0, wrong: 0.0}
    for token, logprob in top:
        letters = re.sub(r"^[^A-Za-z]+", "", token).lower()
        for word in masses:
            if letters and (word.lower().startswith(letters) or letters.startswith(word.lower())):
                masses[word] += math.exp(min(0.0, logprob))
    total = masses[right] + masses[wrong]
    return min(1.0, masses[right] / total) if total > 0 else None


def label_probabilities(tokens: Sequence[TokenLogprobs], right: str, wrong: str) -> list[float | None]:
    """Return the probability of `right` for each label of a JSON critique, in the order of the generated text."""
    text = "".join(token.token for token in tokens)
    return [
        probability(token_at(tokens, match.start(match.lastindex or 0)).top, right, wrong)
        for match in _LABEL_AT.finditer(text)
    ]


def with_probabilities(labels: Sequence[StepLabel], probabilities: Sequence[float | None]) -> tuple[StepLabel, ...]:
    """Return the labels with their probabilities, or unchanged unless there is exactly one for each."""
    if len(probabilities) != len(labels):
        return tuple(labels)
    return tuple(label.model_copy(update={"p_correct": p}) for label, p in zip(labels, probabilities, strict=True))


def token_at(tokens: Sequence[TokenLogprobs], place: int) -> TokenLogprobs:
    """Return the token that contains the character at `place` in the joined text. Raises `IndexError`."""
    end = 0
    for token in tokens:
        end += len(token.token)
        if end > place:
            return token
    raise IndexError(f"the text has no character {place}")
