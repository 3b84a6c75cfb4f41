"""Train and judge LLM agents step by step: text environments, step rewards, agents and algorithms.

Importing the package registers its environments with Gymnasium; it loads no machine-learning library.
"""

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.mixture import Mixture, Switch
from agentgym_prm.agents.scripted import (
    ExpertAgent,
    HandcodedAgent,
    HomekeeperAgent,
    RandomAgent,
    ReplayAgent,
    SearcherAgent,
    ShopperAgent,
)
from agentgym_prm.agents.tree_search import TreeSearch
from agentgym_prm.envs import ENV_IDS, register_envs
from agentgym_prm.envs.core import TextEnv, TextSpace, TextVectorEnv
from agentgym_prm.evaluate import EvalReport, evaluate
from agentgym_prm.rewards.core import FunctionScorer, RandomScorer, RewardTerm, StepScorer, Weighted
from agentgym_prm.rewards.rubric import Rubric
from agentgym_prm.rewards.shaping import Shaping
from agentgym_prm.rewards.step_labels import StepLabels
from agentgym_prm.rewards.wrappers import StepReward, VectorStepReward, rewarded
from agentgym_prm.rollout import collect
from agentgym_prm.types import Action, History, InfoKey, Step, Trajectory
from agentgym_prm.version import __version__

__all__ = [
    "ENV_IDS",
    "Action",
    "Agent",
    "BestOfN",
    "EvalReport",
    "ExpertAgent",
    "FunctionScorer",
    "HandcodedAgent",
    "History",
    "HomekeeperAgent",
    "InfoKey",
    "Mixture",
    "RandomAgent",
    "RandomScorer",
    "ReplayAgent",
    "RewardTerm",
    "Rubric",
    "SearcherAgent",
    "Shaping",
    "ShopperAgent",
    "Step",
    "StepLabels",
    "StepReward",
    "StepScorer",
    "Switch",
    "TextEnv",
    "TextSpace",
    "TextVectorEnv",
    "Trajectory",
    "TreeSearch",
    "VectorStepReward",
    "Weighted",
    "__version__",
    "collect",
    "evaluate",
    "rewarded",
]

register_envs()
