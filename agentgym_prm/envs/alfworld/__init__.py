"""ALFWorld: household games in text, played natively from the benchmark's own files or from generated ones."""

from agentgym_prm.envs.alfworld.env import ALFWorldEnv, make_vector_env

__all__ = ["ALFWorldEnv", "make_vector_env"]
