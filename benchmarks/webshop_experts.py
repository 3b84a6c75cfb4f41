"""Claim: the oracle buys what every goal asks for; the shopper, from the texts alone, most of it.

    python benchmarks/webshop_experts.py [--goals 500] [--cap 15] [--official FOLDER]

Goals of the splits ``test`` (unseen when the shopper was tuned) and ``train``: builtin shops of both difficulties, and
the benchmark's 1,000 products if a folder has them (default: $AGENTGYM_PRM_TEST_DATA/webshop), which come with 13 human
goals. Mean reward with its standard error over goals, share of rewards of 1.0 with the 95 % interval, mean number of
commands. The random agent chooses among suggested searches and what can be clicked.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from agentgym_prm import ExpertAgent, RandomAgent, ShopperAgent, evaluate
from agentgym_prm.agents import Agent
from agentgym_prm.envs import WEBSHOP
from agentgym_prm.envs.webshop import WebShopEnv


def settings(official: Path) -> list[tuple[str, dict[str, str]]]:
    """Name and environment arguments of every row."""
    rows = [
        (f"builtin {difficulty} {split}", {"difficulty": difficulty, "split": split})
        for difficulty in ("small", "full")
        for split in ("test", "train")
    ]
    if official.is_dir():
        data = {"data": str(official)}
        rows.append(("official human test", {**data, "split": "test"}))
        rows += [
            (f"official synthetic {split}", {**data, "goals": "synthetic", "split": split})
            for split in ("test", "train")
        ]
    return rows


def main() -> None:
    default = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "webshop"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goals", type=int, default=500, help="most goals of each row")
    parser.add_argument("--cap", type=int, default=15, help="commands an episode may take")
    parser.add_argument("--official", type=Path, default=default, help="folder with the benchmark's files")
    options = parser.parse_args()
    print(f"{'goals':<28}{'agent':<10}{'n':>6}{'reward':>8}{'± s.e.':>8}{'1.0':>8}   {'95 % interval':<18}{'steps':>6}")
    for name, kwargs in settings(options.official):
        count = min(options.goals, WebShopEnv(**kwargs).num_tasks)  # type: ignore[arg-type]
        agents: dict[str, Agent] = {"oracle": ExpertAgent("oracle"), "shopper": ShopperAgent(), "random": RandomAgent()}
        for kind, agent in agents.items():
            extra = {"oracle": {"expert": "oracle"}, "random": {"searches": "suggested"}}.get(kind, {})
            report = evaluate(agent, WEBSHOP, range(count), max_episode_steps=options.cap, **kwargs, **extra)
            row = report.overall
            scores = np.array([result.score for result in report.results])
            error = scores.std(ddof=1) / len(scores) ** 0.5
            interval = f"[{row.success_low:.1%}, {row.success_high:.1%}]"
            print(
                f"{name:<28}{kind:<10}{row.episodes:>6}{row.mean_score:>8.3f}{error:>8.3f}{row.success:>8.1%}"
                f"   {interval:<18}{row.mean_steps:>6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
