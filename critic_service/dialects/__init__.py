"""Dialects of the critic: for one family of models each, the questions and the parsers of the answers.

A dialect is a class with the methods of `base.CriticDialect`. Texts are neutralised before they come here. A parser
parses or raises `UnparsableCritique`; it never guesses.
"""

from critic_service.dialects.base import PRIOR, RIGHT, WRONG, Case, CriticDialect, Question
from critic_service.dialects.chat import MATHCRITIQUE, STRUCTURED
from critic_service.dialects.parsing import UnparsableCritique
from critic_service.dialects.pocket import PocketCriticDialect
from pocket.calibration import Calibration
from services.engines.models import tokenizer_path
from services.settings import RoleSettings

CHAT_DIALECTS: dict[str, CriticDialect] = {dialect.name: dialect for dialect in (STRUCTURED, MATHCRITIQUE)}
"""The dialects for instruct models, by name."""


def dialect_of(settings: RoleSettings) -> CriticDialect:
    """Return the settings' dialect, with the calibration beside a pocket critic's model. Raises `OSError`, `ValueError`."""
    if settings.dialect_name != PocketCriticDialect.name:
        return CHAT_DIALECTS[settings.dialect_name]
    directory = tokenizer_path(settings.model)
    return PocketCriticDialect(Calibration.load(directory) if directory else Calibration())


__all__ = [
    "CHAT_DIALECTS",
    "PRIOR",
    "RIGHT",
    "WRONG",
    "Case",
    "CriticDialect",
    "Question",
    "UnparsableCritique",
    "dialect_of",
]
