"""The documentation of chat frontends matches the service."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack import stack

from orchestrator.openai import PRESETS

DOCS = Path(__file__).parents[2] / "docs"
SENT = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "user": "somebody"}
"""Parameters that LibreChat adds to every request, according to its documentation."""


def _block(page: str, language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert match, f"{page} has no {language}"
    return match.group(1)


def _endpoint() -> dict[str, Any]:
    [endpoint] = yaml.safe_load(_block("librechat.md", "yaml"))["endpoints"]["custom"]
    return endpoint


@pytest.mark.anyio
async def test_requests_of_librechat_are_supported():
    """Its models exist, its budget takes effect, and the parameters that it is configured to drop would be ignored."""
    endpoint = _endpoint()
    assert {*endpoint["models"]["default"], endpoint["titleModel"]} == set(PRESETS)
    messages = [{"role": "user", "content": "Add 12 and 30 and 7."}]
    async with stack() as running:
        for model in (*endpoint["models"]["default"], endpoint["titleModel"]):
            body = {"model": model, "messages": messages, **SENT, **endpoint["addParams"]}
            response = await running.client.post("/v1/chat/completions", json=body)
            assert response.status_code == 200, response.text
            account = response.json()["usage"]["counterpoint"]
            assert account["ignored"] == sorted(endpoint["dropParams"])
            assert account["budget"]["limits"]["max_seconds"] == endpoint["addParams"]["budget"]["max_seconds"]
            assert endpoint["customParams"]["reasoningKey"] == "reasoning_content"


def test_the_table_of_models_is_complete():
    """Every preset has a row."""
    page = (DOCS / "open-webui.md").read_text("utf-8")
    assert re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE) == list(PRESETS)
    assert f"TASK_MODEL_EXTERNAL={_endpoint()['titleModel']}" in _block("open-webui.md", "sh")
