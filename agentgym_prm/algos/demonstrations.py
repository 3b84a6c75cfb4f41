"""Demonstrations: an expert plays, with random commands thrown in, so that its recoveries can be learned too.

The injected commands are executed and stay in the history, but are marked (``Action.scores["injected"]``) and not
imitated. Without them a policy never sees the states that its own slips lead to.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from agentgym_prm.agents.scripted import ExpertAgent, NoisyAgent
from agentgym_prm.rollout import stream
from agentgym_prm.types import Trajectory


def demonstrate(
    env_id: str,
    seeds: Sequence[int],
    *,
    expert: str = "handcoded",
    noise: float = 0.25,
    noise_seed: int = 0,
    num_envs: int = 32,
    path: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    **env_kwargs: Any,
) -> Iterator[Trajectory]:
    """Let an expert play one episode for each seed; yields each as it ends.

    Args:
        env_id: A registered text environment that has experts.
        seeds: Which episodes; a seed may occur several times and is then disturbed differently.
        expert: Which of the environment's experts.
        noise: Share of turns at which a random admissible command is executed instead, in [0, 1].
        noise_seed: Picks those turns and commands.
        num_envs: Slots stepped together; changes the speed only.
        path: JSONL file for the trajectories.
        resume: Continue ``path``.
        progress: Show a progress bar.
        **env_kwargs: Passed to the environment, e.g. ``split="train"``.
    """
    if not seeds:
        return
    agent = NoisyAgent(ExpertAgent(expert), noise, noise_seed)
    envs = gym.make_vec(env_id, num_envs=min(num_envs, len(seeds)), expert=expert, **env_kwargs)
    try:
        yield from stream(agent, envs, seeds, path=path, resume=resume, progress=progress)
    finally:
        envs.close()
