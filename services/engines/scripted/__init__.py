"""The scripted engine: exact counts, seeds, latency and failures without a model, for tests and benchmarks.

`engine` plays a script, a function that returns the text of a sample; `script` defines the scripts.
"""

from services.engines.scripted.engine import CAPABILITIES, ScriptedEngine, ScriptedOptions, tokens
from services.engines.scripted.script import Plausible, Script, fixed

__all__ = ["CAPABILITIES", "Plausible", "Script", "ScriptedEngine", "ScriptedOptions", "fixed", "tokens"]
