"""The dashboard shows what the services export: every query, asked of a real Prometheus that scrapes them, has an answer."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml
from stack import Stack, stack

from counterpoint.supervisor import free_port
from services.engines.scripted import ScriptedOptions

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "deploy/grafana/provisioning"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (PROVISIONING / "dashboards").glob("*.json")
}
PANELS: list[dict[str, Any]] = [panel for board in DASHBOARDS.values() for panel in board["panels"]]
QUERIES: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]
RELIED_UPON = {
    "counterpoint_solves_total",
    "counterpoint_solve_seconds_bucket",
    "counterpoint_first_event_seconds_bucket",
    "counterpoint_tokens_total",
    "counterpoint_calls_total",
    "counterpoint_budget_utilisation_ratio_bucket",
    "counterpoint_in_flight",
}
"""The metrics whose names are promised."""


def test_grafana_finds_its_dashboards_and_their_source():
    """The provider's folder is mounted from here; every panel and query names the source that is provisioned."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    (mount,) = compose["services"]["grafana"]["volumes"]
    here, there, _ = mount.split(":")
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/counterpoint.yml").read_text("utf-8"))["providers"]
    inside = Path(provider["options"]["path"]).relative_to(there)
    assert (ROOT / here / inside).resolve() == PROVISIONING / "dashboards"
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    used = [part["datasource"] for panel in PANELS for part in (panel, *panel["targets"])]
    assert used
    assert [name for name in used if name != {"type": source["type"], "uid": source["uid"]}] == []
    assert {board["uid"] for board in DASHBOARDS.values()} == set(DASHBOARDS)


def test_the_panels_say_what_they_show_and_do_not_overlap():
    """Each has its own id and place, a title, a sentence and a unit."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) > 6
    assert all(panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_every_metric_that_is_promised_is_shown():
    """Whoever builds a dashboard of their own may start from this one."""
    assert set(re.findall(r"counterpoint_\w+", " ".join(QUERIES))) >= RELIED_UPON


@asynccontextmanager
async def prometheus(targets: list[str], directory: Path) -> AsyncGenerator[httpx.AsyncClient]:
    """A Prometheus with the configuration in `deploy`, but for where the services are and how often they are asked."""
    configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    configuration["global"]["scrape_interval"] = "100ms"
    (job,) = configuration["scrape_configs"]
    assert len(job["static_configs"][0]["targets"]) == len(targets)
    job["static_configs"][0]["targets"] = targets
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    async with await anyio.open_process(
        [*command, f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
                yield client
        finally:
            process.terminate()


async def answer(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers, as soon as it has started and made anything of it."""
    while True:
        with suppress(httpx.TransportError):
            response = await client.get("/api/v1/query", params={"query": query})
            assert response.status_code in {200, 503}, response.text
            found: list[dict[str, Any]] = response.json()["data"]["result"] if response.is_success else []
            if found:
                return found
        await anyio.sleep(0.05)


async def use(running: Stack) -> None:
    """Solves of every kind: well, and with critiques that cannot be read."""
    for seed in range(3):
        for strategy in ("refine", {"name": "best_of_n", "n": 2}):
            await running.solve(strategy=strategy, sampling={"seed": seed})


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
async def test_every_query_has_an_answer(tmp_path: Path):
    """No metric is misspelt, and every label that a query groups by is one that the metric has."""
    async with stack(critic=ScriptedOptions(garbage_rate=0.5)) as running:
        await use(running)
        targets = [url.removeprefix("http://") for url in running.urls]
        async with prometheus(targets, tmp_path) as client:
            for query in QUERIES:
                with anyio.fail_after(20):
                    found = await answer(client, query.replace("$__rate_interval", "1m"))
                (labels,) = re.findall(r"by \(([^)]*)\)", query) or [""]
                grouped = set(re.findall(r"\w+", labels)) - {"le"}
                assert all(grouped <= set(series["metric"]) for series in found), query
