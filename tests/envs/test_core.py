import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agentgym_prm.envs.core import TextSpace, TextVectorEnv
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.testing import ScriptedEnv, check_text_env


def test_text_space_holds_every_script_up_to_its_cap():
    space = TextSpace(max_length=5)
    assert all(text in space for text in ("", "café", "日本語", "\x00\n", "\ud800"))
    assert "sixsix" not in space
    assert b"look" not in space
    assert 3 not in space


def test_text_spaces_are_equal_by_cap_alone():
    one, other = TextSpace(max_length=5), TextSpace(max_length=5)
    other.candidates = ("look",)
    assert one == other
    assert hash(one) == hash(other)
    assert one != TextSpace(max_length=6)


def test_sample_draws_every_candidate_and_repeats_from_a_seed():
    space = TextSpace(seed=1)
    space.candidates = ("left", "right", "up")
    drawn = [space.sample() for _ in range(100)]
    assert set(drawn) == {"left", "right", "up"}
    space.seed(1)
    assert [space.sample() for _ in range(100)] == drawn


def test_sample_without_candidates_is_a_word_inside_the_cap():
    word = TextSpace(max_length=3, seed=0).sample()
    assert len(word) == 3
    assert word.isalpha()


def test_sample_refuses_a_mask():
    with pytest.raises(ValueError, match="takes no mask"):
        TextSpace().sample(mask=np.ones(3))


def test_scripted_env_passes_gymnasiums_checker_and_ours():
    check_env(ScriptedEnv(), skip_render_check=True)
    check_text_env(ScriptedEnv())


def test_seeds_count_through_the_tasks():
    env = ScriptedEnv()
    ids = [env.reset(seed=seed)[1]["task_id"] for seed in (0, 1, 2, 3)]
    assert ids == ["scripted-0", "scripted-1", "scripted-0", "scripted-1"]


def test_resets_without_a_seed_follow_from_the_last_seed():
    def draws() -> list[str]:
        env = ScriptedEnv([("a",), ("b",), ("c",), ("d",)])
        env.reset(seed=7)
        return [env.reset()[1]["task_id"] for _ in range(20)]

    first = draws()
    assert first == draws()
    assert len(set(first)) > 1


def test_a_named_task_wins_over_the_seed():
    env = ScriptedEnv()
    assert env.reset(seed=0, options={"task": 1})[1]["task_id"] == "scripted-1"
    assert env.reset(seed=0, options={"task": "scripted-1"})[1]["task_id"] == "scripted-1"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": 2}, IndexError, r"must be in \[0, 2\), got 2"),
        ({"task": -1}, IndexError, "got -1"),
        ({"task": 0.5}, TypeError, "task index or a task id, got float"),
        ({"task": True}, TypeError, "got bool"),
        ({"task": "scripted-9"}, UnknownNameError, "did you mean 'scripted-"),
        ({"tsak": 0}, UnknownNameError, "did you mean 'task'"),
    ],
)
def test_wrong_reset_options_say_what_would_be_right(options, error, message):
    with pytest.raises(error, match=message):
        ScriptedEnv().reset(options=options)


def test_step_before_reset_and_after_the_end_say_so():
    env = ScriptedEnv()
    with pytest.raises(gym.error.ResetNeeded, match="before the first reset"):
        env.step("left")
    env.reset(seed=1)
    assert env.step("up")[2]
    with pytest.raises(gym.error.ResetNeeded, match="after the episode had ended"):
        env.step("up")


def test_an_action_that_is_no_string_is_a_type_error():
    env = ScriptedEnv()
    env.reset(seed=0)
    with pytest.raises(TypeError, match=r"must be a string.*got int: 3"):
        env.step(3)


def test_render_returns_the_last_observation_only_in_ansi_mode():
    env = ScriptedEnv(render_mode="ansi")
    observation, _ = env.reset(seed=0)
    assert env.render() == observation
    silent = ScriptedEnv()
    silent.reset(seed=0)
    assert silent.render() is None
    with pytest.raises(UnknownNameError, match="did you mean 'ansi'"):
        ScriptedEnv(render_mode="ansii")


def vector_pair(num_envs: int, cap: int) -> tuple[TextVectorEnv, SyncVectorEnv]:
    ours = TextVectorEnv(ScriptedEnv, num_envs, max_episode_steps=cap)
    theirs = SyncVectorEnv(
        [lambda: gym.wrappers.TimeLimit(ScriptedEnv(), cap)] * num_envs, autoreset_mode=AutoresetMode.DISABLED
    )
    return ours, theirs


def assert_same_infos(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        assert values.dtype == theirs[key].dtype, key
        assert values.tolist() == theirs[key].tolist(), key


def test_text_vector_env_gives_what_gymnasiums_sync_env_gives():
    ours, theirs = vector_pair(num_envs=3, cap=2)
    mine, other = ours.reset(seed=[0, 1, 0]), theirs.reset(seed=[0, 1, 0])
    assert mine[0] == other[0]
    assert_same_infos(mine[1], other[1])
    # Slot 0 wins in two steps, slot 1 in one, slot 2 runs into the cap after a wrong command.
    for actions in (["left", "up", "wrong"], ["right", "up", "left"]):
        mine, other = ours.step(actions), theirs.step(actions)
        assert mine[0] == other[0]
        for k in (1, 2, 3):
            assert mine[k].tolist() == other[k].tolist()
        assert_same_infos(mine[4], other[4])
        finished = mine[2] | mine[3]
        if finished.any():
            mine = ours.reset(seed=[4, 5, 6], options={"reset_mask": finished.copy()})
            other = theirs.reset(seed=[4, 5, 6], options={"reset_mask": finished.copy()})
            assert mine[0] == other[0]
            assert_same_infos(mine[1], other[1])


def test_text_vector_env_truncates_at_the_cap_and_not_before():
    envs = TextVectorEnv(ScriptedEnv, 1, max_episode_steps=2)
    envs.reset(seed=0)
    assert not envs.step(["wrong"])[3][0]
    assert envs.step(["wrong"])[3].tolist() == [True]


def test_a_finished_slot_must_be_reset_first():
    envs = TextVectorEnv(ScriptedEnv, 2)
    with pytest.raises(gym.error.ResetNeeded, match=r"slots \[0, 1\] are not running"):
        envs.step(["up", "up"])
    envs.reset(seed=[0, 1])
    envs.step(["left", "up"])
    with pytest.raises(gym.error.ResetNeeded, match=r"slots \[1\]"):
        envs.step(["right", "up"])


def test_the_callers_options_are_left_alone():
    envs = TextVectorEnv(ScriptedEnv, 2)
    options = {"reset_mask": np.array([True, True])}
    envs.reset(seed=0, options=options)
    assert list(options) == ["reset_mask"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda envs: envs.reset(seed=[1]), ValueError, "one seed for each of 2 slots, got 1"),
        (lambda envs: envs.reset(options={"reset_mask": [True, False]}), TypeError, "bool array of shape"),
        (lambda envs: envs.reset(options={"reset_mask": np.zeros(2, bool)}), ValueError, "at least one slot"),
        (lambda envs: (envs.reset(seed=0), envs.step(["left"])), ValueError, "one action for each of 2 slots, got 1"),
    ],
)
def test_wrong_calls_of_the_vector_env_say_what_would_be_right(call, error, message):
    with pytest.raises(error, match=message):
        call(TextVectorEnv(ScriptedEnv, 2))


def test_infos_of_unlike_slots_are_masked():
    class Chatty(ScriptedEnv):
        def _outcome(self):
            outcome = super()._outcome()
            if self._task == 1:
                outcome.info["extra"] = "only here"
            return outcome

    envs = TextVectorEnv(Chatty, 2)
    _, infos = envs.reset(seed=[0, 1])
    assert infos["extra"].tolist() == [None, "only here"]
    assert infos["_extra"].tolist() == [False, True]


def test_a_masked_reset_leaves_the_other_finished_slots_finished():
    envs = TextVectorEnv(ScriptedEnv, 2)
    envs.reset(seed=[1, 1])
    envs.step(["up", "up"])
    envs.reset(seed=[1, 1], options={"reset_mask": np.array([True, False])})
    with pytest.raises(gym.error.ResetNeeded, match=r"slots \[1\]"):
        envs.step(["up", "up"])


def test_closing_closes_every_slot():
    closed = []

    class Counted(ScriptedEnv):
        def close(self):
            closed.append(self)

    envs = TextVectorEnv(Counted, 3)
    envs.close()
    assert closed == envs.envs


def test_each_slots_space_samples_what_is_admissible_there():
    envs = TextVectorEnv(ScriptedEnv, 2)
    envs.reset(seed=[0, 1])
    drawn = [envs.action_space.sample() for _ in range(30)]
    assert {first for first, _ in drawn} == {"left", "right"}
    assert {second for _, second in drawn} == {"up"}


def test_a_wrong_action_in_one_slot_steps_no_slot():
    envs = TextVectorEnv(ScriptedEnv, 2)
    envs.reset(seed=0)
    with pytest.raises(TypeError, match=r"slot 1: an action must be a string, got int: 3"):
        envs.step(["left", 3])
    with pytest.raises(ValueError, match="one action for each of 2 slots, got 'ab'"):
        envs.step("ab")
    assert [env.steps for env in envs.envs] == [0, 0]


def test_minus_one_is_no_cap_and_zero_is_refused():
    envs = TextVectorEnv(ScriptedEnv, 1, max_episode_steps=-1)
    envs.reset(seed=0)
    assert not any(envs.step(["wrong"])[3][0] for _ in range(100))
    with pytest.raises(ValueError, match="at least 1, or -1 for no cap, got 0"):
        TextVectorEnv(ScriptedEnv, 1, max_episode_steps=0)


def test_a_vector_env_renders_what_each_slot_shows():
    envs = TextVectorEnv(lambda: ScriptedEnv(render_mode="ansi"), 2)
    observations, _ = envs.reset(seed=0)
    assert envs.render() == observations
    assert TextVectorEnv(ScriptedEnv, 2).render() is None


def test_a_reset_that_failed_leaves_no_episode_to_step():
    env = ScriptedEnv()
    env.reset(seed=0)
    with pytest.raises(IndexError):
        env.reset(options={"task": 99})
    with pytest.raises(gym.error.ResetNeeded, match="after a reset\\(\\) that failed"):
        env.step("left")
    with pytest.raises(TypeError, match="options must be a mapping"):
        env.reset(options=["task"])
