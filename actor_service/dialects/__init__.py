"""Dialects of the actor: the prompts, each for one family of models, as pure functions of texts.

A dialect is a class with the methods of `base.ActorDialect`, listed in `DIALECTS`. It receives neutralised texts.
"""

from actor_service.dialects.base import MAX_CRITIQUE_CHARS, ActorDialect
from actor_service.dialects.chat import MATHCRITIQUE, STRUCTURED
from actor_service.dialects.pocket import PocketActorDialect

DIALECTS: dict[str, ActorDialect] = {dialect.name: dialect for dialect in (STRUCTURED, MATHCRITIQUE, PocketActorDialect())}
"""The dialects by name."""

__all__ = ["DIALECTS", "MAX_CRITIQUE_CHARS", "ActorDialect"]
