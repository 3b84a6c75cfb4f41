import copy
import gc
import json
import random
import subprocess
import sys
import tracemalloc
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from agentgym_prm.envs import ALFWORLD
from agentgym_prm.envs.alfworld import ALFWorldEnv
from agentgym_prm.envs.alfworld.engine import NOTHING_HAPPENS, Engine, in_put_grammar
from agentgym_prm.envs.alfworld.expert import EXPERTS
from agentgym_prm.envs.alfworld.files import open_games
from agentgym_prm.envs.alfworld.planner import plan
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.errors import MissingDependencyError, UnknownNameError
from agentgym_prm.testing import check_text_env
from agentgym_prm.types import InfoKey


def make(**kwargs) -> ALFWorldEnv:
    return ALFWorldEnv(**{"difficulty": "small", **kwargs})


def test_gymnasiums_checker_passes_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(ALFWORLD, difficulty="small", render_mode="ansi")
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("expert", [None, *EXPERTS])
def test_the_text_env_contract_holds_with_and_without_experts(expert):
    check_text_env(make(expert=expert))
    check_text_env(gym.make(ALFWORLD, difficulty="full", expert=expert))


def test_the_registered_cap_truncates_after_fifty_steps():
    env = gym.make(ALFWORLD, difficulty="small")
    env.reset(seed=0)
    flags = [env.step("look")[2:4] for _ in range(50)]
    assert flags == [(False, False)] * 49 + [(False, True)]
    assert gym.make(ALFWORLD, max_episode_steps=7).spec.max_episode_steps == 7


def test_winning_pays_one_once_and_terminates():
    env = make(expert="planner")
    _, info = env.reset(seed=4)
    rewards = []
    terminated = False
    while not terminated:
        assert info[InfoKey.EXPERT_ACTION] in info[InfoKey.ADMISSIBLE_COMMANDS]
        _, reward, terminated, truncated, info = env.step(info[InfoKey.EXPERT_ACTION])
        rewards.append(reward)
        assert not truncated
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
    assert (info[InfoKey.WON], info[InfoKey.SCORE], info[InfoKey.GOAL_CONDITION_SUCCESS_RATE]) == (True, 1.0, 1.0)
    assert info[InfoKey.EXPERT_ACTION] == ""


@pytest.mark.parametrize("expert", EXPERTS)
@pytest.mark.parametrize("put_grammar", ["move", "put"])
def test_expert_actions_are_listed_in_the_chosen_grammar(expert, put_grammar):
    env = make(expert=expert, put_grammar=put_grammar)
    for seed in range(12):
        _, info = env.reset(seed=seed)
        for _ in range(50):
            assert info[InfoKey.EXPERT_ACTION] in info[InfoKey.ADMISSIBLE_COMMANDS]
            info = env.step(info[InfoKey.EXPERT_ACTION])[-1]
            if info[InfoKey.WON]:
                break
        assert info[InfoKey.WON]


def test_a_walkthrough_has_no_answer_once_the_episode_has_left_it():
    env = make(expert="walkthrough")
    _, info = env.reset(seed=0)
    first = info[InfoKey.EXPERT_ACTION]
    assert env.step("look")[-1][InfoKey.EXPERT_ACTION] == first  # changes nothing, so nothing is lost
    assert env.step("no such command")[-1][InfoKey.EXPERT_ACTION] == first
    other = next(c for c in info[InfoKey.ADMISSIBLE_COMMANDS] if c.startswith("go to") and c != first)
    assert env.step(other)[-1][InfoKey.EXPERT_ACTION] == ""


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"engine": "textwrold"}, "unknown engine 'textwrold' .did you mean 'textworld'"),
        ({"expert": "planer"}, "unknown expert 'planer' .did you mean 'planner'"),
        ({"put_grammar": "putt"}, "did you mean 'put'"),
        ({"split": "valid"}, "unknown split 'valid'"),
    ],
)
def test_unknown_options_name_the_nearest(kwargs, message):
    with pytest.raises(UnknownNameError, match=message):
        make(**kwargs)


def test_a_missing_original_engine_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "textworld", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[alfworld\]'"):
        make(engine="textworld")


def random_episode(step, info: dict, seed: int) -> list:
    rng = random.Random(seed)
    record = [info]
    for _ in range(30):
        observation, reward, terminated, truncated, info = step(rng.choice(info[InfoKey.ADMISSIBLE_COMMANDS]))
        record.append((observation, reward, terminated, truncated, info))
        if terminated or truncated:
            break
    return record


def test_same_seed_is_the_same_episode_and_another_seed_is_not():
    def play(seed: int) -> list:
        env = make()
        observation, info = env.reset(seed=seed)
        return [observation, *random_episode(env.step, info, seed=1)]

    assert play(11) == play(11)
    assert play(11) != play(12)


SCRIPT = """
import json, sys, gymnasium as gym
env = gym.make("agentgym_prm:agentgym_prm/ALFWorld-v0", split="valid_unseen")
shown = []
for seed in (0, 7, 1234567):
    observation, info = env.reset(seed=seed)
    shown.append(observation)
    for turn in range(20):
        commands = info["admissible_commands"]
        observation, reward, *_, info = env.step(commands[turn * 7 % len(commands)])
        shown.append([observation, reward, commands])
json.dump(shown, sys.stdout)
"""


def test_other_processes_and_hash_seeds_see_the_same_episodes_with_only_gymnasium_imported():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "42")
    }
    assert len(outputs) == 1
    assert len(json.loads(outputs.pop())) == 63


def vector_envs() -> list[gym.vector.VectorEnv]:
    def single():
        return gym.make(ALFWORLD, difficulty="small", max_episode_steps=9)

    ours = gym.make_vec(ALFWORLD, num_envs=3, difficulty="small", max_episode_steps=9)
    assert isinstance(ours, TextVectorEnv)
    disabled = AutoresetMode.DISABLED
    return [
        ours,
        SyncVectorEnv([single] * 3, autoreset_mode=disabled),
        AsyncVectorEnv([single] * 3, autoreset_mode=disabled, shared_memory=False),
    ]


def vector_episodes(envs: gym.vector.VectorEnv) -> list:
    rng = random.Random(3)
    observations, infos = envs.reset(seed=5)
    commands = list(infos[InfoKey.ADMISSIBLE_COMMANDS])
    record: list = [list(observations), commands]
    for tick in range(25):
        actions = [rng.choice(admissible) for admissible in commands]
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        commands = list(infos[InfoKey.ADMISSIBLE_COMMANDS])
        values = {k: infos[k].tolist() for k in infos if not k.startswith("_")}
        record.append((list(observations), rewards.tolist(), terminated.tolist(), truncated.tolist(), values))
        mask = np.array(terminated | truncated)
        if mask.any():
            observations, infos = envs.reset(seed=[tick, tick + 1, tick + 2], options={"reset_mask": mask})
            for slot in np.flatnonzero(mask):
                commands[slot] = infos[InfoKey.ADMISSIBLE_COMMANDS][slot]
            record.append(list(observations))
    envs.close()
    return record


def test_sync_and_async_vector_environments_play_the_same_episodes():
    # Python's own warning about forking a process that has threads is about pytest, not about us.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ours, sync, asynchronous = (vector_episodes(envs) for envs in vector_envs())
    assert ours == sync
    assert ours == asynchronous


def test_a_hundred_thousand_hostile_strings_raise_nothing_and_change_nothing():
    rng = random.Random(0)
    env = make(difficulty="full")
    _, info = env.reset(seed=0)
    for command in info[InfoKey.ADMISSIBLE_COMMANDS][:3]:
        _, _, _, _, info = env.step(command)
    state, commands = env.engine.state_key(), info[InfoKey.ADMISSIBLE_COMMANDS]
    listed = set(commands)
    pieces = ["go to ", "take ", " from ", " ", "\x00", "\x1b[31m", "日本", "🙂", "\ud800", "%s", "{o}", "1", "apple"]
    pieces += [c[: len(c) // 2] for c in commands]
    game = env.engine.game
    for number in range(100_000):
        command = "".join(rng.choices(pieces, k=rng.randrange(6)))
        if number % 20_000 == 0:
            command = command + "x" * 1_000_000
        if command.strip() in listed:
            continue
        observation, reward, terminated, truncated, info = env.step(command)
        assert (observation, reward, terminated, truncated) == (NOTHING_HAPPENS, 0.0, False, False)
        assert info[InfoKey.VALID_ACTION] is False
    assert env.engine.state_key() == state
    assert info[InfoKey.ADMISSIBLE_COMMANDS] == commands
    assert len(game.parsed) < 5000  # strings that name nothing are not remembered


def test_ten_thousand_make_and_close_cycles_leave_memory_flat():
    def cycle(count: int) -> None:
        for index in range(count):
            env = gym.make(ALFWORLD, difficulty="small")
            env.reset(seed=index % 20)
            env.step("look")
            env.close()

    cycle(200)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    cycle(10_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # A leak of one dict a cycle would be 2 MB; caches that fill up once stay well below.
    assert grown < 300_000


def test_a_further_environment_on_a_shared_game_costs_little_memory():
    first = make(difficulty="full")
    first.reset(seed=0)
    tracemalloc.start()
    envs = [make(difficulty="full") for _ in range(50)]
    for env in envs:
        env.reset(seed=0)
    each = tracemalloc.get_traced_memory()[0] / len(envs)
    tracemalloc.stop()
    assert each < 20_000


def test_a_vector_env_plays_official_games(data_folder):
    envs = gym.make_vec(ALFWORLD, num_envs=4, data=str(data_folder / "alfworld"), split="valid_seen")
    observations, infos = envs.reset(seed=0)
    assert len(set(infos[InfoKey.TASK_ID])) == 4
    assert all(observation.startswith("-= Welcome to TextWorld, ALFRED! =-") for observation in observations)
    envs.close()


@pytest.mark.parametrize("put_grammar", ["move", "put"])
def test_a_stored_walkthrough_is_given_in_the_listed_grammar(data_folder, put_grammar):
    env = ALFWorldEnv(
        data=str(data_folder / "alfworld"), split="valid_seen", expert="walkthrough", put_grammar=put_grammar
    )
    _, info = env.reset(options={"task": 60})
    while not info[InfoKey.WON]:
        assert info[InfoKey.EXPERT_ACTION] in info[InfoKey.ADMISSIBLE_COMMANDS]
        info = env.step(info[InfoKey.EXPERT_ACTION])[-1]


def test_the_planner_plans_anew_after_the_agent_has_left_its_plan():
    env = make(expert="planner")
    rng = random.Random(4)
    for seed in range(8):
        _, info = env.reset(seed=seed)
        for _ in range(5):
            _, _, terminated, _, info = env.step(rng.choice(info[InfoKey.ADMISSIBLE_COMMANDS]))
            assert not terminated
        for _ in range(20):
            assert info[InfoKey.EXPERT_ACTION] in info[InfoKey.ADMISSIBLE_COMMANDS]
            info = env.step(info[InfoKey.EXPERT_ACTION])[-1]
            if info[InfoKey.WON]:
                break
        assert info[InfoKey.WON]


def test_the_walkthrough_follows_an_agent_that_puts_in_the_other_grammar():
    env = make(expert="walkthrough")
    _, info = env.reset(seed=0)
    while not info[InfoKey.WON]:
        assert info[InfoKey.EXPERT_ACTION]
        info = env.step(in_put_grammar(info[InfoKey.EXPERT_ACTION], "put"))[-1]


def test_a_deep_copy_goes_its_own_way_on_shared_games():
    env = make()
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    assert twin.games is env.games
    assert twin.engine.game is env.engine.game
    command = next(c for c in env.engine.admissible_commands() if c.startswith("go to"))
    twin.step(command)
    assert twin.engine.location != env.engine.location


def test_the_planner_wins_every_official_game_as_fast_as_its_walkthrough(data_folder):
    for split in ("valid_seen", "train"):
        games = open_games(data_folder / "alfworld", split, "full")
        for index in range(0, len(games), 1 if split == "valid_seen" else 25):
            engine = Engine()
            engine.reset(games.game(index))
            commands = plan(engine)
            assert commands is not None
            assert len(commands) <= min(50, len(games.walkthrough(index)))
            for command in commands:
                engine.step(command)
            assert engine.won
