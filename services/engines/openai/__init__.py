"""The openai engine: any OpenAI-compatible server, or several replicas of one, over HTTP.

`engine` turns generations into requests that use the features found by `probe`; `wire` defines their bodies and chunks,
`servers` sends them to `replicas`, and a `breaker` keeps calls away from a failing replica for a while.
"""

from services.engines.openai.engine import OpenAIEngine, OpenAIOptions

__all__ = ["OpenAIEngine", "OpenAIOptions"]
