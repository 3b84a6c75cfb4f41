"""Text environments, registered with Gymnasium under ``agentgym_prm/…``.

``import agentgym_prm`` registers them; a file that imports only gymnasium writes the module in front of the id:
``gym.make("agentgym_prm:agentgym_prm/ALFWorld-v0")``. Entry points are strings, so registering loads no environment.
"""

from typing import Final

import gymnasium as gym

ALFWORLD: Final = "agentgym_prm/ALFWorld-v0"
TOY: Final = "agentgym_prm/Toy-v0"
VIRTUALHOME: Final = "agentgym_prm/VirtualHome-v0"
WEBSHOP: Final = "agentgym_prm/WebShop-v0"
WIKISEARCH: Final = "agentgym_prm/WikiSearch-v0"
_ENVIRONMENTS: Final = {
    ALFWORLD: ("alfworld", "ALFWorldEnv", 50),
    TOY: ("toy", "ToyEnv", 20),
    VIRTUALHOME: ("virtualhome", "VirtualHomeEnv", 40),
    WEBSHOP: ("webshop", "WebShopEnv", 15),
    WIKISEARCH: ("wiki_search", "WikiSearchEnv", 10),
}
"""Module, class and step cap of each id; the cap is part of what the id stands for."""
ENV_IDS: Final = tuple(_ENVIRONMENTS)


def register_envs() -> None:
    """Register every environment that is not registered yet."""
    for env_id, (module, name, cap) in _ENVIRONMENTS.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point=f"agentgym_prm.envs.{module}:{name}",
                vector_entry_point=f"agentgym_prm.envs.{module}:make_vector_env",
                max_episode_steps=cap,
            )
