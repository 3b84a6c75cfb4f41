"""Questions that are answered by searching an encyclopedia."""

from agentgym_prm.envs.wiki_search.env import WikiSearchEnv, make_vector_env

__all__ = ["WikiSearchEnv", "make_vector_env"]
