"""The embedded engine: llama.cpp in this process, on the CPU.

`library` alone uses `xllamacpp`, and imports it when a model is loaded; `wire` defines its requests and events; `engine`
shares the slots of the model among generations.
"""

from services.engines.llama.engine import CAPABILITIES, EmbeddedEngine
from services.engines.llama.library import EmbeddedOptions, Event, Llama

__all__ = ["CAPABILITIES", "EmbeddedEngine", "EmbeddedOptions", "Event", "Llama"]
