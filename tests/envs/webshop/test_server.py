import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlencode

import gymnasium as gym
import pytest

from agentgym_prm import ExpertAgent, collect
from agentgym_prm.envs import WEBSHOP
from agentgym_prm.envs.webshop.catalog import catalogue_of
from agentgym_prm.envs.webshop.engine import Engine
from agentgym_prm.envs.webshop.server import ShopServer, _framed
from tests.envs.webshop.shops import shoe_goal, shop_of, small_catalogue

OPTIONS = {"difficulty": "small", "split": "test"}


def make_env():
    return gym.make(WEBSHOP, **OPTIONS)


@contextmanager
def serving(**settings):
    server = ShopServer(make_env, **settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Client(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Client:
    """Follows redirections as a browser does."""

    def __init__(self, port):
        self.port = port

    def request(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Host": f"localhost:{self.port}"} | {name.title(): value for name, value in headers.items()}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def get(self, path):
        answer, text = self.request("GET", path)
        if answer.status == 303:
            return self.get(answer.getheader("Location"))
        assert answer.status == 200, text
        return path, text

    def send(self, path, command):
        answer, text = self.request("POST", path, urlencode({"command": command}))
        assert answer.status == 303, text
        return self.get(answer.getheader("Location"))[1]


def test_a_game_is_played_with_the_commands_of_agents_and_shows_the_engines_own_pages():
    env = gym.make(WEBSHOP, expert="oracle", **OPTIONS)
    _, info = env.reset(options={"task": 3})
    with serving(task=3) as browser:
        path, page = browser.get("/")
        assert "task 3" in page
        assert info["task"] in page
        steps = 0
        while not env.unwrapped.engine.done:
            command = info["expert_action"]
            *_, info = env.step(command)
            page = browser.send(path, command)
            steps += 1
            assert f"step {steps} of 15" in page
            body = env.unwrapped.engine.observe("html").partition("<body>")[2].partition("<script>")[0]
            assert page.partition("</header>")[2].startswith(body)
        assert '<b class="good">reward 1.00</b>' in page
        assert "r_type 1.00" in page
        assert 'data-mode="over"' in page
        assert browser.send(path, "search[more]") == page
    env.close()


def test_what_does_nothing_says_so_and_the_cap_ends_the_game():
    with serving() as browser:
        path, _ = browser.get("/task/0")
        page = browser.send(path, "click[<b>nowhere</b>]")
        assert "<code>click[&lt;b&gt;nowhere&lt;/b&gt;]</code> did nothing" in page
        for _ in range(14):
            page = browser.send(path, "click[nowhere]")
        assert "no steps left" in page
        assert 'data-mode="over"' in page


def test_players_do_not_disturb_each_other():
    with serving() as browser:
        first, _ = browser.get("/task/0")
        second, page = browser.get("/task/0")
        browser.send(first, "search[shirt]")
        assert browser.get(second)[1] == page


def test_a_recorded_episode_is_watched_step_by_step():
    envs = gym.make_vec(WEBSHOP, num_envs=1, expert="oracle", **OPTIONS)
    (episode,) = collect(ExpertAgent("oracle"), envs, [5])
    envs.close()
    with serving(trajectories=[episode]) as browser:
        _, page = browser.get("/")
        assert episode.task in page
        assert 'href="/trajectory/0/step/0"' in page
        for turn, step in enumerate(episode.steps):
            _, page = browser.get(f"/trajectory/0/step/{turn}")
            assert f"then <code>{step.action.command}</code>" in page
            assert "answers otherwise" not in page
        _, page = browser.get(f"/trajectory/0/step/{len(episode.steps)}")
        assert "reward 1.00" in page
        assert browser.request("GET", "/trajectory/0/step/99")[0].status == 404


def test_a_recording_of_another_shop_is_noticed():
    envs = gym.make_vec(WEBSHOP, num_envs=1, expert="oracle", **OPTIONS)
    (episode,) = collect(ExpertAgent("oracle"), envs, [5])
    envs.close()
    other = type(episode).from_json(json.loads(json.dumps(episode.to_json()).replace("[button]", "[knob]")))
    with serving(trajectories=[other]) as browser:
        assert "answers otherwise than when this was recorded" in browser.get("/trajectory/0/step/1")[1]


def test_a_recording_that_goes_on_where_the_shop_has_ended_is_shown_to_the_end():
    envs = gym.make_vec(WEBSHOP, num_envs=1, expert="oracle", **OPTIONS)
    (episode,) = collect(ExpertAgent("oracle"), envs, [5])
    envs.close()
    last = episode.steps[-1]
    other = replace(episode, steps=(*episode.steps, replace(last, action=replace(last.action, command="look"))))
    with serving(trajectories=[replace(other, final_observation="a page")]) as browser:
        page = browser.get(f"/trajectory/0/step/{len(other.steps)}")[1]
    assert "answers otherwise than when this was recorded" in page


@pytest.mark.parametrize(
    "path", ["/nowhere", "/task/-1", "/task/1e3", "/task/999999", "/session/unknown", "/../etc", f"/task/{'1' * 5000}"]
)
def test_there_is_nothing_elsewhere(path):
    with serving() as browser:
        assert browser.request("GET", path)[0].status == 404


def test_other_sites_and_other_names_are_refused():
    with serving() as browser:
        path, page = browser.get("/")
        body = urlencode({"command": "search[shirt]"})
        assert browser.request("POST", path, body, origin="http://elsewhere.example")[0].status == 403
        assert browser.request("GET", path, host="elsewhere.example")[0].status == 403
        assert browser.request("POST", path, "command=" + "a" * 70_000)[0].status == 413
        assert browser.request("POST", path, "nothing=1")[0].status == 404
        assert browser.get(path)[1] == page


def test_a_recordings_text_stays_text():
    """A file from elsewhere may hold anything, also where a number belongs."""
    envs = gym.make_vec(WEBSHOP, num_envs=1, expert="oracle", **OPTIONS)
    (episode,) = collect(ExpertAgent("oracle"), envs, [5])
    envs.close()
    hostile = "<img src=x>"
    step = replace(episode.steps[0], action=replace(episode.steps[0].action, command=hostile))
    with serving(trajectories=[replace(episode, task=hostile, episode=hostile, steps=(step,))]) as browser:
        for path in ("/", "/trajectory/0/step/0", "/trajectory/0/step/1"):
            assert hostile not in browser.get(path)[1]


def test_what_another_site_embeds_starts_no_game_and_a_link_there_does():
    with serving() as browser:
        embedded = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}
        assert browser.request("GET", "/task/0", **embedded)[0].status == 403
        assert browser.request("GET", "/task/0", **{**embedded, "sec-fetch-site": "same-site"})[0].status == 403
        assert browser.request("GET", "/task/0", **{**embedded, "sec-fetch-dest": "document"})[0].status == 303
        own = {"sec-fetch-site": "same-origin", "sec-fetch-dest": "empty"}
        assert browser.request("GET", "/task/0", **own)[0].status == 303


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "many", "\u00b2"])
def test_a_length_that_is_no_number_is_answered(length):
    with serving() as browser:
        answer, _ = browser.request("POST", "/session/unknown", "", **{"content-length": length})
        assert answer.status == 413


def test_a_products_text_stays_text():
    hostile = "<script>alert(1)</script></head><body onload=alert(2)>\"'"
    sold = replace(
        small_catalogue().product(0),
        title=hostile,
        description=hostile,
        options={"size": (hostile.lower(),)},
        image='x" onerror="a',
    )
    engine = Engine(shop_of(catalogue_of([sold], "hostile")))
    engine.reset(replace(shoe_goal(), instruction=hostile), "0")
    for command in ("search[alert]", f"click[{sold.asin.lower()}]", "click[description]", "click[< prev]"):
        engine.step(command)
        assert engine.valid
        page = _framed(engine, ["told"], mode="play", next=hostile)
        assert (page.count("<script"), page.count("<body"), page.count("</head>")) == (1, 1, 1)
        assert 'onerror="' not in page


def test_every_answer_forbids_scripts_of_others():
    with serving() as browser:
        for path in ("/", "/shop.js", "/shop.css", "/nowhere"):
            answer, _ = browser.request("GET", path)
            if answer.status != 303:
                assert "script-src 'self'" in answer.getheader("Content-Security-Policy")
