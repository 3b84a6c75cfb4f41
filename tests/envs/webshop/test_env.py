import copy
import gc
import json
import random
import sys
import tracemalloc
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agentgym_prm.agents import ExpertAgent, RandomAgent
from agentgym_prm.envs import WEBSHOP
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.envs.webshop import WebShopEnv
from agentgym_prm.envs.webshop.engine import SEARCH_PATTERN
from agentgym_prm.envs.webshop.env import _open_index
from agentgym_prm.envs.webshop.experts import EXPERTS
from agentgym_prm.envs.webshop.generate import GOALS_PER_PRODUCT, builtin_catalogue
from agentgym_prm.errors import DataNotFoundError, MissingDependencyError, UnknownNameError
from agentgym_prm.evaluate import evaluate
from agentgym_prm.rollout import collect
from agentgym_prm.search.postings import VERSION
from agentgym_prm.testing import check_text_env
from agentgym_prm.types import InfoKey


def make(**kwargs) -> WebShopEnv:
    return WebShopEnv(**{"difficulty": "small", **kwargs})


def test_gymnasiums_checker_passes_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(WEBSHOP, difficulty="small", render_mode="ansi")
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("expert", [None, *EXPERTS])
@pytest.mark.parametrize("searches", ["pattern", "suggested"])
def test_the_text_env_contract_holds_with_and_without_experts(expert, searches):
    check_text_env(make(expert=expert, searches=searches))
    check_text_env(gym.make(WEBSHOP, difficulty="small", expert=expert, observation_mode="text", goals="synthetic"))


@pytest.mark.parametrize("mode", ["html", "url"])
def test_the_contract_holds_in_modes_that_experts_do_not_read(mode):
    check_text_env(make(observation_mode=mode, expert="oracle"))
    with pytest.raises(ValueError, match="expert='shopper' reads observation_mode"):
        make(observation_mode=mode, expert="shopper")


def test_the_registered_cap_truncates_after_fifteen_steps():
    env = gym.make(WEBSHOP, difficulty="small")
    env.reset(seed=0)
    flags = [env.step("search[hat]")[2:4] for _ in range(15)]
    assert flags == [(False, False)] * 14 + [(False, True)]
    assert gym.make(WEBSHOP, max_episode_steps=10).spec.max_episode_steps == 10


def test_a_purchase_pays_its_reward_once_and_terminates():
    env = make()
    env.reset(seed=3)
    goal = env.goals[3]
    rewards = []
    for command in (f"search[{goal.name}]", f"click[{goal.asin.lower()}]", "click[Buy Now]"):
        observation, reward, terminated, truncated, info = env.step(command)
        rewards.append(reward)
        assert (terminated, truncated) == (command == "click[Buy Now]", False)
    # Everything but the options: a goal of 3 to 5 parts, with one or two options that were not chosen.
    parts = len(goal.attributes) + len(goal.options) + 1
    assert rewards == [0.0, 0.0, pytest.approx((parts - len(goal.options)) / parts)]
    assert (info[InfoKey.WON], info[InfoKey.SCORE]) == (False, rewards[-1])
    assert info[InfoKey.GOAL_CONDITION_SUCCESS_RATE] == rewards[-1]
    assert info["reward_parts"]["r_option"] == 0.0
    assert info["reward_parts"]["r_att"] == info["reward_parts"]["r_type"] == 1.0
    assert info["nouns"] == env.engine.shop.nouns.name
    assert "Thank you" in observation
    with pytest.raises(gym.error.ResetNeeded):
        env.step("search[hat]")


def test_info_tells_what_can_be_done_in_the_page_s_order():
    env = make(searches="pattern")
    observation, info = env.reset(seed=0)
    assert info[InfoKey.TASK] in observation
    assert info[InfoKey.TASK_ID] == env.goals[0].goal_id
    assert info[InfoKey.TASK_TYPE] == env.goals[0].category
    assert (info["has_search_bar"], info["clickables"]) == (True, ("search",))
    assert info[InfoKey.ADMISSIBLE_COMMANDS] == (SEARCH_PATTERN,)
    assert "reward_parts" not in info
    info = env.step("search[hat]")[-1]
    assert info["clickables"][:2] == ("back to search", "next >")
    assert len(info["clickables"]) == 8  # the six hats of the small shop, too
    assert not info["has_search_bar"]
    assert set(info[InfoKey.ADMISSIBLE_COMMANDS]) == {f"click[{name}]" for name in info["clickables"]}


def test_suggested_searches_are_listed_where_there_is_a_search_bar_and_by_copies_of_the_engine():
    env = make(searches="suggested")
    _, info = env.reset(options={"task": 0})
    instruction = env.goals[0].instruction  # find a warm wool scarf in white, size medium under 40 dollars
    assert instruction == "find a warm wool scarf in white, size medium under 40 dollars"
    expected = ("search[warm wool scarf white size medium]", "search[warm wool scarf]", "search[white size medium]")
    assert info[InfoKey.ADMISSIBLE_COMMANDS] == tuple(sorted(expected))
    assert env.engine.clone().admissible_commands() == tuple(sorted(expected))
    listed = env.step(expected[1])[-1][InfoKey.ADMISSIBLE_COMMANDS]
    assert all(command.startswith("click[") for command in listed)


def test_searches_are_suggested_by_default_in_small_builtin_shops_alone():
    for settings, listed in (({"difficulty": "small"}, False), ({"difficulty": "full"}, True)):
        _, info = WebShopEnv(**settings).reset(seed=0)
        assert (info[InfoKey.ADMISSIBLE_COMMANDS] == (SEARCH_PATTERN,)) is listed


def test_an_agent_that_chooses_among_commands_can_play_with_suggested_searches_only():
    report = {
        searches: evaluate(RandomAgent(), WEBSHOP, range(60), difficulty="small", searches=searches).overall.mean_score
        for searches in ("pattern", "suggested")
    }
    # Whoever searches for the words "<keywords>" finds nothing.
    assert report["pattern"] == 0
    assert report["suggested"] > 0.05


def test_tasks_are_chosen_by_seed_index_or_id():
    env = make(split="test")
    assert env.num_tasks == len(env.goals)
    by_seed = env.reset(seed=env.num_tasks + 5)
    assert by_seed == env.reset(options={"task": 5})
    assert by_seed == env.reset(options={"task": env.goals[5].goal_id})
    with pytest.raises(UnknownNameError, match="no task"):
        env.reset(options={"task": "nonsense"})


def test_synthetic_goals_of_a_builtin_shop_ask_for_the_same_products_as_the_others():
    for split in ("valid", "test"):
        env = make(goals="synthetic", split=split)
        assert {goal.asin for goal in env.goals} == {goal.asin for goal in make(split=split).goals}
        _, info = env.reset(options={"task": 7})
        assert env.task_index(info[InfoKey.TASK_ID]) == 7
        assert info[InfoKey.TASK].startswith("Search for ")
        with pytest.raises(UnknownNameError, match="no task"):
            env.reset(options={"task": "nonsense"})


def test_all_environments_share_one_shop():
    one, other = make(), make(split="test", searches="suggested", observation_mode="text")
    assert one.engine.shop is other.engine.shop
    assert one.engine.shop is not make(num_products=80).engine.shop
    assert one.goals is make().goals


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset' .did you mean 'test'"),
        ({"difficulty": "smal"}, "did you mean 'small'"),
        ({"observation_mode": "text-rich"}, "did you mean 'text_rich'"),
        ({"goals": "humans"}, "did you mean 'human'"),
        ({"expert": "oracel"}, "did you mean 'oracle'"),
        ({"search_engine": "lucene"}, "unknown search engine"),
        ({"searches": "suggest"}, "did you mean 'suggested'"),
        ({"nouns": "spacey"}, "did you mean 'spacy'"),
    ],
)
def test_unknown_options_name_the_nearest(kwargs, message):
    with pytest.raises(UnknownNameError, match=message):
        make(**kwargs)


def test_lucene_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyserini.pyclass", None)
    monkeypatch.setitem(sys.modules, "pyserini", None)
    with pytest.raises(MissingDependencyError, match=r"agentgym_prm\[search\]"):
        make(search_engine="pyserini", num_products=41)


def test_an_index_that_is_cut_off_incomplete_or_of_another_version_is_built_anew_once(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path))
    monkeypatch.setattr("agentgym_prm.envs.webshop.env._KEEP_INDEX", 40)
    catalogue = builtin_catalogue("small", 42)
    found = _open_index(catalogue, "bm25").search(["warm scarf"], 5)
    (folder,) = (tmp_path / "webshop").iterdir()
    postings, record = folder / "documents.bin", folder / "index.json"
    for damage in (
        lambda: postings.write_bytes(postings.read_bytes()[:-4]),
        lambda: record.write_text(record.read_text().replace(f'"version": {VERSION}', '"version": 0')),
        record.unlink,
    ):
        damage()
        assert _open_index(catalogue, "bm25").search(["warm scarf"], 5) == found
        with monkeypatch.context() as patched:
            patched.setattr("agentgym_prm.envs.webshop.env._build_index", lambda _: pytest.fail("built again"))
            assert _open_index(catalogue, "bm25").search(["warm scarf"], 5) == found
    assert not caplog.records


def test_the_index_of_a_large_shop_is_kept_on_disk_and_a_damaged_one_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path))
    monkeypatch.setattr("agentgym_prm.envs.webshop.env._KEEP_INDEX", 40)
    catalogue = builtin_catalogue("small", 42)
    built = _open_index(catalogue, "bm25")
    (folder,) = (tmp_path / "webshop").iterdir()
    monkeypatch.setattr("agentgym_prm.envs.webshop.env._build_index", lambda catalogue: pytest.fail("built again"))
    opened = _open_index(catalogue, "bm25")
    assert opened.search(["warm scarf"], 5) == built.search(["warm scarf"], 5) != [[]]
    monkeypatch.undo()
    for path in folder.iterdir():
        path.write_bytes(b"damaged")
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path))
    monkeypatch.setattr("agentgym_prm.envs.webshop.env._KEEP_INDEX", 40)
    assert _open_index(catalogue, "bm25").search(["warm scarf"], 5) == built.search(["warm scarf"], 5)


def test_products_that_fit_equally_well_come_in_the_order_of_their_ids():
    """The texts of all hats are equally long and name the hat equally often."""
    env = make()
    env.reset(seed=0)
    env.step("search[hat]")
    asins = [sheet.product.asin for sheet in env.engine.view.shown]
    assert asins == sorted(asins)
    catalogue = env.engine.shop.catalogue
    assert asins != [catalogue.product(i).asin for i in range(240) if catalogue.product(i).query == "hat"]


def test_official_data_that_are_not_there_are_described(monkeypatch, tmp_path):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    with pytest.raises(DataNotFoundError, match=r"WEBSHOP_DATA.*not set.*items_shuffle\.json.*builtin"):
        make(data="official")
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    with pytest.raises(DataNotFoundError, match="items_shuffle"):
        make(data="official")


def test_official_goals_can_be_played(shop_folder, monkeypatch):
    monkeypatch.setenv("WEBSHOP_DATA", str(shop_folder))
    env = gym.make(WEBSHOP, data="official", split="test", expert="oracle")
    assert env.unwrapped.num_tasks == 13
    _, info = env.reset(seed=0)
    terminated = False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(info[InfoKey.EXPERT_ACTION])
        assert not truncated
    assert reward == 1.0
    assert make(data=shop_folder, split="train", goals="synthetic").num_tasks > 5_000
    with pytest.raises(DataNotFoundError, match="'train' is empty"):
        make(data="official", split="train")


def episode(step, info: dict, seed: int) -> list:
    draws = random.Random(seed)
    record = [info]
    for _ in range(12):
        *answer, info = step(draws.choice(info[InfoKey.ADMISSIBLE_COMMANDS]))
        record.append((*answer, info))
        if answer[2]:
            break
    return record


def test_same_seed_is_the_same_episode_and_another_seed_is_not():
    def play(seed: int) -> list:
        env = make(searches="suggested", expert="shopper")
        observation, info = env.reset(seed=seed)
        return [observation, *episode(env.step, info, seed=1)]

    assert play(11) == play(11)
    assert play(11) != play(12)


def vector_episodes(envs: gym.vector.VectorEnv) -> list:
    draws = random.Random(3)
    observations, infos = envs.reset(seed=5)
    record: list = [list(observations)]
    for tick in range(40):
        commands = [draws.choice(admissible) for admissible in infos[InfoKey.ADMISSIBLE_COMMANDS]]
        observations, rewards, terminated, truncated, infos = envs.step(commands)
        listed = list(infos[InfoKey.ADMISSIBLE_COMMANDS])
        record.append((list(observations), rewards.tolist(), terminated.tolist(), truncated.tolist(), listed))
        mask = np.array(terminated | truncated)
        if mask.any():
            observations, fresh = envs.reset(seed=[tick, tick + 1, tick + 2], options={"reset_mask": mask})
            for slot in np.flatnonzero(mask):
                infos[InfoKey.ADMISSIBLE_COMMANDS][slot] = fresh[InfoKey.ADMISSIBLE_COMMANDS][slot]
    envs.close()
    return record


def test_our_vector_environment_plays_the_same_episodes_as_gymnasium_s():
    ours = gym.make_vec(WEBSHOP, num_envs=3, difficulty="small", searches="suggested")
    assert isinstance(ours, TextVectorEnv)
    sync = SyncVectorEnv(
        [lambda: gym.make(WEBSHOP, difficulty="small", searches="suggested")] * 3,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    record = vector_episodes(ours)
    assert record == vector_episodes(sync)
    assert any(any(terminated) for _, _, terminated, _, _ in record[1:])


def test_make_and_close_cycles_leave_memory_flat():
    def cycle(count: int) -> None:
        for index in range(count):
            env = gym.make(WEBSHOP, difficulty="small", expert="shopper")
            env.reset(seed=index % 20)
            env.step("search[hat]")
            env.close()

    cycle(100)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    cycle(300)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # What an environment holds is more than a kilobyte.
    assert grown < 100_000


def test_a_deep_copy_goes_its_own_way_in_the_shared_shop():
    env = make(expert="oracle")
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    assert twin.engine.shop is env.engine.shop
    assert twin.goals is env.goals
    twin.step("search[hat]")
    assert env.engine.has_search_bar
    assert not twin.engine.has_search_bar
    assert twin.step("no such command")[-1][InfoKey.EXPERT_ACTION] != env.step("nor this")[-1][InfoKey.EXPERT_ACTION]


def test_the_number_of_goals_follows_from_the_number_of_products():
    assert make(num_products=80).num_tasks < make(num_products=160).num_tasks
    assert sum(make(split=split).num_tasks for split in ("train", "valid", "test")) == 240 * GOALS_PER_PRODUCT


@pytest.mark.parametrize("cap", [5, 7])
def test_the_shopper_reckons_with_the_step_cap(cap):
    """However few commands there are, it buys something in time, alone as in a vector."""
    envs = gym.make_vec(WEBSHOP, num_envs=8, expert="shopper", max_episode_steps=cap, split="test")
    together = collect(ExpertAgent("shopper"), envs, range(20))
    single = SyncVectorEnv(
        [lambda: gym.make(WEBSHOP, expert="shopper", expert_steps=cap, max_episode_steps=cap, split="test")],
        autoreset_mode=AutoresetMode.DISABLED,
    )
    alone = collect(ExpertAgent("shopper"), single, range(20))
    assert [each.to_json() for each in together] == [each.to_json() for each in alone]
    assert all(each.steps[-1].terminated for each in together)
    late = collect(ExpertAgent("shopper"), gym.make_vec(WEBSHOP, num_envs=8, expert="shopper", expert_steps=15,
                                                        max_episode_steps=cap, split="test"), range(20))  # fmt: skip
    assert not all(each.steps[-1].terminated for each in late)


@pytest.mark.parametrize("number", ["50", 10.5, True])
def test_a_number_of_products_that_is_none_is_refused(number):
    with pytest.raises(TypeError, match="num_products must be a whole number or None, got"):
        make(num_products=number)


def test_files_that_change_are_read_again_in_the_same_process(tmp_path, monkeypatch):
    """The same relative path in another folder; and the same path, written anew."""
    for name, products in (("one", 4), ("two", 3), ("two", 5)):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        write_files(folder, products)
        monkeypatch.chdir(folder)
        env = make(data=".", split="test", goals="synthetic")
        assert (env.num_tasks, len(env.engine.shop.catalogue)) == (products, products)


def write_files(folder: Path, products: int) -> None:
    """Files of a shop with so many products, each with one synthetic goal."""
    listed = {
        "name": "red shoe", "full_description": "", "small_description": ["light"], "category": "fashion",
        "query": "shoe", "product_category": "shoes", "images": ["shoe.png"], "pricing": "$5",
    }  # fmt: skip
    about = {"attributes": ["light"], "instruction": "find a shoe", "instruction_attributes": ["light"]}
    asins = [f"A{number}" for number in range(products)]
    (folder / "items_shuffle.json").write_text(json.dumps([{"asin": asin, **listed} for asin in asins]))
    (folder / "items_ins_v2.json").write_text(json.dumps(dict.fromkeys(asins, about)))
