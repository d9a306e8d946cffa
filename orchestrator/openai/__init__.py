"""The OpenAI-compatible face of the orchestrator: `/v1/models` and `/v1/chat/completions`."""
