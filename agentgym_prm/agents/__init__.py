"""Agents: everything that chooses commands, behind one ``act``."""

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.mixture import Mixture, Switch
from agentgym_prm.agents.scripted import (
    ExpertAgent,
    HandcodedAgent,
    HomekeeperAgent,
    HumanAgent,
    RandomAgent,
    ReplayAgent,
    ShopperAgent,
)
from agentgym_prm.agents.tree_search import TreeSearch

__all__ = [
    "Agent",
    "BestOfN",
    "ExpertAgent",
    "HandcodedAgent",
    "HomekeeperAgent",
    "HumanAgent",
    "Mixture",
    "RandomAgent",
    "ReplayAgent",
    "ShopperAgent",
    "Switch",
    "TreeSearch",
]
