import pytest

from agentgym_prm.rewards.inverse import inverse_examples
from agentgym_prm.testing import ScriptedAgent
from agentgym_prm.types import Action, History, Step, Trajectory


def episode(name: str, length: int, *, truncated: bool = False) -> Trajectory:
    """Observations ``name0, name1, …``; commands ``do name0, do name1, …``."""
    steps = tuple(
        Step(
            f"{name}{turn}",
            (),
            Action(f"do {name}{turn}"),
            terminated=turn + 1 == length and not truncated,
            truncated=turn + 1 == length and truncated,
        )
        for turn in range(length)
    )
    return Trajectory("task", 0, steps, "end", task_id=name)


def echo(history: History) -> str:
    """A policy whose command tells at which history it was asked."""
    return f"policy at {history.observation} after {len(history.steps)}"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_resampled_actions_stay_with_their_histories_across_ends_of_episodes(batch_size):
    # One-step episodes stand first, in the middle and last: they have no next history at all.
    demonstrations = [episode(name, length) for name, length in zip("abcdef", (1, 3, 1, 1, 2, 1), strict=True)]
    rollouts = [episode(name.upper(), 2) for name in "abcdef"]
    examples = inverse_examples(demonstrations, rollouts, ScriptedAgent(echo), batch_size=batch_size)
    demonstrated = [
        (
            example.history.observation,
            example.action.command,
            example.next_history and example.next_history.observation,
            example.next_action and example.next_action.command,
        )
        for example in examples
        if example.label == 1
    ]
    assert demonstrated == [
        ("a0", "do a0", None, None),
        ("b0", "do b0", "b1", "policy at b1 after 1"),
        ("b1", "do b1", "b2", "policy at b2 after 2"),
        ("b2", "do b2", None, None),
        ("c0", "do c0", None, None),
        ("d0", "do d0", None, None),
        ("e0", "do e0", "e1", "policy at e1 after 1"),
        ("e1", "do e1", None, None),
        ("f0", "do f0", None, None),
    ]
    assert [example.ends for example in examples][:9] == [True, False, False, True, True, True, False, True, True]


def test_rollouts_keep_the_action_that_was_taken_and_label_0():
    examples = inverse_examples([episode("d", 1)], [episode("r", 3, truncated=True)], ScriptedAgent(echo))
    rolled = [(e.action.command, e.next_action and e.next_action.command) for e in examples if e.label == 0]
    # An episode that the cap cut off ends like any other.
    assert rolled == [("do r0", "do r1"), ("do r1", "do r2"), ("do r2", None)]
    assert [e.next_history.observation for e in examples if e.label == 0 and not e.ends] == ["r1", "r2"]


def test_both_sides_have_equally_many_trajectories_not_steps():
    few, many = [episode(f"d{n}-", 4) for n in range(3)], [episode(f"r{n}-", 2) for n in range(20)]
    for demonstrations, rollouts in ((few, many), (many, few)):
        examples = inverse_examples(demonstrations, rollouts, ScriptedAgent(echo))
        starts = [example.label for example in examples if not example.history.steps]
        assert starts == [1, 1, 1, 0, 0, 0]
    drawn = [{e.history.task_id for e in inverse_examples(few, many, ScriptedAgent(echo), seed=s)} for s in range(5)]
    assert len(set(map(frozenset, drawn))) > 1
    assert all(side >= {f"d{n}-" for n in range(3)} for side in drawn)


def test_the_policy_is_asked_once_for_each_next_history_of_a_demonstration():
    asked = []

    class Counting(ScriptedAgent):
        def sample(self, histories, n=1):
            asked.append(len(histories))
            return super().sample(histories, n)

    inverse_examples([episode("d", 6), episode("e", 1)], [episode("r", 9)] * 2, Counting(echo), batch_size=2)
    assert asked == [2, 2, 1]


def test_nothing_on_one_side_leaves_nothing():
    assert inverse_examples([], [episode("r", 2)], ScriptedAgent(echo)) == []
