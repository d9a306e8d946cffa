"""Model ids of the OpenAI-compatible API: each selects a strategy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from services.errors import NotFound


@dataclass(frozen=True, slots=True)
class Preset:
    """The strategy behind a model id; if `plain`, the actor gets the conversation as it is, without a prompt for steps."""

    strategy: Mapping[str, Any]
    plain: bool = False


PRESETS: Mapping[str, Preset] = {
    "counterpoint": Preset({"name": "auto"}),
    "counterpoint-refine": Preset({"name": "refine"}),
    "counterpoint-best-of-n": Preset({"name": "best_of_n", "select": "weighted"}),
    "counterpoint-single": Preset({"name": "single"}),
    "actor": Preset({"name": "single"}, plain=True),
}
"""`actor` is the bare actor: cheap, for a frontend's titles and tags."""


class ModelEntry(BaseModel):
    """A model id."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "counterpoint"


class ModelList(BaseModel):
    """The response of `GET /v1/models`."""

    object: str = "list"
    data: tuple[ModelEntry, ...]


def preset(model: str) -> Preset:
    """Return the preset of a model id. Raises `NotFound`."""
    if model not in PRESETS:
        raise NotFound(f"there is no model {model[:64]!r}; there are {', '.join(PRESETS)}")
    return PRESETS[model]
