"""The shop in a real browser, without a window: needs playwright and Chromium (`make check-browser`).

Every kind of page is used as a person does, by mouse and keyboard, and must lead where the agents' commands lead.
"""

import os
import shutil
import threading
from contextlib import contextmanager

import gymnasium as gym
import pytest

from agentgym_prm import ExpertAgent, collect
from agentgym_prm.envs import WEBSHOP
from agentgym_prm.envs.webshop.server import ShopServer

pytestmark = pytest.mark.live
OPTIONS = {"difficulty": "full", "split": "test"}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def serving(**settings):
    server = ShopServer(lambda: gym.make(WEBSHOP, **OPTIONS), **settings)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def page_of(browser, address):
    """A page that fails the test on an error in its script, or on whatever its policy blocks."""
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.route("https://**", lambda route: route.abort())  # product images lie elsewhere
    page.goto(address)
    yield page
    page.close()
    assert [error for error in errors if "ERR_FAILED" not in error] == []


def clicked(page, selector):
    """Click, and wait for the page that it leads to."""
    with page.expect_navigation():
        page.click(selector)


def picture(page, name):
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_a_person_shops_by_mouse(browser):
    env = gym.make(WEBSHOP, **OPTIONS)
    env.reset(options={"task": 0})
    goal = env.unwrapped.engine.goal
    with serving() as server, page_of(browser, server.address) as page:
        picture(page, "search")
        page.fill("#search_input", goal.name)
        with page.expect_navigation():
            page.press("#search_input", "Enter")
        assert "Page 1 (Total results:" in page.inner_text("body")
        picture(page, "results")
        clicked(page, "text=Next >")
        assert "Page 2" in page.inner_text("body")
        clicked(page, "text=< Prev")
        clicked(page, f"text={goal.asin}")
        assert goal.name in page.inner_text("h2")
        values = list(goal.options.values()) if hasattr(goal.options, "values") else list(goal.options)
        for value in values:
            clicked(page, f'label:text-is("{value}")')
            assert page.locator(f'input[value="{value}"]').is_checked()
        picture(page, "item")
        for sub_page in ("Description", "Features", "Reviews"):
            clicked(page, f"button:text-is('{sub_page}')")
            picture(page, sub_page.lower())
            clicked(page, "text=< Prev")
        assert all(page.locator(f'input[value="{value}"]').is_checked() for value in values)
        clicked(page, "text=Buy Now")
        assert "reward 1.00" in page.inner_text(".bar")
        assert not page.is_visible("text=Goal")
        picture(page, "done")
        clicked(page, "text=next task")
        assert "task 1" in page.inner_text(".bar")
    env.close()


def test_a_recorded_episode_is_watched_by_keyboard(browser):
    envs = gym.make_vec(WEBSHOP, num_envs=1, expert="oracle", **OPTIONS)
    (episode,) = collect(ExpertAgent("oracle"), envs, [0])
    envs.close()
    with serving(trajectories=[episode]) as server, page_of(browser, server.address) as page:
        picture(page, "episodes")
        clicked(page, "td a")
        for turn, step in enumerate(episode.steps):
            assert f"step {turn} of {len(episode.steps)}" in page.inner_text(".bar")
            if step.action.command.startswith("search["):
                assert page.input_value("#search_input") == step.action.command[7:-1]
            else:
                assert page.locator(".next").count() == 1
            picture(page, f"watch_{turn}")
            with page.expect_navigation():
                page.keyboard.press("ArrowRight")
        assert "reward 1.00" in page.inner_text(".bar")
        with page.expect_navigation():
            page.keyboard.press("ArrowLeft")
        assert f"step {len(episode.steps) - 1}" in page.inner_text(".bar")
        page.click(".next")  # looking on changes nothing
        assert f"step {len(episode.steps) - 1}" in page.inner_text(".bar")
