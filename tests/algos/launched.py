"""Trains for three updates in as many processes as the launcher started; run by test_processes.py.

    python -m tests.algos.launched FOLDER

FOLDER/run is the run, FOLDER/RANK.pt what this process ends with.
"""

import sys
from pathlib import Path

import torch

from agentgym_prm.algos.core import Rollouts
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.processes import Processes
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.testing import ScriptedEnv
from tests.algos.episodes import TASKS, agent_of, fresh_model

CONFIG = GRPOConfig(
    updates=3,
    tasks=3,
    group_size=4,
    learning_rate=1e-3,
    minibatches=2,
    kl_coef=0.1,
    save_rollouts_every=1,
    checkpoint_every=1,
)


def train(folder: Path) -> None:
    processes = Processes.launched()
    # Another start in each process but the first: that of the first counts.
    policy = Policy(agent_of("choose", model=fresh_model(processes.rank)))
    envs = TextVectorEnv(lambda: ScriptedEnv(TASKS), 4, max_episode_steps=6)
    trainer = GRPOTrainer(policy, CONFIG, Rollouts(envs, [0, 1]), run_dir=folder / "run", processes=processes)
    written = []
    write, torch_save = trainer._log, torch.save
    trainer._log = lambda metrics: written.append("metrics") or write(metrics)
    torch.save = lambda state, path: written.append(Path(path).name) or torch_save(state, path)
    report = trainer.run()
    torch.save = torch_save
    weights = torch.cat([each.detach().reshape(-1) for each in policy.parameters])
    torch.save(
        {
            "weights": weights,
            "processes": processes.count,
            "saved": [name for name in written if name != "metrics"],
            "metrics": dict(report.metrics),
        },
        folder / f"{processes.rank}.pt",
    )
    if processes.count > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    train(Path(sys.argv[1]))
