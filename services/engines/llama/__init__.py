"""The embedded engine: llama.cpp in this process, on the CPU.

Only `library` uses `xllamacpp`, which it imports when a model is loaded; `wire` defines the requests and events; `engine`
shares the model's slots among generations.
"""

from services.engines.llama.engine import CAPABILITIES, EmbeddedEngine
from services.engines.llama.library import EmbeddedOptions, Event, Llama

__all__ = ["CAPABILITIES", "EmbeddedEngine", "EmbeddedOptions", "Event", "Llama"]
