"""The openai engine: any OpenAI-compatible server, or several replicas of one, over HTTP.

`engine` turns generations into requests that use the features which `probe` has tested; `wire` has their bodies and
chunks, `servers` sends them to `replicas`, and a `breaker` leaves a failing replica alone for a while.
"""

from services.engines.openai.engine import OpenAIEngine, OpenAIOptions

__all__ = ["OpenAIEngine", "OpenAIOptions"]
