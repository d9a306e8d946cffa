"""Dialects of the critic: the questions and the parsers of the answers, each for one family of models.

A dialect is a class with the methods of `base.CriticDialect`. It receives neutralised texts. A parser parses or raises
`UnparsableCritique`; it never guesses.
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
    """Return the dialect of the settings; the pocket critic's is calibrated. Raises `OSError`, `ValueError`."""
    if settings.dialect_name != PocketCriticDialect.name:
        return CHAT_DIALECTS[settings.dialect_name]
    directory = tokenizer_path(settings.model)
    return PocketCriticDialect(Calibration.load(directory) if directory else Calibration())


__all__ = ["CHAT_DIALECTS", "PRIOR", "RIGHT", "WRONG", "Case", "Question", "UnparsableCritique", "dialect_of"]
