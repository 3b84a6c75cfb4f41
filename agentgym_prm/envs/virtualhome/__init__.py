"""VirtualHome: household activities in text and as scripts, executed natively on the benchmark's own graphs."""

from agentgym_prm.envs.virtualhome.env import VirtualHomeEnv, make_vector_env

__all__ = ["VirtualHomeEnv", "make_vector_env"]
