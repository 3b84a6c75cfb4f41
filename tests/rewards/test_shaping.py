import gymnasium as gym
import numpy as np
import pytest

from agentgym_prm import Action, History, InfoKey, RandomAgent, Step, StepReward, VectorStepReward, collect
from agentgym_prm.envs import TOY
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.envs.toy import (
    TOY_TASK_IDS,
    TOY_TASKS,
    ToyEngine,
    ToyModel,
    ToyState,
    optimal_q,
    toy_engine,
    toy_model,
)
from agentgym_prm.rewards import FunctionPotential, Shaping, Transition, ValuePotential, goal_conditions
from agentgym_prm.rewards.core import transitions_of
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv


def scripted(num_envs: int, cap: int) -> TextVectorEnv:
    return TextVectorEnv(ScriptedEnv, num_envs, max_episode_steps=cap)


def arbitrary(history: History) -> float:
    """A potential without any meaning, of the whole history; never 0."""
    return 1 + sum((len(history.steps) + 1) * ord(letter) for letter in history.observation) % 97 / 7


# --- the sum over an episode ---


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
def test_shaping_telescopes(gamma):
    # sum_t gamma^t F_t = gamma^T Phi_T - Phi_0, with Phi_T = 0 if the episode terminated.
    shaping = Shaping(FunctionPotential(arbitrary), gamma)
    played = collect(RandomAgent(), gym.make_vec(TOY, num_envs=4, max_episode_steps=60), range(12))
    assert {trajectory.steps[-1].terminated for trajectory in played} == {True, False}
    for trajectory in played:
        turns = transitions_of(trajectory)
        last = 0.0 if trajectory.steps[-1].terminated else arbitrary(turns[-1].after)
        total = sum(gamma**t * reward for t, reward in enumerate(shaping.rewards(turns)))
        # Absolute, as up to 60 numbers below 30 cancel.
        assert total == pytest.approx(gamma ** len(turns) * last - arbitrary(turns[0].history), abs=1e-11)


def test_truncated_episode_keeps_its_potential():
    # Phi = 0, 1/2, 1/2 of two conditions; cut off after three steps: 1/2 - 0, 1/2 - 1/2, 1/2 - 1/2.
    envs = VectorStepReward(scripted(1, cap=3), Shaping(goal_conditions()))
    choose = ScriptedAgent(lambda history: ["left", "wrong", "wrong"][len(history.steps)])
    (trajectory,) = collect(choose, envs, [0])
    assert [step.process_reward for step in trajectory.steps] == [0.5, 0.0, 0.0]


def test_terminated_episode_gives_its_potential_back():
    # gamma 1/2; Phi = 0, 1/2, then won, where 1 is not paid: 1/2 * 1/2 - 0, 0 - 1/2. Together 1/4 - 1/2 * 1/2 = 0.
    env = StepReward(ScriptedEnv(), Shaping(goal_conditions(), gamma=0.5))
    env.reset(seed=0)
    terms = [env.step(command)[4]["reward_terms"] for command in ("left", "right")]
    assert terms == [
        {"outcome": 0.0, "shaping_goal_conditions": 0.25},
        {"outcome": 1.0, "shaping_goal_conditions": -0.5},
    ]


def test_an_episode_that_is_won_at_the_cap_is_terminated():
    envs = VectorStepReward(scripted(1, cap=2), Shaping(goal_conditions()))
    choose = ScriptedAgent(lambda history: ["left", "right"][len(history.steps)])
    (trajectory,) = collect(choose, envs, [0])
    assert trajectory.steps[-1].truncated
    assert [step.process_reward for step in trajectory.steps] == [0.5, -0.5]


# --- how often the potential is asked ---


class Counting:
    name = "counting"

    def __init__(self):
        self.asked: list[History] = []

    def potential(self, histories):
        self.asked.extend(histories)
        return np.array([arbitrary(history) for history in histories])


def test_each_state_is_asked_about_once_and_terminated_ones_never():
    potential = Counting()
    choose = {"scripted-0": ["left", "wrong", "right"], "scripted-1": ["wrong", "wrong", "wrong"]}
    agent = ScriptedAgent(lambda history: choose[history.task_id][len(history.steps)])
    collect(agent, VectorStepReward(scripted(2, cap=3), Shaping(potential)), [0, 1])
    # Seed 0 sees three states before it wins, seed 1 four, the last one cut off.
    keys = sorted((history.task_id, len(history.steps)) for history in potential.asked)
    assert keys == [("scripted-0", n) for n in range(3)] + [("scripted-1", n) for n in range(4)]


def test_what_is_remembered_is_what_would_be_answered():
    # In a wrapper the potential before a step is remembered from the tick before, here every turn is asked alone.
    played = collect(RandomAgent(), VectorStepReward(gym.make_vec(TOY, 3), Shaping(Counting(), 0.9)), range(6))
    for trajectory in played:
        fresh = [Shaping(Counting(), 0.9).rewards([turn]).item() for turn in transitions_of(trajectory)]
        assert [step.process_reward for step in trajectory.steps] == fresh


# --- optimal policies stay ---
# States are few, so histories that lead to each of them are made by hand and the real term judges every move.

GAMMA = 0.9


def histories_of(task: int, model: ToyModel) -> list[History]:
    """One shortest history for each state."""
    ways: dict[ToyState, tuple[str, ...]] = {model.states[0]: ()}
    for state in model.states:
        for command in ToyEngine(state).admissible_commands():
            engine = ToyEngine(state)
            engine.step(command)
            if not engine.won:
                ways.setdefault(engine.state, (*ways[state], command))
    steps = {state: tuple(Step("", (), Action(command)) for command in way) for state, way in ways.items()}
    return [History(TOY_TASKS[task].text, "", (), steps[state], TOY_TASK_IDS[task]) for state in model.states]


def rewards_P(task: int, model: ToyModel, term) -> np.ndarray:
    """Outcome plus term of every state and command."""
    turns = []
    for history, commands in zip(histories_of(task, model), model.commands, strict=True):
        assert toy_engine(history).state in model.index
        for command in commands:
            engine = toy_engine(history)
            engine.step(command)
            step = Step("", commands, Action(command), float(engine.won), terminated=engine.won)
            turns.append(Transition.of(history, step, "", engine.admissible_commands()))
    return model.wins_P + term.rewards(turns)


def best_commands(model: ToyModel, rewards_P: np.ndarray) -> list[set[str]]:
    """Optimal commands of each state by plain value iteration, written without the module's own solver."""
    values = [0.0] * (len(model.states) + 1)  # the last one is won
    for _ in range(400):  # 0.9**400 < 1e-18
        q_S = []
        for state in range(len(model.states)):
            pairs = range(model.offsets[state], model.offsets[state + 1])
            q_S.append([rewards_P[pair] + GAMMA * values[model.next_P[pair]] for pair in pairs])
        values = [*(max(row) for row in q_S), 0.0]
    # Potentials of a few units leave rounding errors of 1e-15; other commands are worse by at least 1e-3.
    return [
        {command for command, q in zip(commands, row, strict=True) if q > max(row) - 1e-9}
        for commands, row in zip(model.commands, q_S, strict=True)
    ]


def random_potential(model: ToyModel, won: float) -> FunctionPotential:
    phi_S = np.random.default_rng(0).uniform(-3, 3, len(model.states))
    numbers = {state: float(phi) for state, phi in zip(model.states, phi_S, strict=True)}

    def potential(history: History) -> float:
        return numbers.get(toy_engine(history).state, won)

    return FunctionPotential(potential)


class Unchanged:
    """No term at all."""

    name = "nothing"

    def rewards(self, transitions):
        return np.zeros(len(transitions))


class PotentialItself(Shaping):
    """What shaping is not: the potential of the state reached, not its difference."""

    def rewards(self, transitions):
        return np.array([0 if t.step.terminated else self._potential.potential([t.after])[0] for t in transitions])


class NeverZero(Shaping):
    """What shaping is not: the potential of a won state is paid too."""

    def rewards(self, transitions):
        before = self._potential.potential([turn.history for turn in transitions])
        return GAMMA * self._potential.potential([turn.after for turn in transitions]) - before


TASK = 1


@pytest.fixture(scope="module")
def model() -> ToyModel:
    return toy_model(TASK)


@pytest.fixture(scope="module")
def best(model) -> list[set[str]]:
    found = best_commands(model, rewards_P(TASK, model, Unchanged()))
    # The independent solution agrees with the module's exact one.
    table = optimal_q(TASK, GAMMA)
    for state, commands in zip(model.states, found, strict=True):
        values = {command: table.q(state, command) for command in model.commands[model.index[state]]}
        assert commands == {command for command, q in values.items() if q > max(values.values()) - 1e-9}
    return found


def test_shaping_by_an_arbitrary_potential_leaves_every_optimal_command_optimal(model, best):
    shaping = Shaping(random_potential(model, won=-5.0), GAMMA)
    assert best_commands(model, rewards_P(TASK, model, shaping)) == best
    assert any(len(commands) < len(all_) for commands, all_ in zip(best, model.commands, strict=True))


@pytest.mark.parametrize("wrong", [PotentialItself, NeverZero])
def test_what_is_not_shaping_changes_the_optimal_commands(wrong, model, best):
    term = wrong(random_potential(model, won=-5.0), GAMMA)
    assert best_commands(model, rewards_P(TASK, model, term)) != best


def test_shaping_for_another_discount_than_the_learners_changes_the_optimal_commands(model, best):
    shaping = Shaping(random_potential(model, won=0.0), 1.0)
    assert best_commands(model, rewards_P(TASK, model, shaping)) != best


# --- potentials ---


def test_goal_conditions_are_those_of_the_state_reached():
    history = History("t", "o")
    done = Step("o", (), Action("a"), info={InfoKey.GOAL_CONDITION_SUCCESS_RATE: 0.25})
    potential = goal_conditions().potential([history, history.after(done, "p", {})])
    assert potential.tolist() == [0.0, 0.25]


def test_goal_conditions_without_any_are_an_error():
    history = History("t", "o", steps=(Step("o", (), Action("a")),), task_id="chat")
    with pytest.raises(ValueError, match=r"'goal_condition_success_rate'.*'chat' has not"):
        goal_conditions().potential([history])


def test_the_values_of_a_model_are_a_potential():
    class Values:
        name = "v"

        def values(self, histories):
            return np.array([len(history.steps) / 4 for history in histories])

    # gamma 1/2: 1/2 * 1/4 - 0 and, cut off, 1/2 * 2/4 - 1/4.
    shaping = Shaping(ValuePotential(Values()), 0.5)
    assert shaping.name == "shaping_v"
    (trajectory,) = collect(ScriptedAgent(lambda history: "wrong"), VectorStepReward(scripted(1, 2), shaping), [0])
    assert [step.process_reward for step in trajectory.steps] == [0.125, 0.0]


@pytest.mark.parametrize("gamma", [-0.1, 1.5, float("nan")])
def test_a_discount_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma must be in"):
        Shaping(goal_conditions(), gamma)
