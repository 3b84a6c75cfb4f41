import itertools
import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agentgym_prm import RandomAgent, collect
from agentgym_prm.envs import TOY
from agentgym_prm.envs.toy import (
    HAND,
    POND,
    TOY_TASK_IDS,
    TOY_TASKS,
    ToyEngine,
    ToyEnv,
    ToyState,
    optimal_q,
    policy_q,
    toy_engine,
    toy_model,
    uniform,
)
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.testing import check_text_env

WALKTHROUGHS = [
    "go to kitchen, take apple, go to hall, go to bedroom, drop apple",
    "go to bedroom, open chest, take book, go to hall, go to kitchen, drop book",
    "go to garden, take cup, go to hall, drop cup",
    "go to bedroom, open chest, take apple, go to hall, go to garden, drop apple",
    "take book, go to garden, drop book",
    "go to kitchen, take cup, go to hall, go to bedroom, drop cup",
]
TASKS = range(len(TOY_TASKS))


def start(task_index: int) -> ToyState:
    return toy_model(task_index).states[0]


def test_gymnasiums_checker_passes_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(TOY, render_mode="ansi").unwrapped)


def test_the_text_env_contract_holds():
    check_text_env(ToyEnv(), seeds=TASKS)
    check_text_env(gym.make(TOY))


def test_the_registered_cap_truncates_after_twenty_steps():
    env = gym.make(TOY)
    env.reset(seed=0)
    assert [env.step("look")[2:4] for _ in range(20)] == [(False, False)] * 19 + [(False, True)]


@pytest.mark.parametrize("task", TASKS)
def test_the_walkthrough_wins_with_its_last_command_and_not_before(task):
    env = ToyEnv()
    _, info = env.reset(options={"task": task})
    assert info["task_id"] == TOY_TASK_IDS[task]
    rewards = []
    for command in WALKTHROUGHS[task].split(", "):
        assert command in info["admissible_commands"]
        _, reward, terminated, _, info = env.step(command)
        assert info["valid_action"]
        rewards.append((reward, terminated, info["won"]))
    assert rewards == [(0.0, False, False)] * (len(rewards) - 1) + [(1.0, True, True)]


def test_no_two_tasks_read_alike():
    assert len({task.text for task in TOY_TASKS}) == len(TOY_TASKS)
    assert len({env.reset(seed=seed)[0] for env in [ToyEnv()] for seed in TASKS}) == len(TOY_TASKS)


def test_texts_say_what_is_there_and_hide_what_a_closed_chest_holds():
    engine = ToyEngine()
    opening = engine.reset(1)
    assert opening == "You are in the hall. You see nothing. Your task is to: bring the book to the kitchen."
    assert engine.step("go to bedroom") == "You are in the bedroom. You see a closed chest."
    assert engine.admissible_commands() == ("go to hall", "look", "open chest")
    assert engine.step("take book") == "Nothing happens."
    seen = "You are in the bedroom. You see an open chest with a book in it."
    assert engine.step("open chest") == f"You open the chest. {seen}"
    assert engine.admissible_commands() == ("close chest", "go to hall", "look", "take book")


def test_what_is_thrown_into_the_pond_is_gone_for_good():
    engine = ToyEngine()
    engine.reset(4)
    for command in ("take book", "go to garden", "throw book into the pond"):
        engine.step(command)
    assert engine.state.lost
    q = optimal_q(4, 0.9).q
    thrown = ToyState(4, "garden", (HAND, "hall"), open=False)
    assert q(thrown, "throw book into the pond") == 0
    # The other object is not needed: throw it, go to hall, take book, go to garden, drop book.
    assert q(ToyState(4, "garden", ("hall", HAND), open=False), "throw apple into the pond") == pytest.approx(0.9**4)


def test_a_clone_goes_its_own_way():
    engine = ToyEngine()
    engine.reset(0)
    copy = engine.clone()
    copy.step("go to kitchen")
    assert (engine.state.room, copy.state.room) == ("hall", "kitchen")


def test_the_state_is_recovered_from_a_history():
    for trajectory in collect(RandomAgent(), gym.make_vec(TOY, num_envs=4), range(24)):
        engine = ToyEngine()
        engine.reset(trajectory.seed % len(TOY_TASKS))
        for turn, step in enumerate(trajectory.steps):
            assert toy_engine(trajectory.history(turn)).state == engine.state
            engine.step(step.action.command)


def test_an_unknown_task_id_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'toy/0-apple-bedroom'"):
        ToyEnv().task_index("toy/0-apple-bedrom")


# --- exact solutions ---


@pytest.mark.parametrize("task", TASKS)
def test_the_model_agrees_with_random_play_of_the_engine(task):
    model, rng, engine = toy_model(task), random.Random(task), ToyEngine()
    engine.reset(task)
    for _ in range(3000):
        number = model.index[engine.state]
        assert model.commands[number] == engine.admissible_commands()
        choice = rng.randrange(len(model.commands[number]))
        engine.step(model.commands[number][choice])
        following = model.next_P[model.offsets[number] + choice]
        if engine.won:
            assert following == len(model.states)
            engine.reset(task)
        else:
            assert model.states[following] == engine.state


@pytest.mark.parametrize("task", TASKS)
def test_the_best_value_is_the_discounted_length_of_the_walkthrough(task):
    length = len(WALKTHROUGHS[task].split(", "))
    # The reward comes with step number ``length``, so it is discounted length - 1 times.
    assert optimal_q(task, 0.5).v(start(task)) == 0.5 ** (length - 1)
    assert optimal_q(task, 0.5).q(start(task), "look") == 0.5**length
    assert optimal_q(task, 0.5).q(start(task), "no such command") == 0.5**length
    assert optimal_q(task, 1.0, horizon=length).v(start(task)) == 1
    assert optimal_q(task, 1.0, horizon=length).v(start(task), steps_left=length - 1) == 0
    assert optimal_q(task, 1.0, horizon=length).q(start(task), "no such command") == 0
    assert optimal_q(task, 1.0, horizon=length + 1).q(start(task), "no such command") == 1


def slow_value(engine: ToyEngine, left: int, gamma: float, failure: float) -> float:
    """Expected return of the uniform policy, by trying every sequence of commands."""
    values = []
    for command in engine.admissible_commands():
        after = engine.clone()
        after.step(command)
        if after.won:
            values.append(1.0)
        else:
            values.append(failure if left == 1 else gamma * slow_value(after, left - 1, gamma, failure))
    return sum(values) / len(values)


@pytest.mark.parametrize(("gamma", "failure"), [(1.0, 0.0), (0.9, 0.0), (0.9, -1.0)])
def test_the_uniform_policys_value_is_that_of_all_sequences_of_commands(gamma, failure):
    # Task 4 can be won in 3 steps; 6 steps are a few thousand sequences.
    engine = ToyEngine()
    engine.reset(4)
    table = policy_q(4, uniform, gamma, 6, failure_reward=failure)
    for left in range(1, 7):
        assert table.v(engine.state, left) == pytest.approx(slow_value(engine, left, gamma, failure), abs=1e-12)


def test_values_without_a_horizon_are_the_limit_of_those_with_one():
    for task in TASKS:
        endless, long = policy_q(task, uniform, 0.9), policy_q(task, uniform, 0.9, 400)
        # What lies beyond 400 steps is worth at most 0.9**400 < 1e-18.
        assert np.abs(endless.q_L_P[0] - long.q_L_P[-1]).max() < 1e-12
        assert np.abs(optimal_q(task, 0.9).q_L_P[0] - optimal_q(task, 0.9, 400).q_L_P[-1]).max() < 1e-12


def test_the_greedy_policy_has_the_best_values_and_no_policy_has_better_ones():
    for task in TASKS:
        best = optimal_q(task, 0.9)

        def greedy(state, commands, best=best):
            values = [best.q(state, command) for command in commands]
            return [float(number == int(np.argmax(values))) for number in range(len(values))]

        assert np.abs(policy_q(task, greedy, 0.9).q_L_P - best.q_L_P).max() < 1e-12
        assert (policy_q(task, uniform, 0.9).q_L_P <= best.q_L_P + 1e-12).all()


def test_failure_reward_is_the_outcome_mapped_to_minus_one_and_one():
    # Without discount: P(win) - P(fail) = 2 P(win) - 1.
    for task, left in itertools.product(TASKS, (5, 20)):
        won = policy_q(task, uniform, 1.0, 20).v(start(task), left)
        assert policy_q(task, uniform, 1.0, 20, failure_reward=-1).v(start(task), left) == pytest.approx(2 * won - 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_q(0, 1.5), r"gamma must be in \[0, 1\], got 1.5"),
        (lambda: optimal_q(0, 1.0, 0), "horizon must be at least 1, got 0"),
        (lambda: policy_q(0, uniform, 1.0), "gamma must be below 1 without a horizon"),
        (lambda: policy_q(0, lambda state, commands: [1.0], 0.9), "a policy gives one probability for each of"),
        (lambda: policy_q(0, lambda state, commands: [1.0] * len(commands), 0.9), "a policy gives one probability"),
        (lambda: optimal_q(0, 0.9, failure_reward=-1), "failure_reward needs a horizon"),
        (lambda: optimal_q(0, 0.9).v(start(0), 3), "steps_left has no meaning"),
        (lambda: optimal_q(0, 0.9, 5).v(start(0), 6), r"steps_left must be in \[1, 5\], got 6"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_lost_states_are_worth_nothing_and_others_are_not():
    for task in TASKS:
        table = optimal_q(task, 0.95)
        for state in table.model.states:
            assert (table.v(state) == 0) == (state.places[0] == POND)
