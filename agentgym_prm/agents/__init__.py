"""Agents: everything that chooses commands, behind one ``act``."""

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.scripted import ExpertAgent, HandcodedAgent, HumanAgent, RandomAgent, ReplayAgent

__all__ = ["Agent", "ExpertAgent", "HandcodedAgent", "HumanAgent", "RandomAgent", "ReplayAgent"]
