import copy
import gc
import gzip
import json
import random
import tracemalloc
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agentgym_prm.agents.prompts import PROMPTS, Prompt
from agentgym_prm.envs import VIRTUALHOME
from agentgym_prm.envs.core import TextVectorEnv, opening_history
from agentgym_prm.envs.virtualhome import VirtualHomeEnv
from agentgym_prm.envs.virtualhome.experts import EXPERTS
from agentgym_prm.envs.virtualhome.files import open_tasks
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.testing import check_text_env
from agentgym_prm.types import InfoKey
from tests.envs.virtualhome.tasks import milk_record


def make(**kwargs) -> VirtualHomeEnv:
    return VirtualHomeEnv(**{"difficulty": "small", **kwargs})


def test_gymnasiums_checker_passes_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(VIRTUALHOME, difficulty="small", render_mode="ansi")
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("expert", [None, *EXPERTS])
@pytest.mark.parametrize("difficulty", ["small", "full"])
def test_the_text_env_contract_holds_with_and_without_experts(expert, difficulty):
    check_text_env(gym.make(VIRTUALHOME, difficulty=difficulty, expert=expert), seeds=(0,))


def test_the_contract_holds_with_ids_in_view_too():
    check_text_env(make(observation="graph", split="valid_unseen"))


def test_the_registered_cap_truncates_after_forty_steps():
    env = gym.make(VIRTUALHOME, difficulty="small")
    env.reset(seed=0)
    flags = [env.step("sing")[2:4] for _ in range(40)]
    assert flags == [(False, False)] * 39 + [(False, True)]


@pytest.mark.parametrize("expert", EXPERTS)
def test_experts_win_and_winning_pays_one_once(expert):
    env = make(expert=expert, split="valid_unseen", unseen="activity")
    for seed in range(10):
        _, info = env.reset(seed=seed)
        rewards, terminated = [], False
        while not terminated:
            assert info[InfoKey.EXPERT_ACTION]
            _, reward, terminated, _, info = env.step(info[InfoKey.EXPERT_ACTION])
            rewards.append(reward)
            assert info[InfoKey.VALID_ACTION]
        assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
        assert (info[InfoKey.WON], info[InfoKey.SCORE], info[InfoKey.GOAL_CONDITION_SUCCESS_RATE]) == (True, 1.0, 1.0)
        assert info[InfoKey.EXPERT_ACTION] == ""


def test_info_says_why_a_command_was_refused():
    env = make()
    _, info = env.reset(seed=0)
    assert (info[InfoKey.VALID_ACTION], info[InfoKey.ERROR]) == (True, "")
    name = next(c.removeprefix("walk to ") for c in info[InfoKey.ADMISSIBLE_COMMANDS] if c.startswith("walk to b"))
    observation, *_, info = env.step(f"grab {name}")
    assert observation == "Nothing happens."
    assert not info[InfoKey.VALID_ACTION]
    assert f"<{name}>" in info[InfoKey.ERROR]
    assert info[InfoKey.ERROR].endswith('[0]"')


def test_tasks_are_chosen_by_seed_index_or_id():
    env = make(split="valid_seen")
    assert env.num_tasks == 1000
    by_seed = env.reset(seed=1003)
    assert by_seed == env.reset(options={"task": 3}) == env.reset(options={"task": by_seed[1][InfoKey.TASK_ID]})
    assert env.engine.task is env.tasks.task(3)
    with pytest.raises(UnknownNameError, match="look like 'small/valid_seen/0/"):
        env.reset(options={"task": "small/valid_seen/3/nonsense"})


def test_small_builtin_tasks_list_fewer_commands_unless_told_otherwise():
    def count(**kwargs) -> int:
        return len(make(**kwargs).reset(seed=0)[1][InfoKey.ADMISSIBLE_COMMANDS])

    assert count() == count(commands="core", in_view=True)
    assert count() < count(in_view=False) < count(in_view=False, commands="all")
    assert count() < count(commands="all")
    full = VirtualHomeEnv().reset(seed=0)[1][InfoKey.ADMISSIBLE_COMMANDS]
    assert full == VirtualHomeEnv(commands="all", in_view=False).reset(seed=0)[1][InfoKey.ADMISSIBLE_COMMANDS]


def test_builtin_tasks_are_new_by_scene_and_those_of_files_by_activity_unless_told_otherwise(tmp_path):
    env = make(split="valid_unseen")
    assert env.tasks is make(split="valid_unseen", unseen="scene").tasks
    assert env.tasks is not make(split="valid_unseen", unseen="activity").tasks
    records = [milk_record(id=str(number), task_name=f"Activity {number % 2}") for number in range(40)]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    assert make(data=path, split="valid_unseen").num_tasks == 20


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "trian"}, "did you mean 'train'"),
        ({"difficulty": "ful"}, "did you mean 'full'"),
        ({"difficulty": "ful", "data": __file__}, "did you mean 'full'"),
        ({"observation": "grpah"}, "did you mean 'graph'"),
        ({"commands": "cor"}, "did you mean 'core'"),
        ({"unseen": "scenes"}, "did you mean 'scene'"),
        ({"expert": "plan"}, "did you mean 'planner'"),
    ],
)
def test_unknown_options_name_the_nearest(kwargs, message):
    with pytest.raises(UnknownNameError, match=message):
        make(**kwargs)


def test_the_text_expert_refuses_observations_that_it_cannot_read():
    with pytest.raises(ValueError, match="reads observation='partial', got 'graph'"):
        make(expert="homekeeper", observation="graph")


def test_same_seed_is_the_same_episode_and_another_is_not():
    def play(seed: int) -> list:
        env, draws = make(commands="all"), random.Random(5)
        record = [env.reset(seed=seed)]
        for _ in range(30):
            record.append(env.step(draws.choice(record[-1][-1][InfoKey.ADMISSIBLE_COMMANDS])))
            if record[-1][2]:
                break
        return record

    assert play(3) == play(3)
    assert play(3) != play(4)


def test_copies_and_the_engine_s_clones_leave_the_episode_alone():
    env = make(expert="homekeeper")
    _, info = env.reset(seed=1)
    twin, clone = copy.deepcopy(env), env.engine.clone()
    assert twin.tasks is env.tasks
    for command in info[InfoKey.ADMISSIBLE_COMMANDS][:3]:
        clone.step(command)
        twin.step(command)
    assert env.engine.admissible_commands() == info[InfoKey.ADMISSIBLE_COMMANDS]
    assert isinstance(clone, TextEngine)


def test_a_vector_environment_plays_as_its_parts_do():
    envs = gym.make_vec(VIRTUALHOME, num_envs=3, difficulty="small", max_episode_steps=5)
    assert isinstance(envs.unwrapped, TextVectorEnv)
    observations, infos = envs.reset(seed=7)
    singles = [make() for _ in range(3)]
    for slot, env in enumerate(singles):
        observation, info = env.reset(seed=7 + slot)
        assert (observations[slot], infos["task"][slot]) == (observation, info["task"])
    commands = [infos["admissible_commands"][slot][0] for slot in range(3)]
    for turn in range(5):
        observations, rewards, terminated, truncated, infos = envs.step(commands)
        for slot, env in enumerate(singles):
            observation, reward, ended, _, info = env.step(commands[slot])
            assert (observations[slot], rewards[slot], terminated[slot]) == (observation, reward, ended)
            assert infos["admissible_commands"][slot] == info["admissible_commands"]
        assert np.array_equal(truncated, [turn == 4] * 3)


def test_many_episodes_take_no_more_memory_than_a_few():
    env = make(expert="homekeeper")
    tasks = env.tasks

    def play(seeds) -> int:
        for seed in seeds:
            _, info = env.reset(seed=seed)
            for _ in range(4):
                *_, info = env.step(info[InfoKey.EXPERT_ACTION] or "sing")
                if info[InfoKey.WON]:
                    break
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        warm = play([*range(10)] * 4)
        later = play([*range(10)] * 16)
    finally:
        tracemalloc.stop()
    assert later < warm + 200_000
    assert len(tasks._tasks) <= 64


@pytest.mark.parametrize("name", [name for name in PROMPTS if name.startswith("home")])
def test_prompts_show_the_task_and_read_commands_with_underscores_and_ids(name):
    prompt, env = Prompt.load(name), make()
    observation, info = env.reset(seed=0)
    shown = "\n".join(message.content for message in prompt.messages(opening_history(observation, info)))
    assert env.engine.task.description in shown
    assert (env.engine.task.activity in shown) is (name != "home")
    reply = prompt.reply_format.render("put water_glass (12) on coffee_table", "so")
    assert prompt.parse(reply).command == "put water_glass (12) on coffee_table"


@pytest.fixture(scope="module")
def official(data_folder: Path) -> Path:
    folder = data_folder / "virtualhome"
    if not (folder / "tasks_scene1.jsonl.gz").is_file():
        pytest.skip(f"no {folder / 'tasks_scene1.jsonl.gz'}: let $AGENTGYM_PRM_TEST_DATA name the folder that holds it")
    return folder


def test_official_tasks_are_played_and_divided(official, monkeypatch):
    monkeypatch.setenv("VIRTUALHOME_DATA", str(official))
    sizes = {s: len(open_tasks("official", s, "full", "activity")) for s in ("train", "valid_seen", "valid_unseen")}
    assert sum(sizes.values()) == 388
    assert min(sizes.values()) > 20
    env = gym.make(VIRTUALHOME, data="official", split="all", expert="program")
    assert env.unwrapped.num_tasks == 388
    observation, info = env.reset(seed=0)
    assert observation.startswith("The task is Put groceries in Fridge (walk to kitchen, walk to fridge,")
    assert len(info[InfoKey.ADMISSIBLE_COMMANDS]) > 200


def test_official_programs_in_words_reach_what_the_original_reaches(official):
    """Every twentieth of 388; ``benchmarks/virtualhome_programs.py`` plays them all and compares with the original."""
    tasks = open_tasks(official, "all", "full", "activity")
    with gzip.open(official / "tasks_scene1.jsonl.gz", "rt", encoding="utf-8") as file:
        executable = [json.loads(line) for line in file]
    won = 0
    for index in range(0, 388, 20):
        task = tasks.task(index)
        assert task.task_id == executable[index]["id"]
        engine = TextEngine()
        engine.reset(task)
        lines = engine.world.clone()
        for line in task.program:
            engine.step(engine.command_for(line))
            assert engine.valid == lines.execute(line).success
        assert engine.world.to_graph() == lines.to_graph()
        won += engine.won
    assert won >= 12  # of 20; of all, 290 of 388
