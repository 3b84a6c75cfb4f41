"""WebShop: shopping for what an instruction asks for, in text, played natively from files or in generated shops."""

from agentgym_prm.envs.webshop.env import WebShopEnv, make_vector_env

__all__ = ["WebShopEnv", "make_vector_env"]
