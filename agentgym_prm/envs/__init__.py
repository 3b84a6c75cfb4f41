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
ENV_IDS: Final = (ALFWORLD, TOY, VIRTUALHOME, WEBSHOP)


def register_envs() -> None:
    """Register every environment that is not registered yet."""
    if ALFWORLD not in gym.registry:
        gym.register(
            ALFWORLD,
            entry_point="agentgym_prm.envs.alfworld:ALFWorldEnv",
            vector_entry_point="agentgym_prm.envs.alfworld:make_vector_env",
            max_episode_steps=50,
        )
    if TOY not in gym.registry:
        gym.register(
            TOY,
            entry_point="agentgym_prm.envs.toy:ToyEnv",
            vector_entry_point="agentgym_prm.envs.toy:make_vector_env",
            max_episode_steps=20,
        )
    if VIRTUALHOME not in gym.registry:
        gym.register(
            VIRTUALHOME,
            entry_point="agentgym_prm.envs.virtualhome:VirtualHomeEnv",
            vector_entry_point="agentgym_prm.envs.virtualhome:make_vector_env",
            max_episode_steps=40,
        )
    if WEBSHOP not in gym.registry:
        gym.register(
            WEBSHOP,
            entry_point="agentgym_prm.envs.webshop:WebShopEnv",
            vector_entry_point="agentgym_prm.envs.webshop:make_vector_env",
            max_episode_steps=15,
        )
