"""The scripted engine: no model, but exact counts, seeds, latency and failures, for tests, load and benchmarks.

`engine` plays a script, a function from a generation and a source of randomness to a text; `script` has the scripts.
"""

from services.engines.scripted.engine import CAPABILITIES, ScriptedEngine, ScriptedOptions, tokens
from services.engines.scripted.script import Plausible, Script, fixed

__all__ = ["CAPABILITIES", "Plausible", "Script", "ScriptedEngine", "ScriptedOptions", "fixed", "tokens"]
