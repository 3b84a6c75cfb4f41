"""Claim: ``gym.make_vec`` with 256 slots steps tens of thousands of games a second, and a further slot costs kilobytes.

    make bench        or        python benchmarks/alfworld_vector.py [--num-envs 256] [--ticks 400]

End to end: commands drawn at random from ``infos["admissible_commands"]``, finished slots reset with masks, everything
in one thread, on the first 256 training games; "fresh games" plays games that no slot has played before, so each reset
also generates and compiles one. Beside it Gymnasium's own Sync and Async vector environments on the same games, and
``collect``, which also builds and keeps the trajectories.
"""

import argparse
import gc
import random
import time
import tracemalloc
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from agentgym_prm import RandomAgent, collect
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.envs.alfworld import ALFWorldEnv


def steps_per_second(envs: VectorEnv, ticks: int, games: int = 256, first: int = 0) -> float:
    """Environment steps a second of wall time, random commands, resets to games ``first + k % games`` included."""
    rng = random.Random(0)
    _, infos = envs.reset(seed=[first + slot % games for slot in range(envs.num_envs)])
    admissible = list(infos["admissible_commands"])
    started = time.perf_counter()
    for tick in range(ticks):
        actions = [commands[int(rng.random() * len(commands))] for commands in admissible]
        _, _, terminated, truncated, infos = envs.step(actions)
        admissible = list(infos["admissible_commands"])
        finished = terminated | truncated
        if finished.any():
            seeds = [first + (tick * envs.num_envs + slot) % games for slot in range(envs.num_envs)]
            _, infos = envs.reset(seed=seeds, options={"reset_mask": finished})
            for slot in np.flatnonzero(finished):
                admissible[slot] = infos["admissible_commands"][slot]
    return ticks * envs.num_envs / (time.perf_counter() - started)


def memory_each(count: int = 200) -> float:
    """Kilobytes of one further environment on a game that others play already."""
    first = ALFWorldEnv(difficulty="full")
    first.reset(seed=0)
    gc.collect()
    tracemalloc.start()
    kept = [ALFWorldEnv(difficulty="full") for _ in range(count)]
    for env in kept:
        env.reset(seed=0)
    each = tracemalloc.get_traced_memory()[0] / count / 1e3
    tracemalloc.stop()
    return each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--ticks", type=int, default=400)
    options = parser.parse_args()
    single = partial(gym.make, ALFWORLD, difficulty="full")
    makers = {
        "TextVectorEnv (gym.make_vec)": lambda: gym.make_vec(ALFWORLD, options.num_envs, difficulty="full"),
        "gymnasium SyncVectorEnv": lambda: SyncVectorEnv(
            [single] * options.num_envs, autoreset_mode=AutoresetMode.DISABLED
        ),
        "gymnasium AsyncVectorEnv, 8": lambda: AsyncVectorEnv(
            [single] * 8, autoreset_mode=AutoresetMode.DISABLED, shared_memory=False
        ),
    }
    for name, make in makers.items():
        envs = make()
        steps_per_second(envs, ticks=110)  # builds the games and fills the caches
        print(f"{name:<34}{steps_per_second(envs, options.ticks):>12,.0f} env-steps/s", flush=True)
        envs.close()
    envs = gym.make_vec(ALFWORLD, options.num_envs, difficulty="full")
    fresh = steps_per_second(envs, options.ticks, games=8000, first=1000)
    print(f"{'TextVectorEnv, fresh games':<34}{fresh:>12,.0f} env-steps/s")
    started = time.perf_counter()
    episodes = collect(RandomAgent(), envs, [seed % 256 for seed in range(2 * options.num_envs)])
    steps = sum(len(episode.steps) for episode in episodes)
    print(f"{'collect with RandomAgent':<34}{steps / (time.perf_counter() - started):>12,.0f} env-steps/s")
    print(f"{'a further environment':<34}{memory_each():>12.1f} kB")
    started = time.perf_counter()
    ALFWorldEnv(split="valid_seen").reset(seed=0)
    print(f"{'make and reset another game':<34}{(time.perf_counter() - started) * 1e3:>12.2f} ms")


if __name__ == "__main__":
    main()
