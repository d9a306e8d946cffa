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
    """The system's Chromium, headless."""
    async with async_playwright() as playwright:
        path = shutil.which("chromium")
        found = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield found
        finally:
            await found.close()


@asynccontextmanager
async def opened(running: Stack, path: str = "/", **options: Any) -> AsyncGenerator[Page]:
    """The page, in a context of its own; a request to another host or an error in its console fails the test."""
    options = {"viewport": DESK, **options}
    async with browser() as chromium:
        context = await chromium.new_context(**options)
        page = await context.new_page()
        wrong: list[str] = []
        own = (running.urls[0], "data:")
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.extend([] if request.url.startswith(own) else [request.url]))
        await page.goto(running.urls[0] + path)
        await expect(page.locator("#strategy option")).not_to_have_count(0)
        yield page
        assert wrong == []


async def ask(page: Page, problem: str = PROBLEM, strategy: str = "refine", options: str = "") -> None:
    """Fill in the form and send it."""
    await page.get_by_label("Problem").fill(problem)
    await page.get_by_label("Strategy", exact=True).select_option(strategy)
    if options:
        await page.get_by_text("More", exact=True).click()
        await page.get_by_label("Parameters of the strategy, as JSON").fill(options)
    await page.get_by_role("button", name="Solve").click()


async def test_a_problem_is_solved_before_ones_eyes(tmp_path: Path):
    """Lanes, labels, the critique, the refinement as a difference, the budget by role, the answer; as the job has them."""
    async with stack() as running, opened(running) as page:
        await ask(page, strategy="refine", options='{"rounds": 2, "gate": false, "gate_depth": "explain"}')
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        job = re.fullmatch(r".*#job=(job_\w+)", page.url)
        assert job
        result = (await running.client.get(f"/jobs/{job[1]}")).json()["result"]
        lanes = page.get_by_role("article")
        await expect(lanes).to_have_count(len(result["candidates"]))
        for lane, candidate in zip(await lanes.all(), result["candidates"], strict=True):
            steps = lane.get_by_role("listitem")
            await expect(steps).to_have_count(len(candidate["steps"]))
            for step, told in zip(await steps.all(), candidate["steps"], strict=True):
                if told["label"]:
                    await expect(step).to_contain_text(told["label"])
                if told["explanation"]:
                    await expect(step).to_contain_text("Critic:")
        assert await page.locator("ins, del, .kept").count() > 0
        await expect(lanes.filter(has_text="(chosen)")).to_have_count(1)
        spent = result["usage"]
        meter = page.get_by_role("meter")
        assert f"{spent['total_tokens']} of" in (await meter.get_attribute("aria-valuetext") or "")
        actor = spent["actor"]["prompt_tokens"] + spent["actor"]["completion_tokens"]
        await expect(page.locator("#spent-actor")).to_have_text(f"{actor:,}")
        await expect(page.get_by_role("status")).to_contain_text(result["answer"])
        await page.screenshot(path=tmp_path / "solved.png", full_page=True)


async def test_votes_gather(tmp_path: Path):
    """A row a group, with votes and weight."""
    async with stack() as running, opened(running) as page:
        await ask(page, strategy="best_of_n", options='{"n": 5, "select": "weighted"}')
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        await expect(page.locator("#vote-list li").first).to_contain_text("weight")
        await page.screenshot(path=tmp_path / "votes.png", full_page=True)


async def test_a_link_replays_a_finished_solve(tmp_path: Path):
    """In another browser: the problem, the same lanes and the same answer; `Replay` shows it again."""
    async with stack() as running:
        async with opened(running) as page:
            await ask(page)
            await expect(page.get_by_role("button", name="Copy link")).to_be_enabled()
            shown, link = await page.locator("#lanes").inner_text(), page.url
        async with opened(running, link.removeprefix(running.urls[0]), reduced_motion="reduce") as page:
            await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
            assert await page.locator("#lanes").inner_text() == shown
            assert await page.get_by_label("Problem").input_value() == PROBLEM
            await page.get_by_role("button", name="Replay").click()
            await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
            assert await page.locator("#lanes").inner_text() == shown
            await page.screenshot(path=tmp_path / "linked.png", full_page=True)
        async with opened(running, "/#job=nothing") as page:
            await expect(page.get_by_role("alert")).to_contain_text("not_found")


async def test_stopping_and_answering_now():
    """Stop reaches the engine; answer now ends with the draft."""
    async with stack(critic=FOREVER) as running, opened(running) as page:
        await ask(page, options='{"gate_depth": "explain"}')
        await expect(page.get_by_text(re.compile(r"Answer \d+\."))).to_be_visible()
        await page.get_by_role("button", name="Answer now").click()
        await expect(page.locator("#answer-why")).to_contain_text("you asked for an answer now")
        await expect(page.get_by_role("button", name="Answer now")).to_be_disabled()
        await page.get_by_role("button", name="Solve").click()
        await expect(page.get_by_text(re.compile(r"Answer \d+\."))).to_be_visible()
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("status")).to_have_text("Stopped.")
        assert running.critic.in_flight == 0


async def test_without_jobs_it_solves_directly():
    """When /jobs is 503: the answer comes over /solve, and what needs a job is disabled."""
    slow = ScriptedOptions(token_seconds=0.02)
    async with stack(slow, redis_url="redis://127.0.0.1:9/0") as running, opened(running) as page:
        await ask(page)
        await expect(page.get_by_role("button", name="Stop")).to_be_enabled()
        await expect(page.get_by_role("button", name="Answer now")).to_be_disabled()
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        await expect(page.get_by_role("button", name="Copy link")).to_be_disabled()


async def test_a_connection_that_breaks_is_taken_up_again(tmp_path: Path):
    """Redis goes and comes back in the middle: every step once."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url) as running, opened(running) as page:
            await ask(page)
            await expect(page.get_by_role("button", name="Answer now")).to_be_enabled()
            redis.kill()
            await expect(page.get_by_role("status")).to_have_text("The connection was lost; trying again.")
            redis.start()
            await page.get_by_role("button", name="Stop").click()
            await expect(page.get_by_role("status")).to_have_text("Stopped.")


async def test_what_is_wrong_is_said():
    """Fields by name, as the service says it; options that are no JSON."""
    async with stack() as running, opened(running) as page:
        await ask(page, options='{"rounds": 99}')
        await expect(page.get_by_role("alert")).to_contain_text("rounds")
        await page.get_by_label("Parameters of the strategy, as JSON").fill("{")
        await page.get_by_role("button", name="Solve").click()
        await expect(page.get_by_role("alert")).to_contain_text("JSON")


async def test_what_models_write_is_text():
    """Markup stays text, in the problem, in steps and in mathematics."""
    evil = "<img src=x onerror=alert(1)><b>Add</b> 2 and 3 \\(\\href{javascript:alert(1)}{x}\\)"
    async with stack() as running, opened(running) as page:
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
async def test_everybody_can_use_it(scheme: str, size: dict[str, int], tmp_path: Path):
    """By axe: labels, contrast, roles; no sideways scrolling; by keyboard alone, in the order of the page."""
    async with stack() as running, opened(running, viewport=size, color_scheme=scheme) as page:
        order: list[str] = []
        for _ in range(6):
            await page.keyboard.press("Tab")
            order.append(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert order == ["To the answer", "problem", "strategy", "tokens", "seconds", "More"]
        await page.get_by_label("Problem").focus()
        await page.keyboard.type(PROBLEM)
        await page.get_by_label("Strategy", exact=True).select_option("best_of_n")
        await page.get_by_label("Problem").focus()
        await page.keyboard.press("Control+Enter")
        await expect(page.get_by_role("heading", name="Answer")).to_be_visible()
        found = await cast("Any", Axe()).run(page)
        assert found.violations_count == 0, found.generate_report()
        assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        await page.screenshot(path=tmp_path / f"{scheme}-{size['width']}.png", full_page=True)


async def test_the_files_are_the_services_own():
    """Policy headers, types, no host but this one; what is not there is a problem object."""
    async with stack() as running:
        page = await running.client.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert not re.search(r"https?://", page.text)
        for name in re.findall(r'(?:href|src)="(static/[^"]+)"', page.text):
            found = await running.client.get(f"/{name}")
            assert (found.status_code, found.headers["x-content-type-options"]) == (200, "nosniff")
        gone = await running.client.get("/static/nothing.js")
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
        for name in ("/static/../app.py", "/static/%2e%2e/routes.py"):
            async with httpx.AsyncClient(base_url=running.urls[0]) as raw:
                assert (await raw.get(name)).status_code == 404
