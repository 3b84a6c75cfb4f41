"""Rewards of single steps: scorers of actions, and the targets that they are trained on.

``targets``, ``inverse`` and ``branching`` work on values in memory; ``dataset`` does the same for millions of steps on
disk (extra ``[data]``); ``oracle`` holds scorers that know more than a text agent may, for ceilings and tests.
``wrappers`` pay terms (``shaping``, ``rubric``, any scorer) step by step, in environments or finished trajectories.
``quality`` says how good a scorer is, ``baselines`` holds those that a learned one has to beat (extra ``[train]``).
"""

from agentgym_prm.rewards.core import (
    AdvantageScorer,
    FunctionScorer,
    RandomScorer,
    RewardTerm,
    ScorerTerm,
    StepScorer,
    Transition,
    Weighted,
)
from agentgym_prm.rewards.rubric import RUBRICS, Criterion, Rubric, per_episode
from agentgym_prm.rewards.shaping import FunctionPotential, Potential, Shaping, ValuePotential, goal_conditions
from agentgym_prm.rewards.wrappers import StepReward, VectorStepReward, rewarded

__all__ = [
    "RUBRICS",
    "AdvantageScorer",
    "Criterion",
    "FunctionPotential",
    "FunctionScorer",
    "Potential",
    "RandomScorer",
    "RewardTerm",
    "Rubric",
    "ScorerTerm",
    "Shaping",
    "StepReward",
    "StepScorer",
    "Transition",
    "ValuePotential",
    "VectorStepReward",
    "Weighted",
    "goal_conditions",
    "per_episode",
    "rewarded",
]
