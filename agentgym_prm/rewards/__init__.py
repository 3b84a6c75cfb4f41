"""Rewards of single steps: scorers of actions, and the targets that they are trained on.

``targets``, ``inverse`` and ``branching`` work on values in memory; ``dataset`` does the same for millions of steps on
disk (extra ``[data]``); ``oracle`` holds scorers that know more than a text agent may, for ceilings and tests.
``quality`` says how good a scorer is, ``baselines`` holds those that a learned one has to beat (extra ``[train]``).
"""

from agentgym_prm.rewards.core import FunctionScorer, RandomScorer, StepScorer

__all__ = ["FunctionScorer", "RandomScorer", "StepScorer"]
