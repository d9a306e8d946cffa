"""The OpenAI-compatible API: `/v1/models` and `/v1/chat/completions`.

A chat completion is a solve: the model id selects the strategy, the exchange between actor and critic is the reasoning, the
chosen solution is the content, and `usage.counterpoint` holds the account. Errors have OpenAI's format.
"""

from orchestrator.openai.presets import PRESETS
from orchestrator.openai.routes import router
from orchestrator.openai.wire import refuse

__all__ = ["PRESETS", "refuse", "router"]
