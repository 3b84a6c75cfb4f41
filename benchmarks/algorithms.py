"""Claim: every algorithm lifts the imitated policy on unseen games, and process rewards lift it further at equal steps.

    python benchmarks/algorithms.py [--seeds 0 1 2] [--env-steps 40000] [--workers 2] [--output runs/algorithms]

For each seed the stages of the main job make a policy by imitation, a reward model and a progress estimator; then each
algorithm trains that policy in training games for the same number of environment steps, with the settings of
``algos/presets.py`` for tiny models. These were chosen with seed 0 on valid_seen games, with about the same effort for
each (LOG.md). Judged on valid_unseen games that nothing else has seen, cap 50 commands, as the policy samples
(temperature 1); Best-of-8 with the reward model on top of the one that did best in its last training games.

The same table on other games and with a larger model from scratch, in bfloat16 on a GPU (one run at a time there):

    python benchmarks/algorithms.py --data official --test-split valid_seen --prompt frontier --demonstrations 1500 \
        --hidden-size 512 --layers 8 --precision bfloat16 --learning-rate 3e-4 --env-steps 1000000 --workers 1

``--env`` makes the table for another environment, with its splits, prompt and sizes. SPA against the outcome alone:

    python benchmarks/algorithms.py --env agentgym_prm/WebShop-v0 --only PPO "PPO, SPA" --no-reward-model

Runs go side by side, one thread each. A benchmark that was stopped is continued; what is done is skipped. Prints the
table of benchmarks/README.md and writes it to table.md in the output folder.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from agentgym_prm import BestOfN, evaluate
from agentgym_prm.algos.loop import METRICS
from agentgym_prm.algos.presets import algorithm
from agentgym_prm.algos.progress import ProgressConfig
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.evaluate import EvalReport, paired_difference, summarise
from agentgym_prm.models import TINY, ModelConfig
from agentgym_prm.pipeline import PipelineConfig
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.rewards.specification import RewardSpecification
from agentgym_prm.stages.config import DevelopmentConfig, GamesConfig, PolicyConfig
from agentgym_prm.stages.form import read_json
from agentgym_prm.stages.policy import (
    TRAJECTORIES,
    collect_rollouts,
    load_policy,
    make_demonstrations,
    train_sft,
    vocabulary_texts,
)
from agentgym_prm.stages.progress import train_progress_estimator
from agentgym_prm.stages.reward import train_reward_model
from agentgym_prm.stages.targets import end_with_parent, make_targets
from agentgym_prm.stages.training import train_policy
from agentgym_prm.store import read_trajectories

SFT = "SFT"
BEST_OF = 8
LAST_UPDATES = 5
TRAINING_CAP = 25
"""Commands of a training game at most; ALFWorld's test games have 50."""
Z_95 = 1.96


@dataclass(frozen=True)
class Variant:
    """An algorithm with its rewards; in these, {prm} and {spa} stand for the folders of the seed's models."""

    algorithm: str
    rewards: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = {
    "GRPO-OR": Variant("grpo", settings={"rewards": "outcome"}),
    "Online DPO, PRM": Variant("online_dpo", ("prm:{prm}",)),
    "PPO": Variant("ppo"),
    "PPO, PRM": Variant("ppo", ("prm:{prm}@0.5",)),
    "MT-GRPO, PRM": Variant("mt_grpo", ("prm:{prm}",), {"scale": "batch"}),
    "PPO, SPA": Variant("ppo", ("spa:{spa}",)),
    "MS-PO, PRM": Variant("ms_po", ("prm:{prm}",), {"gamma": 0.95, "pool": "group", "scale": "batch"}),
    "GRPO-MR, PRM": Variant("grpo", ("prm:{prm}@0.5",), {"rewards": "merged"}),
    "PPO, shaping": Variant("ppo", ("shaping:gcsr",)),
    "GiGPO": Variant("gigpo"),
}
"""The rows of the table, besides imitation."""

PROGRESS = ProgressConfig(learning_rate=1e-3, optimizer="muon", epochs=2)


def main() -> None:
    options = parse()
    jobs = {seed: options.output / f"seed{seed}" for seed in options.seeds}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        wait(pool, [partial(prepare, run, seed, options) for seed, run in jobs.items()])
        names = options.only or list(VARIANTS)
        wait(pool, [partial(train, run, seed, name, options) for name in names for seed, run in jobs.items()])
        wait(pool, [partial(judge, run, seed, name, options) for seed, run in jobs.items() for name in [SFT, *names]])
        rows = [(name, 1) for name in [SFT, *names]]
        if not options.no_reward_model:
            best = max(names, key=lambda name: mean_training_success(jobs, name))
            wait(pool, [partial(judge, run, seed, best, options, BEST_OF) for seed, run in jobs.items()])
            rows.append((best, BEST_OF))
    text = table(jobs, rows, options.env_steps)
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--env-steps", type=int, default=40_000, help="of each run, in training games")
    parser.add_argument("--episodes", type=int, default=400, help="test games that each is judged on")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), help="leave the other variants out")
    parser.add_argument("--updates", type=int, default=10_000, help="stop after so many, whatever the steps")
    parser.add_argument("--env", default=ALFWORLD, help="the following defaults are the environment's")
    parser.add_argument("--data", default="builtin", help="'builtin' (small games), 'official', or a path")
    parser.add_argument("--test-split", help="split of the test games")
    parser.add_argument("--prompt", help="'frontier' for official ALFWorld games")
    parser.add_argument("--demonstrations", type=int, help="training games that are imitated")
    parser.add_argument("--rollouts", type=int, help="training games that the reward model learns from")
    parser.add_argument("--no-reward-model", action="store_true", help="where no variant needs one; no Best-of-N then")
    parser.add_argument("--hidden-size", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of the algorithms")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=Path("runs/algorithms"))
    options = parser.parse_args()
    defaults = PipelineConfig.of(TINY, options.env)
    options.test_split = options.test_split or defaults.games.eval_split
    options.prompt = options.prompt or defaults.policy.prompt
    options.demonstrations = options.demonstrations or defaults.demonstrations.games
    options.rollouts = options.rollouts or defaults.rollout.games
    return options


def start_worker() -> None:
    end_with_parent()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def wait(pool: ProcessPoolExecutor, jobs: Sequence[Callable[[], str]]) -> None:
    """Run jobs side by side, and say what each has to say when it ends."""
    for future in as_completed([pool.submit(job) for job in jobs]):
        print(future.result(), flush=True)


# --- what happens to a seed ---


def games_of(options: argparse.Namespace) -> GamesConfig:
    difficulty = "small" if options.data == "builtin" else "full"
    games = GamesConfig.of(options.env)
    return replace(games, data=options.data, difficulty=difficulty, eval_split=options.test_split)


def prepare(run: Path, seed: int, options: argparse.Namespace) -> str:
    """The stages of the main job up to the reward model, and a progress estimator."""
    config = replace(PipelineConfig.of(TINY, options.env), seed=seed)
    games, policy = games_of(options), PolicyConfig(prompt=options.prompt)
    shape = replace(config.tiny, seed=seed, hidden_size=options.hidden_size, num_layers=options.layers)
    if options.hidden_size != config.tiny.hidden_size:
        shape = replace(shape, intermediate_size=3 * options.hidden_size, num_heads=options.hidden_size // 64)
    demonstrations = run / "demonstrations" / TRAJECTORIES
    first = options.demonstrations
    make_demonstrations(run / "demonstrations", replace(config.demonstrations, games=first), games, seed=seed)
    words = games.training_seeds(seed, first, config.vocabulary_games)
    train_sft(
        run / "sft",
        demonstrations,
        config.model,
        replace(config.sft, seed=seed, precision=options.precision),
        policy,
        tiny=shape,
        vocabulary=lambda: vocabulary_texts(games, policy, words, seed),
        seed=seed,
    )
    model = sft_model(run)
    played = first + config.vocabulary_games
    play = replace(config.rollout, games=options.rollouts)
    collect_rollouts(run / "rollout", model, play, policy, games, first_game=played, seed=seed)
    rollouts = run / "rollout" / TRAJECTORIES
    if not options.no_reward_model:
        make_targets(
            run / "targets", rollouts, config.targets, games, demonstrations=demonstrations, model=model, seed=seed,
            policy=policy,
        )  # fmt: skip
        prm = replace(config.prm, seed=seed, precision=options.precision)
        train_reward_model(run / "prm", run / "targets", model, prm, policy, head=config.head, seed=seed)
    progress = replace(PROGRESS, seed=seed, precision=options.precision)
    train_progress_estimator(run / "spa", rollouts, model, progress, policy, seed=seed)
    return f"{run.name}: policy, models of rewards"


def sft_model(run: Path) -> ModelConfig:
    return ModelConfig(str(run / "sft" / "model"))


def folder_of(run: Path, name: str) -> Path:
    return run / name.lower().replace(", ", "-").replace(" ", "_")


def train(run: Path, seed: int, name: str, options: argparse.Namespace) -> str:
    """One run of an algorithm."""
    variant = VARIANTS[name]
    models = {"prm": run / "prm" / "model", "spa": run / "spa" / "model"}
    config = replace(
        algorithm(variant.algorithm).preset(tiny=True),
        seed=seed,
        env_steps=options.env_steps,
        updates=options.updates,
        learning_rate=options.learning_rate,
        precision=options.precision,
        eval_every=0,
        **variant.settings,
    )
    results = train_policy(
        folder_of(run, name),
        sft_model(run),
        variant.algorithm,
        config,
        PolicyConfig(prompt=options.prompt),
        games_of(options),
        development=DevelopmentConfig(episodes=0),
        rewards=[RewardSpecification.parse(text.format(**models)) for text in variant.rewards],
        training_cap=TRAINING_CAP,
    )
    return f"{run.name}: {name}, {results['updates']} updates, {results['env_steps']} steps"


def judge(run: Path, seed: int, name: str, options: argparse.Namespace, best_of: int = 1) -> str:
    """Play the test games."""
    model = sft_model(run) if name == SFT else ModelConfig(str(folder_of(run, name) / "model"))
    agent: Any = load_policy(model, PolicyConfig(prompt=options.prompt), seed=seed)
    if best_of > 1:
        agent = BestOfN(agent, ProcessRewardModel.load(run / "prm" / "model"), best_of)
    games = games_of(options)
    report = evaluate(
        agent,
        games.env,
        range(min(options.episodes, games.size(options.test_split))),
        num_envs=64,
        run_dir=eval_folder(run, name, best_of),
        resume=True,
        **games.kwargs(options.test_split),
    )
    return f"{run.name}: {name}{f', best of {best_of}' if best_of > 1 else ''}: {report.overall.success:.1%}"


def eval_folder(run: Path, name: str, best_of: int = 1) -> Path:
    folder = folder_of(run, name)
    return run / "eval" / (f"{folder.name}-best-of-{best_of}" if best_of > 1 else folder.name)


# --- the table ---


def report_of(run: Path, name: str, best_of: int = 1) -> EvalReport:
    return summarise(name, read_trajectories(eval_folder(run, name, best_of) / TRAJECTORIES))


def mean_training_success(runs: Mapping[int, Path], name: str) -> float:
    """In the training games of the last updates: what is chosen by it has not seen the test games."""
    rates = []
    for run in runs.values():
        lines = (folder_of(run, name) / METRICS).read_text(encoding="utf-8").splitlines()
        rates += [json.loads(line)["rollout/success_rate"] for line in lines[-LAST_UPDATES:]]
    return sum(rates) / len(rates)


def table(runs: Mapping[int, Path], rows: Sequence[tuple[str, int]], env_steps: int) -> str:
    """One row each: success by seed, their mean with its interval over all games, the paired gain, what it cost."""
    head = "".join(f" seed {seed} |" for seed in runs)
    lines = [
        f"| trained for {env_steps:,} steps |{head} mean | minus {SFT} | commands | updates | training s |",
        "|---|" + "---|" * (len(runs) + 5),
    ]
    for name, best_of in rows:
        reports = {seed: report_of(run, name, best_of) for seed, run in runs.items()}
        cells = [f"{report.overall.success:.1%}" for report in reports.values()]
        cells.append(pooled(list(reports.values())))
        cells.append("" if (name, best_of) == (SFT, 1) else gains(runs, reports))
        cells.append(f"{sum(report.overall.mean_steps for report in reports.values()) / len(reports):.1f}")
        cells += cost(runs, name) if name != SFT and best_of == 1 else ["", ""]
        label = f"{name}, Best-of-{best_of} with the PRM" if best_of > 1 else name
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def pooled(reports: Sequence[EvalReport]) -> str:
    """Mean success with Wilson's interval over all games of all seeds (which leaves out the spread between seeds)."""
    won = sum(report.overall.won for report in reports)
    played = sum(report.overall.episodes for report in reports)
    share, square = won / played, Z_95 * Z_95
    middle = (share + square / (2 * played)) / (1 + square / played)
    half = Z_95 * math.sqrt(share * (1 - share) / played + square / (4 * played * played)) / (1 + square / played)
    return f"**{share:.1%}** [{middle - half:.1%}, {middle + half:.1%}]"


def gains(runs: Mapping[int, Path], reports: Mapping[int, EvalReport]) -> str:
    """The gain over imitation, paired by game, in points: mean over seeds, and the smallest and the largest."""
    pairs = [paired_difference(report.results, report_of(runs[seed], SFT).results) for seed, report in reports.items()]
    points = [100 * pair.difference for pair in pairs]
    return f"{sum(points) / len(points):+.1f} ({min(points):+.1f} to {max(points):+.1f})"


def cost(runs: Mapping[int, Path], name: str) -> list[str]:
    """Mean number of updates and seconds of training."""
    done = [read_json(folder_of(run, name) / "done.json") for run in runs.values()]
    updates = sum(each["results"]["updates"] for each in done) / len(done)
    return [f"{updates:.0f}", f"{sum(each['seconds'] for each in done) / len(done):.0f}"]


if __name__ == "__main__":
    main()
