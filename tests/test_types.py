import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym_prm.types import Action, History, Step, Trajectory

texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
actions = st.builds(
    Action,
    command=texts,
    reply=texts,
    reasoning=texts,
    token_ids=st.lists(st.integers(0, 10**6), max_size=4).map(tuple),
    logprobs=st.lists(numbers, max_size=4).map(tuple),
    stop_reason=texts,
    usage=st.dictionaries(texts, numbers, max_size=2),
    scores=st.dictionaries(texts, numbers, max_size=2),
)
actions_with_candidates = st.builds(replace, actions, candidates=st.lists(actions, max_size=2).map(tuple))
steps = st.builds(
    Step,
    observation=texts,
    admissible_commands=st.lists(texts, max_size=3).map(tuple),
    action=actions_with_candidates,
    outcome_reward=numbers,
    process_reward=numbers,
    terminated=st.booleans(),
    truncated=st.booleans(),
    info=st.dictionaries(texts, st.one_of(texts, numbers, st.booleans(), st.none()), max_size=3),
)
trajectories = st.builds(
    Trajectory,
    task=texts,
    seed=st.integers(0, 2**40),
    steps=st.lists(steps, max_size=3).map(tuple),
    final_observation=texts,
    task_id=texts,
    task_type=texts,
    episode=st.integers(0, 2**40),
)


@given(trajectories)
def test_a_trajectory_survives_json_exactly(trajectory):
    assert Trajectory.from_json(json.loads(json.dumps(trajectory.to_json()))) == trajectory


def test_another_schema_version_is_refused():
    record = Trajectory("task", 0, (), "").to_json() | {"schema_version": 0}
    with pytest.raises(ValueError, match="schema_version must be 1, got 0"):
        Trajectory.from_json(record)


def test_outcome_sums_the_environments_reward_and_leaves_out_the_process_reward():
    step = Step("o", (), Action("a"), outcome_reward=0.5, process_reward=2.0)
    assert step.reward == 2.5
    assert Trajectory("task", 0, (step, step), "end").outcome == 1.0


def test_a_history_grows_by_one_step_and_leaves_the_old_one_alone():
    before = History(task="t", observation="first", admissible_commands=("look",), task_id="id", seed=3, episode=9)
    step = Step("first", ("look",), Action("look"))
    after = before.after(step, "second", {"admissible_commands": ("go", "look"), "expert_action": "go"})
    assert (after.observation, after.admissible_commands, after.commands) == ("second", ("go", "look"), ("look",))
    assert (after.task_id, after.seed, after.episode, after.expert_action) == ("id", 3, 9, "go")
    assert before.steps == ()


def test_the_history_of_a_turn_is_what_the_agent_saw_there():
    first, second = Step("first", ("a", "b"), Action("a")), Step("second", ("b",), Action("b"))
    trajectory = Trajectory("task", 3, (first, second), "end", task_id="id", task_type="kind", episode=9)
    begin = History("task", "first", ("a", "b"), task_id="id", task_type="kind", seed=3, episode=9)
    assert trajectory.history(0) == begin
    assert trajectory.history(1) == begin.after(first, "second", {"admissible_commands": ("b",)})
    for turn in (-1, 2):
        with pytest.raises(IndexError, match=rf"turn must be in \[0, 2\), got {turn}"):
            trajectory.history(turn)
