"""The embedded engine: llama.cpp in this process, on the CPU.

`library` alone touches `xllamacpp`, and imports it when a model is loaded; `wire` is its requests and events; `engine`
shares the model's slots among generations.
"""

from services.engines.llama.engine import CAPABILITIES, EmbeddedEngine, EmbeddedOptions
from services.engines.llama.library import Event, Llama

__all__ = ["CAPABILITIES", "EmbeddedEngine", "EmbeddedOptions", "Event", "Llama"]
