import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agentgym_prm import (
    Action,
    FunctionScorer,
    HandcodedAgent,
    History,
    Mixture,
    RandomAgent,
    RandomScorer,
    Trajectory,
    collect,
)
from agentgym_prm.agents.core import Agent
from agentgym_prm.envs import ALFWORLD, TOY
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.evaluate import summarise
from agentgym_prm.rewards import (
    AdvantageScorer,
    FunctionPotential,
    Rubric,
    Shaping,
    StepReward,
    Transition,
    VectorStepReward,
    Weighted,
    goal_conditions,
    rewarded,
)
from agentgym_prm.rewards.core import transitions_of
from agentgym_prm.testing import ScriptedAgent, ScriptedEnv, check_reward_term, check_scorer
from agentgym_prm.types import InfoKey

LENGTH = FunctionScorer(lambda history, action: len(action.command), "length")
DEPTH = FunctionScorer(lambda history, action: len(history.steps), "depth")
PLAYER = Mixture([HandcodedAgent(), RandomAgent(1)], how="draw")
"""Wins some household games within 12 steps and repeats itself in others."""


class Recorder:
    """A term that pays nothing and remembers what it was shown."""

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.calls: list[list[Transition]] = []

    def rewards(self, transitions):
        self.calls.append(list(transitions))
        return np.zeros(len(transitions))

    @property
    def seen(self) -> list[Transition]:
        return [turn for call in self.calls for turn in call]


def scripted(num_envs: int, cap: int | None = None) -> TextVectorEnv:
    return TextVectorEnv(ScriptedEnv, num_envs, max_episode_steps=cap)


def stack() -> list[Weighted]:
    """Coefficients whose products round, so that an other order of sums would show."""
    return [
        Weighted(Shaping(goal_conditions(), gamma=0.95), 0.7),
        Weighted(Rubric.of({"valid_action": 0.1, "repeated_command": -0.3}), 0.9),
        Weighted(AdvantageScorer(RandomScorer()), 1.1),
        Weighted(RandomScorer(3), 0.3, "noise"),
    ]


def wrapped(envs, wrapper=VectorStepReward):
    for each in stack():
        envs = wrapper(envs, each.term, each.coef, each.name)
    return envs


# --- what is paid ---


def test_a_term_is_added_to_the_reward_and_the_parts_are_recorded():
    # 0.5 times the command's length: 0 + 0.5 * 4 = 2 and 1 + 0.5 * 5 = 3.5.
    env = StepReward(ScriptedEnv(), LENGTH, coef=0.5)
    env.reset(seed=0)
    *_, info = returned = env.step("left")
    assert returned[1] == 2.0
    assert info["reward_terms"] == {"outcome": 0.0, "length": 2.0}
    *_, info = returned = env.step("right")
    assert returned[1] == 3.5
    assert info["reward_terms"] == {"outcome": 1.0, "length": 2.5}


def test_terms_add_up_in_a_stack_and_see_the_environments_episode_only():
    # Second step: outcome 1, length 0.5 * 5, depth 10 * 1; the recorder outside sees neither of them.
    recorder = Recorder()
    env = StepReward(StepReward(StepReward(ScriptedEnv(), LENGTH, 0.5), DEPTH, 10), recorder)
    env.reset(seed=0)
    env.step("left")
    _, reward, _, _, info = env.step("right")
    assert reward == 13.5
    assert info["reward_terms"] == {"outcome": 1.0, "length": 2.5, "depth": 10.0, "recorder": 0.0}
    last = recorder.seen[-1]
    assert [step.outcome_reward for step in last.after.steps] == [0.0, 1.0]
    assert [step.process_reward for step in last.after.steps] == [0.0, 0.0]
    assert all("reward_terms" not in step.info for step in last.after.steps)


def test_the_wrapper_changes_the_reward_and_nothing_else():
    bare, shaped = gym.make(TOY), StepReward(gym.make(TOY), LENGTH)
    assert bare.reset(seed=3) == shaped.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        command = str(rng.choice([*bare.unwrapped.engine.admissible_commands(), "dance"]))
        observation, reward, terminated, truncated, info = bare.step(command)
        returned = shaped.step(command)
        terms = returned[4].pop("reward_terms")
        assert (returned[0], *returned[2:]) == (observation, terminated, truncated, info)
        assert returned[1] == terms["outcome"] + terms["length"] == reward + len(command)
        if terminated or truncated:
            break
    else:
        pytest.fail("the cap is 20 steps")


@pytest.mark.parametrize("env_id", [TOY, ALFWORLD])
def test_single_and_vector_wrappers_pay_the_same_to_the_last_bit(env_id):
    agent, cap, settings = {TOY: (RandomAgent(), 60, {}), ALFWORLD: (PLAYER, 12, {"difficulty": "small"})}[env_id]
    seeds = [0, 1, 2, 3, 0, 5, 4, 1, 1]
    played = collect(agent, wrapped(gym.make_vec(env_id, 3, max_episode_steps=cap, **settings)), seeds)
    assert {trajectory.steps[-1].terminated for trajectory in played} == {True, False}
    assert len({step.process_reward for trajectory in played for step in trajectory.steps}) > 20

    # Each episode once more, alone: the same commands in the single wrappers.
    env = wrapped(gym.make(env_id, max_episode_steps=cap, **settings), StepReward)
    for trajectory in played:
        env.reset(seed=trajectory.seed)
        for step in trajectory.steps:
            _, reward, terminated, truncated, info = env.step(step.action.command)
            assert reward == step.reward
            assert info["reward_terms"] == step.info["reward_terms"]
            assert (terminated, truncated) == (step.terminated, step.truncated)

    def single():
        return gym.make(env_id, max_episode_steps=cap, **settings)

    for envs in (
        SyncVectorEnv([lambda: wrapped(single(), StepReward)] * 2, autoreset_mode=AutoresetMode.DISABLED),
        wrapped(SyncVectorEnv([single] * 2, autoreset_mode=AutoresetMode.DISABLED)),
    ):
        assert collect(agent, envs, seeds) == played
        envs.close()


def test_wrappers_inside_and_outside_of_a_vector_environment_stack():
    inside = SyncVectorEnv(
        [lambda: gym.wrappers.TimeLimit(StepReward(ScriptedEnv(), LENGTH), 3)] * 2,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    outside = VectorStepReward(VectorStepReward(scripted(2, cap=3), LENGTH), DEPTH)
    seeds = [0, 1, 1, 0, 0]
    expected = collect(RandomAgent(), outside, seeds)
    assert collect(RandomAgent(), VectorStepReward(inside, DEPTH), seeds) == expected
    assert expected[0].steps[1].info["reward_terms"].keys() == {"outcome", "length", "depth"}


def test_the_order_of_the_stack_shows():
    envs = VectorStepReward(VectorStepReward(scripted(2), LENGTH, 0.5), DEPTH, -2)
    inner = "TextVectorEnv(num_envs=2)"
    assert repr(envs) == f"<VectorStepReward(-2 * depth), <VectorStepReward(0.5 * length), {inner}>>"
    env = StepReward(StepReward(ScriptedEnv(), LENGTH, 0.5), DEPTH, -2, name="far")
    assert repr(env) == "<StepReward(-2 * far), <StepReward(0.5 * length), <ScriptedEnv instance>>>"


# --- episodes and slots ---


def test_the_reset_mask_clears_the_history_of_its_slots_only():
    for make in (scripted, lambda n: SyncVectorEnv([ScriptedEnv] * n, autoreset_mode=AutoresetMode.DISABLED)):
        envs = VectorStepReward(make(2), DEPTH)
        envs.reset(seed=[0, 1])
        assert envs.step(["left", "up"])[1].tolist() == [0, 1 + 0]
        envs.reset(seed=[None, 1], options={"reset_mask": np.array([False, True])})
        assert envs.step(["wrong", "wrong"])[1].tolist() == [1, 0]
        assert envs.step(["right", "up"])[1].tolist() == [1 + 2, 1 + 1]
        envs.reset(seed=[0, 1])
        assert envs.step(["left", "wrong"])[1].tolist() == [0, 0]


def test_a_reset_starts_a_single_episode_anew():
    env = StepReward(ScriptedEnv(), DEPTH)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step("wrong")[1] for _ in range(3)] == [0, 1, 2]


def test_histories_carry_the_seed_where_it_is_known():
    recorder = Recorder()
    envs = VectorStepReward(scripted(2), recorder)
    for seed, seeds in ((5, [5, 6]), ([8, 3], [8, 3]), (None, [0, 0])):
        envs.reset(seed=seed)
        envs.step(["wrong", "wrong"])
        assert [turn.history.seed for turn in recorder.calls[-1]] == seeds
    env = StepReward(ScriptedEnv(), recorder)
    env.reset(seed=4)
    env.step("wrong")
    assert recorder.seen[-1].history.seed == 4


def test_stepping_without_a_reset_is_an_error():
    env = ScriptedEnv()
    env.reset(seed=0)
    with pytest.raises(gym.error.ResetNeeded, match="reset it"):
        StepReward(env, LENGTH).step("left")
    envs = VectorStepReward(scripted(2), LENGTH)
    with pytest.raises(gym.error.ResetNeeded, match="slot 0"):
        envs.step(["left", "up"])
    envs.reset(seed=[1, 0])
    envs.step(["up", "left"])
    with pytest.raises(gym.error.ResetNeeded, match="slot 0"):
        envs.step(["up", "right"])


def test_an_environment_that_resets_by_itself_is_refused():
    with pytest.raises(ValueError, match=r"autoreset_mode=AutoresetMode\.DISABLED"):
        VectorStepReward(SyncVectorEnv([ScriptedEnv]), LENGTH)


def test_idle_slots_are_not_judged_and_keep_their_reward():
    recorder = Recorder()
    envs = VectorStepReward(VectorStepReward(scripted(3), LENGTH), recorder)
    envs.reset(seed=[0, 0, 1])
    envs.announce({0: Action("left"), 1: Action("left")})
    _, rewards, _, _, infos = envs.step(["left", "left", "up"])
    assert rewards.tolist() == [4, 4, 1]
    assert len(recorder.seen) == 2
    assert infos["_reward_terms"].tolist() == [True, True, False]
    assert infos["reward_terms"]["outcome"].tolist() == [0, 0, 0]
    envs.reset(options={"reset_mask": np.array([False, False, True])})
    envs.announce({0: Action("left"), 1: Action("wrong")})
    envs.step(["left", "wrong", ""])
    with pytest.raises(gym.error.ResetNeeded, match="slot 2"):
        envs.step(["left", "wrong", ""])


def test_a_rollout_has_only_running_episodes_judged():
    # Seeds 0, 1, 0 take 2, 1, 2 commands.
    recorder = Recorder()
    choose = {"scripted-0": ["left", "right"], "scripted-1": ["up"]}
    agent = ScriptedAgent(lambda history: choose[history.task_id][len(history.steps)])
    collect(agent, VectorStepReward(scripted(5), recorder), [0, 1, 0])
    assert [len(call) for call in recorder.calls] == [3, 2]


def test_a_single_episode_that_was_cut_off_is_not_judged_further():
    env = StepReward(gym.wrappers.TimeLimit(ScriptedEnv(), 1), LENGTH)
    env.reset(seed=0)
    assert env.step("wrong")[3]
    with pytest.raises(gym.error.ResetNeeded):
        env.step("wrong")


def test_arrays_of_the_environment_are_not_written_to():
    kept = np.zeros(1)

    class Reusing(TextVectorEnv):
        def step(self, actions):
            observations, rewards, *rest = super().step(actions)
            kept[:] = rewards
            return observations, kept, *rest

    envs = VectorStepReward(Reusing(ScriptedEnv, 1), LENGTH)
    envs.reset(seed=[1])
    assert envs.step(["up"])[1].tolist() == [3]
    assert kept.tolist() == [1]


def test_terms_see_no_experts_advice():
    recorder = Recorder()
    envs = gym.make_vec(ALFWORLD, num_envs=1, difficulty="small", max_episode_steps=3, expert="handcoded")
    (played,) = collect(RandomAgent(), VectorStepReward(envs, recorder), [0])
    assert {h.expert_action for turn in recorder.seen for h in (turn.history, turn.after)} == {None}
    assert recorder.seen == transitions_of(played)
    recorder = Recorder()
    env = StepReward(gym.make(ALFWORLD, difficulty="small", expert="handcoded"), recorder)
    env.reset(seed=0)
    env.step("look")
    assert recorder.seen[0].history.expert_action is None


# --- announced actions ---


class Talker(Agent):
    """Gives its reasons."""

    name = "talker"

    def sample(self, histories, n=1):
        return [[Action(c, f"Reply: {c}") for c in h.admissible_commands[:1]] * n for h in histories]


def test_a_rollout_announces_whole_actions_to_every_wrapper():
    inner, outer = Recorder("inner"), Recorder("outer")
    envs = VectorStepReward(gym.wrappers.vector.RecordEpisodeStatistics(VectorStepReward(scripted(2), inner)), outer)
    played = collect(Talker(), VectorStepReward(envs, LENGTH), [1, 1, 1])
    assert [turn.step.action for turn in inner.seen] == [Action("up", "Reply: up")] * 3
    assert [turn.step.action for turn in outer.seen] == [Action("up", "Reply: up")] * 3
    assert [step.action for t in played for step in t.steps] == [Action("up", "Reply: up")] * 3


def test_without_an_announcement_the_command_is_judged():
    recorder = Recorder()
    envs = VectorStepReward(scripted(1), recorder)
    envs.reset(seed=[0])
    envs.announce({0: Action("left", "Go left.")})
    envs.step(["left"])
    envs.step(["wrong"])  # an announcement holds for one step
    assert [turn.step.action for turn in recorder.seen] == [Action("left", "Go left."), Action("wrong")]


def test_a_single_wrapper_takes_announcements_too_and_passes_them_inwards():
    recorder = Recorder()
    env = StepReward(StepReward(ScriptedEnv(), recorder), LENGTH)
    env.reset(seed=0)
    env.announce(Action("left", "Go left."))
    env.step("left")
    env.step("wrong")
    assert [turn.step.action for turn in recorder.seen] == [Action("left", "Go left."), Action("wrong")]


def test_another_command_than_announced_is_an_error():
    env = StepReward(ScriptedEnv(), LENGTH)
    env.reset(seed=0)
    env.announce(Action("left"))
    with pytest.raises(ValueError, match=r"announced was 'left', but step\(\) got 'right'"):
        env.step("right")
    envs = VectorStepReward(scripted(2), LENGTH)
    envs.reset(seed=0)
    envs.announce({1: Action("left")})
    with pytest.raises(ValueError, match="slot 1: announced was 'left'"):
        envs.step(["left", "right"])


# --- misuse ---


def test_two_terms_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two reward terms are named 'length'"):
        StepReward(gym.wrappers.TimeLimit(StepReward(ScriptedEnv(), LENGTH), 5), LENGTH)
    with pytest.raises(ValueError, match="two reward terms are named 'length'"):
        VectorStepReward(VectorStepReward(scripted(1), LENGTH), LENGTH)
    with pytest.raises(ValueError, match="two reward terms are named 'length'"):
        rewarded(collect(RandomAgent(), scripted(1), [1]), [Weighted(LENGTH), Weighted(LENGTH)])
    VectorStepReward(VectorStepReward(scripted(1), LENGTH), LENGTH, name="again")
    # Not to be seen from outside before the first step.
    inside = SyncVectorEnv([lambda: StepReward(ScriptedEnv(), LENGTH)], autoreset_mode=AutoresetMode.DISABLED)
    envs = VectorStepReward(inside, LENGTH)
    envs.reset(seed=[0])
    with pytest.raises(ValueError, match="two reward terms are named 'length'"):
        envs.step(["left"])


@pytest.mark.parametrize("name", ["outcome", "_hidden"])
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(ValueError, match=f"got '{name}'"):
        StepReward(ScriptedEnv(), LENGTH, name=name)


def test_what_is_no_term_and_what_is_no_coefficient_is_refused():
    with pytest.raises(TypeError, match="RandomAgent has neither"):
        StepReward(ScriptedEnv(), RandomAgent())
    with pytest.raises(ValueError, match="coef must be finite, got inf"):
        VectorStepReward(scripted(1), LENGTH, coef=float("inf"))


@pytest.mark.parametrize(
    ("rewards", "message"),
    [([[0.0]], r"'broken' returned shape \(1, 1\) for 1 turns"), ([float("nan")], "'broken' is not finite .* 'left'")],
)
def test_a_broken_term_is_named(rewards, message):
    broken = Recorder("broken")
    broken.rewards = lambda transitions: np.array(rewards)
    env = StepReward(ScriptedEnv(), broken)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step("left")


def test_a_wrapper_that_changes_the_sum_is_refused():
    def doubled(env):
        return gym.wrappers.TransformReward(env, lambda reward: 2 * reward)

    env = StepReward(doubled(StepReward(ScriptedEnv(), LENGTH)), DEPTH)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="a wrapper outside of a step reward changed it"):
        env.step("left")
    # Inside of all of them it defines the outcome: 2 * 1 + 2 for "up".
    env = StepReward(doubled(ScriptedEnv()), LENGTH)
    env.reset(seed=1)
    assert env.step("up")[1] == 4.0
    # Nor is it lost in a rollout.
    envs = gym.wrappers.vector.TransformReward(VectorStepReward(scripted(1), LENGTH), lambda rewards: rewards + 1)
    with pytest.raises(ValueError, match="a wrapper outside of a step reward changed it"):
        collect(RandomAgent(), envs, [0])


# --- rollouts, files and evaluation ---


def household_envs(num_envs: int):
    return gym.make_vec(ALFWORLD, num_envs=num_envs, difficulty="small", max_episode_steps=12)


@pytest.fixture(scope="module")
def bare() -> list[Trajectory]:
    played = collect(PLAYER, household_envs(8), range(70))
    assert {t.steps[-1].terminated for t in played} == {True, False}
    return played


def test_rewarding_finished_trajectories_equals_collecting_them_in_wrappers(bare):
    # 70 episodes, so that they are judged in two portions.
    played = collect(PLAYER, wrapped(household_envs(5)), range(70))
    assert rewarded(bare, stack()) == played
    read = [Trajectory.from_json(trajectory.to_json()) for trajectory in bare]
    assert rewarded(read, stack()) == played


def test_rewarding_replaces_what_was_paid_before(bare):
    once = rewarded(bare[:3], [Weighted(RandomScorer(), 9.0)])
    assert once[0].steps[0].process_reward > 0
    assert rewarded(once, stack()) == rewarded(bare[:3], stack())
    assert transitions_of(once[0]) == transitions_of(bare[0])


def test_terms_are_shown_the_same_turns_in_wrappers_and_in_finished_trajectories(bare):
    recorder = Recorder()
    collect(PLAYER, VectorStepReward(household_envs(5), recorder), range(70))
    online = sorted(recorder.seen, key=lambda turn: (turn.history.seed, len(turn.history.steps)))
    assert online == [turn for trajectory in bare for turn in transitions_of(trajectory)]
    truncated = [turn for turn in online if turn.step.truncated and not turn.step.terminated]
    assert truncated
    assert all(turn.after.admissible_commands for turn in truncated)
    assert not any(turn.after.admissible_commands for turn in online if turn.step.terminated)


def test_a_step_keeps_the_outcome_apart_from_what_terms_paid():
    # As in the first test: terms 2 and 2.5 beside outcomes 0 and 1.
    choose = ScriptedAgent(lambda history: ["left", "right"][len(history.steps)])
    (trajectory,) = collect(choose, VectorStepReward(scripted(1), LENGTH, 0.5), [0])
    assert [step.outcome_reward for step in trajectory.steps] == [0.0, 1.0]
    assert [step.process_reward for step in trajectory.steps] == [2.0, 2.5]
    assert [step.reward for step in trajectory.steps] == [2.0, 3.5]
    assert trajectory.steps[1].info["reward_terms"] == {"outcome": 1.0, "length": 2.5}
    assert trajectory.outcome == 1.0
    (plain,) = collect(choose, scripted(1), [0])
    assert "reward_terms" not in plain.steps[0].info


def test_evaluation_reads_the_outcome_only(bare):
    shaped = rewarded(bare, [Weighted(RandomScorer(), 100.0)])
    assert summarise("random", shaped) == summarise("random", bare)
    # Also where info says nothing of success, so that it is read off the rewards.
    silent = ScriptedAgent(lambda history: "wrong")

    class Quiet(ScriptedEnv):
        def _outcome(self):
            outcome = super()._outcome()
            for key in (InfoKey.WON, InfoKey.SCORE, InfoKey.GOAL_CONDITION_SUCCESS_RATE):
                del outcome.info[key]
            return outcome

    played = collect(silent, VectorStepReward(TextVectorEnv(Quiet, 2, max_episode_steps=3), LENGTH), [0, 1])
    assert played[0].steps[0].reward == 5.0
    report = summarise("silent", played)
    assert (report.overall.success, report.overall.mean_score) == (0.0, 0.0)


# --- advantages of a scorer ---


def test_an_advantage_is_the_score_minus_the_mean_of_the_admissible_commands():
    # Lengths: left 4, right 5, mean 4.5; wrong 5. Up: alone, so 0.
    two, one = History("t", "o", ("left", "right")), History("t", "o", ("up",))
    scorer = AdvantageScorer(LENGTH)
    actions = [Action("left"), Action("up"), Action("right"), Action("wrong")]
    assert scorer.score([two, one, two, two], actions).tolist() == [-0.5, 0.0, 0.5, 0.5]
    assert scorer.name == "advantage_length"


def test_with_the_best_command_as_baseline_an_action_costs_its_regret():
    # Lengths: left 4, right 5, of which 5 is the best.
    history = History("t", "o", ("left", "right"))
    scorer = AdvantageScorer(LENGTH, "best")
    assert scorer.score([history] * 2, [Action("left"), Action("right")]).tolist() == [-1.0, 0.0]
    assert scorer.name == "regret_length"
    with pytest.raises(ValueError, match="baseline"):
        AdvantageScorer(LENGTH, "median")


def test_all_commands_of_a_history_are_asked_about_with_the_same_object():
    # A process reward model reads the prompt of each object once.
    asked = []

    class Asked:
        name = "asked"

        def score(self, histories, actions):
            asked.append((list(histories), [action.command for action in actions]))
            return np.zeros(len(actions))

    first, equal = History("t", "o", ("left", "right")), History("t", "o", ("left", "right"))
    AdvantageScorer(Asked()).score([first, equal], [Action("left"), Action("up")])
    ((histories, commands),) = asked
    assert commands == ["left", "up", "left", "right", "left", "right"]
    assert [history is first for history in histories] == [True, False, True, True, False, False]


def test_an_advantage_without_admissible_commands_is_an_error():
    with pytest.raises(ValueError, match="task 'chat' offers none: use the scorer itself"):
        AdvantageScorer(LENGTH).score([History("t", "o", task_id="chat")], [Action("hello")])


def test_the_advantage_of_wasting_steps_does_not_add_up():
    # A raw score in (0, 1) pays for every step; its advantage is 0 on average over the commands of a history.
    (trajectory,) = collect(RandomAgent(), gym.make_vec(TOY, num_envs=1), [0])
    turn = transitions_of(trajectory)[0]
    commands = turn.history.admissible_commands
    scores = AdvantageScorer(RandomScorer()).score([turn.history] * len(commands), [Action(c) for c in commands])
    assert abs(scores.sum()) < 1e-12  # rounding of a handful of numbers below 1
    raw = rewarded([trajectory], [Weighted(RandomScorer())])[0]
    assert sum(step.process_reward for step in raw.steps) > 5


# --- contracts ---


def test_every_term_keeps_the_contract(bare):
    turns = [turn for trajectory in bare[:4] for turn in transitions_of(trajectory)]
    won = next(trajectory for trajectory in bare if trajectory.steps[-1].terminated)
    turns += transitions_of(won)
    for each in stack():
        check_reward_term(each, turns)
    check_reward_term(Shaping(FunctionPotential(lambda history: len(history.observation))), turns)
    histories, actions = [turn.history for turn in turns], [turn.step.action for turn in turns]
    check_scorer(AdvantageScorer(LENGTH), histories, actions)


@pytest.mark.parametrize("how", ["list", "shape", "nan", "int", "moody", "batch"])
def test_a_term_that_breaks_the_contract_is_caught(how, bare):
    calls = []

    class Broken:
        name = "broken"

        def rewards(self, transitions):
            calls.append(None)
            rewards = np.array([float(len(turn.step.action.command)) for turn in transitions])
            return {
                "list": rewards.tolist(),
                "shape": rewards[:, None],
                "nan": rewards * np.nan,
                "int": rewards.astype(int),
                "moody": rewards + len(calls),
                "batch": rewards - rewards.sum(),
            }[how]

    with pytest.raises(AssertionError):
        check_reward_term(Broken(), transitions_of(bare[0]))
