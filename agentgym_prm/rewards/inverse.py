"""Examples for an inverse process reward model: demonstrations against the policy's own rollouts.

The implicit reward of a step is ``Q(h, a) - gamma Q(h', a')``, at the end of an episode ``Q(h, a)``; it is trained to
be 1 on demonstrations and 0 on rollouts. Along a demonstration ``a'`` is what the *current policy* would do at ``h'``,
drawn anew; along a rollout it is the action taken.

Source: arXiv:2502.10325, section 4. Departs from the released code, which pairs re-sampled actions with the wrong rows
once an episode ends. An episode cut off by the step cap ends like any other: nothing is known of what would follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentgym_prm.agents.core import Agent
from agentgym_prm.draws import mix
from agentgym_prm.types import Action, History, Trajectory


@dataclass(frozen=True, slots=True)
class InverseExample:
    """One step; ``next_history`` and ``next_action`` are ``None`` on the last of an episode."""

    history: History
    action: Action
    next_history: History | None
    next_action: Action | None
    label: int

    @property
    def ends(self) -> bool:
        """Whether this is the last step of its episode."""
        return self.next_history is None


def inverse_examples(
    demonstrations: Sequence[Trajectory],
    rollouts: Sequence[Trajectory],
    policy: Agent,
    *,
    seed: int = 0,
    batch_size: int = 256,
) -> list[InverseExample]:
    """Steps of equally many demonstrations (label 1) and rollouts (label 0).

    Args:
        demonstrations: Expert trajectories.
        rollouts: Trajectories of ``policy``.
        policy: Acts at the demonstrations' next histories.
        seed: Which trajectories of the larger set are kept; the smaller one is used whole.
        batch_size: Histories that ``policy`` sees at a time.

    Returns:
        First the demonstrations' steps, then the rollouts', each in order.
    """
    count = min(len(demonstrations), len(rollouts))
    chosen = _chosen(demonstrations, count, seed)
    upcoming = [t.history(turn) for t in chosen for turn in range(1, len(t.steps))]
    resampled: list[Action] = []
    for start in range(0, len(upcoming), batch_size):
        resampled += policy.act(upcoming[start : start + batch_size])
    # ``upcoming`` has no entry for a last step, so each of the others takes the next one.
    following = iter(zip(upcoming, resampled, strict=True))
    examples = []
    for trajectory in chosen:
        for turn, step in enumerate(trajectory.steps):
            ends = turn + 1 == len(trajectory.steps)
            next_history, next_action = (None, None) if ends else next(following)
            examples.append(InverseExample(trajectory.history(turn), step.action, next_history, next_action, label=1))
    for trajectory in _chosen(rollouts, count, seed):
        for turn, step in enumerate(trajectory.steps):
            ends = turn + 1 == len(trajectory.steps)
            examples.append(
                InverseExample(
                    trajectory.history(turn),
                    step.action,
                    None if ends else trajectory.history(turn + 1),
                    None if ends else trajectory.steps[turn + 1].action,
                    label=0,
                )
            )
    return examples


def _chosen(trajectories: Sequence[Trajectory], count: int, seed: int) -> list[Trajectory]:
    """``count`` of the trajectories, drawn without replacement, in their order."""
    drawn = sorted(range(len(trajectories)), key=lambda number: mix(seed, number))[:count]
    return [trajectories[number] for number in sorted(drawn)]
