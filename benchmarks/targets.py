"""Claim: targets of one million steps take under 60 s and 2 GB on two cores, and memory does not grow with the steps.

    make bench        or        python benchmarks/targets.py [--steps 1000000] [--folder runs/bench-targets]

The random agent plays builtin small household games, 16 rollouts of each, cap 50. Stages, each a process of its own
with two Polars threads, so that its peak of memory is its own:

``play``         playing, into a JSONL file: the environment's and the agent's time, not the targets'
``steps``        that file -> Parquet of steps (keys, returns, and all that makes the histories again)
``play-steps``   playing straight into Parquet, without a JSONL file: what ``play`` and ``steps`` together come to
``q`` ``v``      Monte-Carlo Q and V targets, split by task
``pairs``        preference pairs of the Q targets
``shaped``       shaped targets, V from the ``v`` stage (plain returns)
``read``         1,000 histories rebuilt from the place of their target

The claim's time is that of ``steps``, ``q``, ``v``, ``pairs`` and ``shaped`` together; its memory the largest of
theirs. ``shaped`` needs rollouts of which at least a quarter are worth something, and the random agent's are not: there
the stage says so, after all its work is done.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym

from agentgym_prm import RandomAgent
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.rewards.dataset import (
    StepTable,
    write_preferences,
    write_q_targets,
    write_shaped_targets,
    write_steps,
    write_v_targets,
)
from agentgym_prm.rollout import stream
from agentgym_prm.store import read_trajectories

STAGES = ("play", "steps", "play-steps", "q", "v", "pairs", "shaped", "read")
CLAIMED = ("steps", "q", "v", "pairs", "shaped")
ROLLOUTS, CAP = 16, 50


def rollouts(steps: int, path: Path | None = None):
    # The random agent almost never wins, so an episode has close to CAP steps.
    episodes = -(-steps // CAP) * 102 // 100
    envs = gym.make_vec(ALFWORLD, 64, difficulty="small", max_episode_steps=CAP)
    yield from stream(RandomAgent(), envs, [episode // ROLLOUTS for episode in range(episodes)], path=path)


def run_stage(stage: str, folder: Path, steps: int) -> str:
    jsonl, table = folder / "trajectories.jsonl", folder / "steps"
    if stage == "play":
        count = sum(len(trajectory.steps) for trajectory in rollouts(steps, jsonl))
        return f"{count:,} steps, {jsonl.stat().st_size / 1e6:,.0f} MB"
    if stage == "steps":
        written = write_steps(read_trajectories(jsonl), table)
        size = sum(path.stat().st_size for path in table.glob("*.parquet"))
        return f"{written.steps:,} steps of {written.episodes:,} episodes, {size / 1e6:,.0f} MB"
    if stage == "play-steps":
        return f"{write_steps(rollouts(steps), folder / 'played').steps:,} steps"
    if stage == "q":
        frame = write_q_targets(StepTable(table), folder / "q")
        return f"{frame.select('q').collect(engine='streaming').height:,} targets"
    if stage == "v":
        frame = write_v_targets(StepTable(table), folder / "v", signed=False, train_share=1.0)
        return f"{frame.select('v').collect(engine='streaming').height:,} targets"
    import polars as pl

    if stage == "pairs":
        frame = write_preferences(pl.scan_parquet(folder / "q" / "*.parquet"), folder / "pairs")
        return f"{frame.select('margin').collect().height:,} pairs"
    if stage == "shaped":
        try:
            missing = write_shaped_targets(
                StepTable(table), pl.scan_parquet(folder / "v" / "*.parquet"), folder / "shaped.parquet"
            )
        except ValueError as error:
            return str(error)[:60]
        return f"{missing} steps left out"
    positions = pl.scan_parquet(folder / "q" / "*.parquet").select("position").head(1000).collect()["position"]
    return f"{sum(1 for _ in StepTable(table).visits(positions)):,} histories"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-targets"))
    parser.add_argument("--stage", choices=STAGES)
    options = parser.parse_args()
    if options.stage:
        started, cpu = time.perf_counter(), time.process_time()
        done = run_stage(options.stage, options.folder, options.steps)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{seconds:.2f}\t{cpu:.2f}\t{peak:.3f}\t{done}")
        return
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    print(f"{'stage':<12}{'wall s':>9}{'CPU s':>9}{'peak GB':>9}")
    seconds_of, peaks = {}, {}
    for stage in STAGES:
        command = [sys.executable, __file__, "--stage", stage, "--steps", str(options.steps)]
        result = subprocess.run(
            [*command, "--folder", str(options.folder)],
            env={**os.environ, "POLARS_MAX_THREADS": "2"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        wall, cpu, peak, done = result.stdout.rstrip("\n").split("\t")
        seconds_of[stage], peaks[stage] = float(wall), float(peak)
        print(f"{stage:<12}{wall:>9}{cpu:>9}{peak:>9}  {done}", flush=True)
    wall, peak = sum(seconds_of[stage] for stage in CLAIMED), max(peaks[stage] for stage in CLAIMED)
    print(f"{'targets':<12}{wall:>9.2f}{'':>9}{peak:>9.3f}")


if __name__ == "__main__":
    main()
