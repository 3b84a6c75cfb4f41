"""The native engine against sessions that were recorded from the original (`make record-webshop`)."""

import json
import lzma
from collections.abc import Iterator

import pytest

from agentgym_prm.envs.webshop.engine import OBSERVATION_MODES, Engine
from tests.live.webshop_original import Shown
from tests.live.webshop_parity import RECORDED, SMALL_SESSIONS, goal_for, recorded, shop_named
from tests.live.webshop_walks import ShopWalk


def sessions(kind: str) -> Iterator[dict]:
    with lzma.open(RECORDED, "rt", encoding="utf-8") as file:
        next(file)  # provenance
        for line in file:
            session = json.loads(line)
            if session["shop"].startswith(kind):
                yield session


def shown_by(engine: Engine) -> Shown:
    observations = {mode: engine.observe(mode) for mode in OBSERVATION_MODES}
    return Shown(observations, engine.clickables(), engine.has_search_bar, engine.outcome, engine.done)


def assert_replays(session: dict) -> None:
    """What was typed follows from what was shown before it, so one difference shows in everything that comes after."""
    shop, seed = session["shop"], session["seed"]
    goal = goal_for(shop, seed)
    walk = ShopWalk(shop_named(shop).catalogue, goal, seed)
    engine, action = Engine(shop_named(shop), show_attributes=session["show_attributes"]), ""
    engine.reset(goal, walk.session)
    for number, step in enumerate(session["steps"]):
        if number:
            action = walk.choose(engine.clickables(), engine.has_search_bar)
            engine.step(action)
        assert recorded(shop, action, shown_by(engine)) == step, f"{shop} {seed}, step {number}: {action!r}"


def test_the_engine_shows_what_the_original_showed_on_the_benchmarks_products(shop_folder):
    replayed = list(sessions("official"))
    assert len(replayed) == 40
    for session in replayed:
        assert_replays(session)


def test_the_engine_shows_what_the_original_showed_on_hostile_products():
    replayed = list(sessions("hostile"))
    assert len(replayed) == 40
    for session in replayed:
        assert_replays(session)


@pytest.mark.parametrize("seed", range(SMALL_SESSIONS))
def test_the_engine_shows_word_for_word_what_the_original_showed_on_the_small_catalogue(seed):
    [session] = [session for session in sessions("small") if session["seed"] == seed]
    assert_replays(session)


def test_a_changed_word_of_a_page_would_be_noticed():
    session = next(sessions("small"))
    session["steps"][-1]["observations"]["text"] += "."
    with pytest.raises(AssertionError, match=r"small \d, step \d+"):
        assert_replays(session)
