"""Dialects of the critic: the questions for one family of models, and the parsers of its answers.

A dialect implements `base.CriticDialect`, and receives neutralised texts. A parser returns a critique or raises
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

DIALECTS: dict[str, CriticDialect | None] = {**CHAT_DIALECTS, PocketCriticDialect.name: None}
"""All dialects, by name; None for one that `dialect_of` creates for the model in the settings."""


def dialect_of(settings: RoleSettings) -> CriticDialect:
    """Return the dialect named in the settings; that of the pocket critic is calibrated for the model.

    Raises `SettingsError`, `OSError`, `ValueError`.
    """
    dialect = settings.choose_dialect(DIALECTS)
    if dialect is not None:
        return dialect
    directory = tokenizer_path(settings.model)
    return PocketCriticDialect(Calibration.load(directory) if directory else Calibration())


__all__ = ["CHAT_DIALECTS", "DIALECTS", "PRIOR", "RIGHT", "WRONG", "Case", "Question", "UnparsableCritique", "dialect_of"]
