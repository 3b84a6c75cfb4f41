"""Claim: the three experts win; ``handcoded`` does so from the texts alone.

    make bench        or        python benchmarks/alfworld_experts.py [--games 1000] [--official FOLDER]

Builtin games of every split and difficulty, and the official valid_seen and train games if a folder has them
(default: $AGENTGYM_PRM_TEST_DATA/alfworld). Share won within 20, 30 and 50 commands with the 95 % interval of the last,
and mean number of commands. The receptacle priors of ``handcoded`` were counted on the official *training* games.
"""

import argparse
import os
from pathlib import Path

from agentgym_prm import ExpertAgent, HandcodedAgent, RandomAgent, evaluate
from agentgym_prm.agents import Agent
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.envs.alfworld.files import open_games


def settings(games: int, official: Path) -> list[tuple[str, dict[str, str], int]]:
    """(name, environment arguments, number of games) of every row."""
    rows = [
        (f"builtin {difficulty} {split}", {"difficulty": difficulty, "split": split}, games)
        for difficulty in ("small", "full")
        for split in ("train", "valid_seen", "valid_unseen")
    ]
    if official.is_dir():
        for split in ("valid_seen", "train"):
            count = len(open_games(str(official), split, "full"))
            rows.append((f"official {split}", {"data": str(official), "split": split}, count))
    return rows


def main() -> None:
    default = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "alfworld"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=1000, help="builtin games of each split, at most 1000")
    parser.add_argument("--official", type=Path, default=default, help="folder with official games")
    options = parser.parse_args()
    print(f"{'games':<28}{'agent':<13}{'n':>6}{'≤ 20':>8}{'≤ 30':>8}{'≤ 50':>8}   {'95 % interval':<18}{'steps':>6}")
    for name, kwargs, count in settings(options.games, options.official):
        agents: dict[str, Agent] = {
            "walkthrough": ExpertAgent("walkthrough"),
            "planner": ExpertAgent("planner"),
            "handcoded": HandcodedAgent(),
            "random": RandomAgent(),
        }
        for kind, agent in agents.items():
            expert = {"expert": kind} if kind in ("walkthrough", "planner") else {}
            report = evaluate(agent, ALFWORLD, range(count), **kwargs, **expert)
            within = "".join(f"{report.success_within(steps):>8.1%}" for steps in (20, 30, 50))
            row = report.overall
            interval = f"[{row.success_low:.1%}, {row.success_high:.1%}]"
            print(f"{name:<28}{kind:<13}{row.episodes:>6}{within}   {interval:<18}{row.mean_steps:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
