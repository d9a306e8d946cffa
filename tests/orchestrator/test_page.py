"""The page, in a real Chromium."""

import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect
from redis_server import redis_server
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")]

PROBLEM = "Add 12 and 30 and 7."
FOREVER = ScriptedOptions(token_seconds=30)
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}


@asynccontextmanager
async def browser() -> AsyncGenerator[Browser]:
    """Start the system's Chromium, headless."""
    async with async_playwright() as playwright:
        path = shutil.which("chromium")
        chromium = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            await chromium.close()


@asynccontextmanager
async def open_page(running: Stack, path: str = "/", **options: Any) -> AsyncGenerator[Page]:
    """Open the page in a new browser context; a request to another host or an uncaught error fails the test."""
    options = {"viewport": DESK, **options}
    async with browser() as chromium:
        context = await chromium.new_context(**options)
        page = await context.new_page()
        failures: list[str] = []
        own = (running.urls[0], "data:")
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("request", lambda request: failures.extend([] if request.url.startswith(own) else [request.url]))
        await page.goto(running.urls[0] + path)
        await expect(page.locator("#strategy option")).not_to_have_count(0)
        yield page
        assert failures == []


async def submit(page: Page, problem: str = PROBLEM, strategy: str = "refine", options: str = "") -> None:
    """Fill in the form and submit it."""
    await page.get_by_label("Problem").fill(problem)
    await page.get_by_label("Strategy", exact=True).select_option(strategy)
    if options:
        await page.get_by_text("More options", exact=True).click()
        await page.get_by_label("Strategy parameters, as JSON").fill(options)
    await page.get_by_role("button", name="Solve").click()


async def test_a_solve_is_shown_as_it_happens(tmp_path: Path):
    """Lanes, labels, critiques, refinements as diffs, the budget by role, and the answer match the job's result."""
    async with stack() as running, open_page(running) as page:
        await submit(page, strategy="refine", options='{"rounds": 2, "gate": false, "gate_depth": "explain"}')
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        job = re.fullmatch(r".*#job=(job_\w+)", page.url)
        assert job
        result = (await running.client.get(f"/jobs/{job[1]}")).json()["result"]
        lanes = page.get_by_role("article")
        await expect(lanes).to_have_count(len(result["candidates"]))
        for lane, candidate in zip(await lanes.all(), result["candidates"], strict=True):
            steps = lane.get_by_role("listitem")
            await expect(steps).to_have_count(len(candidate["steps"]))
            for item, step in zip(await steps.all(), candidate["steps"], strict=True):
                if step["label"]:
                    await expect(item).to_contain_text(step["label"])
                if step["explanation"]:
                    await expect(item).to_contain_text("Critic:")
        assert await page.locator("ins, del, .kept").count() > 0
        await expect(lanes.filter(has_text="(chosen)")).to_have_count(1)
        spent = result["usage"]
        meter = page.get_by_role("meter")
        assert f"{spent['total_tokens']} of" in (await meter.get_attribute("aria-valuetext") or "")
        actor = spent["actor"]["prompt_tokens"] + spent["actor"]["completion_tokens"]
        await expect(page.locator("#spent-actor")).to_have_text(f"{actor:,}")
        await expect(page.get_by_role("status")).to_contain_text(result["answer"])
        await page.screenshot(path=tmp_path / "solved.png", full_page=True)


async def test_votes_are_shown(tmp_path: Path):
    """Each group of answers has a row with its votes and its weight."""
    async with stack() as running, open_page(running) as page:
        await submit(page, strategy="best_of_n", options='{"n": 5, "select": "weighted"}')
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        await expect(page.locator("#vote-list li").first).to_contain_text("weight")
        await page.screenshot(path=tmp_path / "votes.png", full_page=True)


async def test_a_link_replays_a_finished_solve(tmp_path: Path):
    """Another browser shows the problem, the same lanes and the same answer; `Replay` shows them again."""
    async with stack() as running:
        async with open_page(running) as page:
            await submit(page)
            await expect(page.get_by_role("button", name="Copy link")).to_be_enabled()
            shown, link = await page.locator("#lanes").inner_text(), page.url
        async with open_page(running, link.removeprefix(running.urls[0]), reduced_motion="reduce") as page:
            await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
            assert await page.locator("#lanes").inner_text() == shown
            assert await page.get_by_label("Problem").input_value() == PROBLEM
            await page.get_by_role("button", name="Replay").click()
            await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
            assert await page.locator("#lanes").inner_text() == shown
            await page.screenshot(path=tmp_path / "linked.png", full_page=True)
        async with open_page(running, "/#job=nothing") as page:
            await expect(page.get_by_role("alert")).to_contain_text("not_found")


async def test_stopping_and_answering_now():
    """`Answer now` ends the solve with the draft; `Stop` cancels it down to the engine."""
    async with stack(critic=FOREVER) as running, open_page(running) as page:
        await submit(page, options='{"gate_depth": "explain"}')
        await expect(page.get_by_text(re.compile(r"Answer \d+\."))).to_be_visible()
        await page.get_by_role("button", name="Answer now").click()
        await expect(page.locator("#answer-reason")).to_contain_text("you asked for an answer now")
        await expect(page.get_by_role("button", name="Answer now")).to_be_disabled()
        await page.get_by_role("button", name="Solve").click()
        await expect(page.get_by_text(re.compile(r"Answer \d+\."))).to_be_visible()
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("status")).to_have_text("Stopped.")
        assert running.critic.in_flight == 0


async def test_without_jobs_the_page_solves_directly():
    """If `/jobs` answers 503, the page uses `/solve` and disables the buttons that need a job."""
    slow = ScriptedOptions(token_seconds=0.02)
    async with stack(slow, redis_url="redis://127.0.0.1:9/0") as running, open_page(running) as page:
        await submit(page)
        await expect(page.get_by_role("button", name="Stop")).to_be_enabled()
        await expect(page.get_by_role("button", name="Answer now")).to_be_disabled()
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        await expect(page.get_by_role("button", name="Copy link")).to_be_disabled()


async def test_a_lost_connection_is_resumed(tmp_path: Path):
    """Redis stops and restarts during a solve; the page reconnects, and the solve can be stopped."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url) as running, open_page(running) as page:
            await submit(page)
            await expect(page.get_by_role("button", name="Answer now")).to_be_enabled()
            redis.kill()
            await expect(page.get_by_role("status")).to_have_text("The connection was lost; trying again.")
            redis.start()
            await page.get_by_role("button", name="Stop").click()
            await expect(page.get_by_role("status")).to_have_text("Stopped.")


async def test_errors_are_shown():
    """Invalid fields are named as the service names them; so are parameters that are not valid JSON."""
    async with stack() as running, open_page(running) as page:
        await submit(page, options='{"rounds": 99}')
        await expect(page.get_by_role("alert")).to_contain_text("rounds")
        await page.get_by_label("Strategy parameters, as JSON").fill("{")
        await page.get_by_role("button", name="Solve").click()
        await expect(page.get_by_role("alert")).to_contain_text("JSON")


async def test_text_of_models_is_not_markup():
    """Markup stays text, also in mathematics."""
    evil = "<img src=x onerror=alert(1)><b>Add</b> 2 and 3 \\(\\href{javascript:alert(1)}{x}\\)"
    async with stack() as running, open_page(running) as page:
        await page.evaluate(
            """async (text) => {
                const { mathText } = await import("./static/mathtext.js");
                const node = document.createElement("p");
                node.id = "probe";
                node.append(mathText(text), mathText("\\\\boxed{\\\\frac{1}{2}}"));
                document.body.append(node);
            }""",
            evil,
        )
        probe = page.locator("#probe")
        await expect(probe).to_contain_text("<img src=x onerror=alert(1)>")
        assert await probe.locator("img, b, a, script").count() == 0
        assert await probe.locator(".katex").count() == 2
        assert await probe.locator(".mfrac").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_the_page_is_accessible(scheme: str, size: dict[str, int], tmp_path: Path):
    """No violation found by axe, no horizontal scrolling, and keyboard control in the order of the page."""
    async with stack() as running, open_page(running, viewport=size, color_scheme=scheme) as page:
        order: list[str] = []
        for _ in range(6):
            await page.keyboard.press("Tab")
            order.append(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert order == ["Skip to the answer", "problem", "strategy", "tokens", "seconds", "More options"]
        await page.get_by_label("Problem").focus()
        await page.keyboard.type(PROBLEM)
        await page.get_by_label("Strategy", exact=True).select_option("best_of_n")
        await page.get_by_label("Problem").focus()
        await page.keyboard.press("Control+Enter")
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        report = await cast("Any", Axe()).run(page)
        assert report.violations_count == 0, report.generate_report()
        assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        await page.screenshot(path=tmp_path / f"{scheme}-{size['width']}.png", full_page=True)


async def test_static_files_have_policy_headers():
    """Security headers, no other host, and a problem object for a missing file."""
    async with stack() as running:
        page = await running.client.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert not re.search(r"https?://", page.text)
        for name in re.findall(r'(?:href|src)="(static/[^"]+)"', page.text):
            response = await running.client.get(f"/{name}")
            assert (response.status_code, response.headers["x-content-type-options"]) == (200, "nosniff")
        missing = await running.client.get("/static/nothing.js")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        for name in ("/static/../app.py", "/static/%2e%2e/routes.py"):
            async with httpx.AsyncClient(base_url=running.urls[0]) as raw:
                assert (await raw.get(name)).status_code == 404
