"""Claim: rewards for turns teach a small model to search before it answers, sooner than the answer's reward alone.

    python benchmarks/wiki_algorithms.py [--seeds 0 1 2] [--env-steps 45000] [--workers 2] [--output runs/wiki]

Builtin small questions. For each seed a model from scratch imitates 600 demonstrations, half of which answer without
a search, from memory: so the policy that all algorithms start from seldom looks anything up. It chooses among the
searches and answers that the texts suggest, two searches at most. Each is
trained in training questions for the same number of environment steps. The outcome is exact match; a turn is paid
(arXiv:2505.11821) 0.2 for a tool that ran and 0.5 for the first result with the answer in it:

``GRPO-OR``   the outcome alone
``GRPO-MR``   outcome and turn rewards, summed over the episode
``MT-GRPO``   turns and outcome, compared with the group's each for itself
``MS-PO``     the return-to-go of both, turn by turn
``MT-PPO``    generalised advantage estimation over both, with values
``PPO-OR``    the same over the outcome alone

Judged on test questions, whose entities training questions do not ask for, as the policy samples (temperature 1): exact
match, share of episodes in which a tool ran, share in which all passages that support the answer were found. Intervals
are Wilson's over the questions of all seeds. A benchmark that was stopped is continued; what is done is skipped.
"""

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from agentgym_prm import evaluate
from agentgym_prm.agents.core import Agent
from agentgym_prm.algos.presets import algorithm
from agentgym_prm.envs import WIKISEARCH
from agentgym_prm.envs.wiki_search.world import builtin_world
from agentgym_prm.evaluate import make_envs, wilson_interval
from agentgym_prm.models import TINY, ModelConfig
from agentgym_prm.pipeline import PipelineConfig
from agentgym_prm.rewards.specification import RewardSpecification
from agentgym_prm.rollout import stream
from agentgym_prm.stages.config import DevelopmentConfig, GamesConfig, PolicyConfig
from agentgym_prm.stages.policy import TRAJECTORIES, load_policy, train_sft, vocabulary_texts
from agentgym_prm.stages.training import train_policy
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import Action, History, InfoKey, Trajectory
from benchmarks.algorithms import folder_of, start_worker, wait

SFT = "imitation"
CAP = 6
"""Turns of an episode at most: two searches and an answer are enough."""
TURN_REWARDS = ("rubric:tool_execution", "rubric:answer_first_found")


@dataclass(frozen=True)
class Variant:
    """An algorithm with its rewards."""

    algorithm: str
    rewards: tuple[str, ...] = TURN_REWARDS
    settings: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = {
    "GRPO-OR": Variant("grpo", (), {"rewards": "outcome"}),
    "GRPO-MR": Variant("grpo", settings={"rewards": "merged"}),
    "MT-GRPO": Variant("mt_grpo", settings={"last_turn": False}),
    "MS-PO": Variant("ms_po"),
    "MT-PPO": Variant("ppo"),
    "PPO-OR": Variant("ppo", ()),
}


class Demonstrator(Agent):
    """Searches the passages that support the answer and answers; some questions it answers at once, from memory."""

    name = "demonstrator"

    def __init__(self, from_memory: float) -> None:
        world = builtin_world("small")
        self._questions = {question.id: question for question in world.questions("train")}
        self._from_memory = from_memory

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._command(history))] * n for history in histories]

    def _command(self, history: History) -> str:
        question, turn = self._questions[history.task_id], len(history.steps)
        if turn < len(question.supports) and random.Random(question.id).random() >= self._from_memory:
            return f"search[{question.supports[turn]}]"
        return f"finish[{question.answers[0]}]"


def main() -> None:
    options = parse()
    jobs = {seed: options.output / f"seed{seed}" for seed in options.seeds}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        steps: list[list[Callable[[], str]]] = [
            [partial(prepare, run, seed, options) for seed, run in jobs.items()],
            [partial(train, run, seed, name, options) for name in options.only for seed, run in jobs.items()],
            [partial(judge, run, seed, name, options) for seed, run in jobs.items() for name in [SFT, *options.only]],
        ]
        for each in steps:
            wait(pool, each)
    text = table(jobs, [SFT, *options.only])
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--env-steps", type=int, default=45_000, help="of each run, in training questions")
    parser.add_argument("--demonstrations", type=int, default=600)
    parser.add_argument("--from-memory", type=float, default=0.5, help="share of them that answer without a search")
    parser.add_argument("--epochs", type=int, default=8, help="of imitation")
    parser.add_argument("--mode", default="choose", choices=["generate", "choose"])
    parser.add_argument("--split", default="test")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--setting", nargs="+", default=[], help="further settings of the algorithms, NAME=NUMBER")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--output", type=Path, default=Path("runs/wiki"))
    return parser.parse_args()


# --- what happens to a seed ---


def games() -> GamesConfig:
    return replace(GamesConfig.of(WIKISEARCH), max_episode_steps=CAP, env_args=("max_searches=2",))


def policy_of(options: argparse.Namespace) -> PolicyConfig:
    return PolicyConfig(prompt="wiki", mode=options.mode, max_new_tokens=12)


def prepare(run: Path, seed: int, options: argparse.Namespace) -> str:
    """Demonstrations, and the policy that imitates them."""
    config = replace(PipelineConfig.of(TINY, WIKISEARCH), seed=seed)
    where, policy = games(), policy_of(options)
    path = run / "demonstrations" / TRAJECTORIES
    path.parent.mkdir(parents=True, exist_ok=True)
    seeds = where.training_seeds(seed, 0, options.demonstrations)
    envs = make_envs(where.env, where.num_envs, **where.kwargs("train"))
    for _ in stream(Demonstrator(options.from_memory), envs, seeds, path=path, resume=True):
        pass
    envs.close()
    words = where.training_seeds(seed, options.demonstrations, 200)
    train_sft(
        run / "sft",
        path,
        config.model,
        replace(config.sft, seed=seed, epochs=options.epochs),
        policy,
        tiny=replace(config.tiny, seed=seed),
        vocabulary=lambda: vocabulary_texts(where, policy, words, seed),
        seed=seed,
    )
    return f"{run.name}: policy"


def model_of(run: Path, name: str) -> ModelConfig:
    return ModelConfig(str((run / "sft" if name == SFT else folder_of(run, name)) / "model"))


def train(run: Path, seed: int, name: str, options: argparse.Namespace) -> str:
    """One run of an algorithm."""
    variant = VARIANTS[name]
    chosen = {key: float(value) for key, value in (each.split("=") for each in options.setting)}
    config = replace(
        algorithm(variant.algorithm).preset(tiny=True),
        seed=seed,
        env_steps=options.env_steps,
        updates=10_000,
        eval_every=0,
        **variant.settings,
        **chosen,
    )
    results = train_policy(
        folder_of(run, name),
        model_of(run, SFT),
        variant.algorithm,
        config,
        policy_of(options),
        games(),
        development=DevelopmentConfig(split="valid", episodes=0),
        rewards=[RewardSpecification.parse(text) for text in variant.rewards],
    )
    return f"{run.name}: {name}, {results['updates']} updates, {results['env_steps']} steps"


def judge(run: Path, seed: int, name: str, options: argparse.Namespace) -> str:
    """Answer the test questions."""
    where = games()
    report = evaluate(
        load_policy(model_of(run, name), policy_of(options), seed=seed),
        where.env,
        range(where.size(options.split)),
        num_envs=64,
        run_dir=eval_folder(run, name),
        resume=True,
        **where.kwargs(options.split),
    )
    return f"{run.name}: {name}: {report.overall.success:.1%}"


def eval_folder(run: Path, name: str) -> Path:
    return run / "eval" / folder_of(run, name).name


# --- the table ---


def table(runs: Mapping[int, Path], names: Sequence[str]) -> str:
    """One row each: exact match by seed and over all, tools, passages found, turns."""
    seeds = "".join(f" seed {seed} |" for seed in runs)
    lines = [f"| |{seeds} exact match | a tool ran | supports found | turns |", "|---|" + "---|" * (len(runs) + 4)]
    for name in names:
        played = {seed: list(read_trajectories(eval_folder(run, name) / TRAJECTORIES)) for seed, run in runs.items()}
        cells = [f"{share(each, Trajectory.won.fget):.1%}" for each in played.values()]
        every = [episode for each in played.values() for episode in each]
        cells += [interval(every, Trajectory.won.fget), interval(every, tool_ran), interval(every, all_found)]
        cells.append(f"{sum(len(episode.steps) for episode in every) / len(every):.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def tool_ran(episode: Trajectory) -> bool:
    return any(step.info[InfoKey.SEARCH_RESULT] for step in episode.steps)


def all_found(episode: Trajectory) -> bool:
    return SUPPORTS[episode.task_id] <= {title for step in episode.steps for title in step.info["found_titles"]}


SUPPORTS = {
    question.id: set(question.supports)
    for split in ("valid", "test")
    for question in builtin_world("small").questions(split)
}


def share(episodes: Sequence[Trajectory], holds: Callable[[Trajectory], bool]) -> float:
    return sum(map(holds, episodes)) / len(episodes)


def interval(episodes: Sequence[Trajectory], holds: Callable[[Trajectory], bool]) -> str:
    low, high = wilson_interval(sum(map(holds, episodes)), len(episodes))
    return f"{share(episodes, holds):.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    main()
