"""Dashboards, rules and alerts: a real Prometheus that scrapes the services has data for each query."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml
from fastapi import FastAPI
from jobs import submit
from openai_server import Server
from stack import Stack, stack
from starlette.responses import PlainTextResponse

from actor_service.routes import router as actor_router
from actor_service.service import ActorService
from counterpoint.supervisor import free_port
from services.engines.openai_engine import OpenAIEngine, OpenAIOptions
from services.engines.scripted import ScriptedOptions
from services.role import create_role_app
from services.settings import ActorSettings
from services.testing import serve

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "deploy/grafana/provisioning"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (PROVISIONING / "dashboards").glob("*.json")
}
PANELS: list[dict[str, Any]] = [panel for board in DASHBOARDS.values() for panel in board["panels"]]
QUERIES: list[str] = [target["expr"].replace("$__rate_interval", "1m") for panel in PANELS for target in panel["targets"]]
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: re.sub(r" (==|>) [\d.]+", "", rule["expr"]) for rule in RULES if "alert" in rule}
"""Each alert's query without its threshold."""
RELIED_UPON = {
    "counterpoint_solves_total",
    "counterpoint_solve_seconds_bucket",
    "counterpoint_first_event_seconds_bucket",
    "counterpoint_tokens_total",
    "counterpoint_calls_total",
    "counterpoint_budget_utilisation_ratio_bucket",
    "counterpoint_in_flight",
}
"""Metrics with stable names."""
ON_OCCASION = {"status", "alertstate"}
"""Labels that have a value only after a failure."""


def test_grafana_finds_its_dashboards_and_data_source():
    """Compose mounts the provider's folder, and every panel and query uses the provisioned data source."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    (mount,) = compose["services"]["grafana"]["volumes"]
    source_path, target, _ = mount.split(":")
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/counterpoint.yml").read_text("utf-8"))["providers"]
    inside = Path(provider["options"]["path"]).relative_to(target)
    assert (ROOT / source_path / inside).resolve() == PROVISIONING / "dashboards"
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    used = [part["datasource"] for panel in PANELS for part in (panel, *panel["targets"])]
    assert used
    assert [name for name in used if name != {"type": source["type"], "uid": source["uid"]}] == []
    assert {board["uid"] for board in DASHBOARDS.values()} == set(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_are_described_and_do_not_overlap(name: str):
    """Each panel has a unique id and place, a title, a description and a unit."""
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 6
    assert all(panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_stable_metric_is_shown():
    """The dashboards show all metrics with stable names."""
    assert set(re.findall(r"counterpoint_\w+", " ".join(QUERIES))) >= RELIED_UPON


@asynccontextmanager
async def prometheus(services: list[str], engines: list[str], directory: Path) -> AsyncGenerator[httpx.AsyncClient]:
    """Run Prometheus with the configuration in `deploy`, except for targets and scrape intervals."""
    shutil.copytree(ROOT / "deploy/prometheus", directory / "prometheus")
    path = directory / "prometheus/prometheus.yml"
    configuration = yaml.safe_load(path.read_text("utf-8"))
    configuration["global"] = {"scrape_interval": "200ms", "evaluation_interval": "500ms"}
    del configuration["scrape_configs"][0]["dns_sd_configs"]
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = services
    path.write_text(yaml.safe_dump(configuration), "utf-8")
    (directory / "prometheus/engines/servers.yml").write_text(yaml.safe_dump([{"targets": engines}]), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={directory}/data"]
    async with await anyio.open_process(
        [*command, f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
                yield client
        finally:
            process.terminate()


async def query_api(client: httpx.AsyncClient, path: str, **params: str) -> Any:
    """Return the answer of Prometheus, as soon as it is ready and the answer is not empty."""
    while True:
        with suppress(httpx.TransportError):
            response = await client.get(f"/api/v1/{path}", params=params)
            assert response.status_code in {200, 503}, response.text
            data: Any = response.json()["data"] if response.is_success else None
            if data["result"] if path == "query" and data else data:
                return data
        await anyio.sleep(0.05)


async def answer(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    """Return the series of a query. Fails if there is none within 30 seconds."""
    try:
        with anyio.fail_after(30):
            return (await query_api(client, "query", query=query))["result"]
    except TimeoutError:
        raise AssertionError(f"there is no answer to {query}") from None


async def use(running: Stack) -> None:
    """Run solves of every kind repeatedly: successful, at a limit, with unparsable critiques, as jobs."""
    seed = 0
    while True:
        seed += 1
        vote = {"name": "best_of_n", "n": 3, "select": "majority", "inner": {"name": "refine", "rounds": 1}}
        for strategy in ("refine", "best_of_n", vote):
            await running.solve(strategy=strategy, sampling={"seed": seed})
        await running.solve(budget={"max_calls": 2}, sampling={"seed": seed})
        await submit(running.client)
        chat = {"model": "counterpoint-single", "messages": [{"role": "user", "content": "Add 1 and 2."}]}
        assert (await running.client.post("/v1/chat/completions", json=chat)).is_success


@asynccontextmanager
async def before_servers() -> AsyncGenerator[str]:
    """Run an actor on the `openai` engine; yield its URL."""
    settings = ActorSettings.load(dialect="structured")
    async with serve(Server().app()) as url:

        async def open_engine() -> OpenAIEngine:
            return OpenAIEngine(OpenAIOptions((url,), "scripted", 4096))

        actor = ActorService(settings, open_engine)
        async with serve(create_role_app(actor, "actor", [actor_router(actor)])) as actor_url:
            yield actor_url


def recorded_vllm() -> FastAPI:
    """Return an application that serves recorded vLLM metrics, see `recorded/record.py`."""
    app = FastAPI()
    text = Path(__file__).with_name("recorded").joinpath("vllm.txt").read_text("utf-8")

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(text)

    return app


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
async def test_every_query_has_data(tmp_path: Path):
    """No panel, rule or alert misspells a metric, label or value, and every rule can be evaluated."""
    async with AsyncExitStack() as opened:
        running = await opened.enter_async_context(stack(critic=ScriptedOptions(garbage_rate=0.3)))
        servers = await opened.enter_async_context(before_servers())
        engine = await opened.enter_async_context(serve(recorded_vllm()))
        services, engines = ([url.removeprefix("http://") for url in urls] for urls in ((*running.urls, servers), [engine]))
        client = await opened.enter_async_context(prometheus(services, engines, tmp_path))
        using = await opened.enter_async_context(anyio.create_task_group())
        using.start_soon(use, running)
        recorded = [rule["record"] for rule in RULES if "record" in rule]
        for query in [*recorded, *QUERIES, *ALERTS.values()]:
            series = await answer(client, query)
            grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query)))) - {"le"}
            assert all(grouped <= set(one["metric"]) for one in series), query
        for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
            await values_exist(client, query)
        groups = (await query_api(client, "rules"))["groups"]
        assert {rule["name"]: rule["health"] for group in groups for rule in group["rules"]} == {
            rule.get("record") or rule["alert"]: "ok" for rule in RULES
        }
        using.cancel_scope.cancel()


async def values_exist(client: httpx.AsyncClient, query: str) -> None:
    """Check that every label value in a query is one that the metric has, or may have."""
    for metric, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", query):
        for label, pattern in re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', matchers):
            if label in ON_OCCASION:
                continue
            with anyio.fail_after(20):
                known = await query_api(client, f"label/{label}/values", **{"match[]": metric})
            for part in re.sub(r"\((.*)\)", r"\1", pattern).split("|"):
                assert any(re.search(f"{part}$", value) for value in known), f"{metric}: {label} is never {part}"
