"""The loop that all algorithms on trajectories share: collect, update, evaluate, checkpoint.

An algorithm is a subclass with one method, ``update``: what it does with a batch of trajectories. This module owns
what is the same for all: which tasks are played, the optimiser's step with its learning rate and clipping, counters,
``metrics.jsonl``, warnings, evaluation, the best weights, checkpoints and resuming.

An update depends on the weights, the settings and its own number only: draws are seeded by the episode's number, which
goes on from update to update. So a run that was killed and resumed ends with the same parameters, bit by bit on a CPU.
"""

import json
import logging
import math
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Final

from gymnasium.vector import VectorEnv
from tqdm import tqdm

from agentgym_prm.agents.core import Agent
from agentgym_prm.algos.loop import CHECKPOINT, METRICS, PRECISIONS
from agentgym_prm.algos.optim import OPTIMIZERS, make_optimizer, warm_cosine
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.processes import Processes
from agentgym_prm.algos.tracking import Tracker
from agentgym_prm.errors import StoreError, UnknownNameError, needs_extra
from agentgym_prm.evaluate import EvalReport
from agentgym_prm.models import turn_dropout_off
from agentgym_prm.rollout import collect
from agentgym_prm.store import TrajectoryWriter
from agentgym_prm.types import InfoKey, Trajectory

with needs_extra("train"):
    import torch

Metrics = dict[str, float]
Evaluation = Callable[[Agent], EvalReport]
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """Settings that all algorithms share. Defaults are for a pretrained model; for tiny ones see presets.py."""

    updates: int = 100
    """Batches of trajectories that are learned from."""
    env_steps: int | None = None
    """Stop before a batch once this many steps were played; None for no limit."""
    tasks: int = 16
    """Tasks of a batch."""
    group_size: int = 8
    """Trajectories of each task: a group."""
    learning_rate: float = 1e-6
    """Highest learning rate."""
    warmup: float = 0.0
    """Share of the updates in which the learning rate rises from 0."""
    final_learning_rate: float = 1.0
    """Share of learning_rate that the cosine ends at; 1 keeps it constant."""
    optimizer: str = "adamw"
    """adamw, or muon for models from scratch (see optim.py)."""
    weight_decay: float = 0.0
    """Weight decay; not on vectors (norms, biases)."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    batch_tokens: int = 8192
    """Most places of one forward pass in training: a minibatch that has more accumulates gradients."""
    precision: str = "float32"
    """float32, or bfloat16 for autocast in the forward pass (the weights keep their type)."""
    eval_every: int = 0
    """Updates between two evaluations, if there is something to evaluate on; 0 for none before the last."""
    keep_best: bool = False
    """End with the weights of the best evaluation instead of the last ones."""
    checkpoint_every: int = 10
    """Updates between two checkpoints."""
    save_rollouts_every: int = 0
    """Updates between two batches of trajectories that are written to rollouts/; 0 for none."""
    warn_gap: float = 0.05
    """Warn if a token's log-probability differs by more than this between sampler and trainer, on average."""
    warn_kl: float = 0.2
    """Warn if an update moves the policy further than this from the one that sampled, in nats a token."""
    warn_clip: float = 0.4
    """Warn if a larger share of the tokens is clipped."""
    seed: int = 0
    """Order of tasks, draws and minibatches."""

    def __post_init__(self) -> None:
        for name in ("updates", "tasks", "group_size", "batch_tokens", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("eval_every", "save_rollouts_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"learning_rate and max_grad_norm must be above 0, got {self.learning_rate} and {self.max_grad_norm}"
            )
        for name in ("warmup", "final_learning_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.env_steps is not None and self.env_steps < 1:
            raise ValueError(f"env_steps must be at least 1 or None, got {self.env_steps}")
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError.of("optimizer", self.optimizer, OPTIMIZERS)
        if self.precision not in PRECISIONS:
            raise UnknownNameError.of("precision", self.precision, PRECISIONS)


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run did. ``metrics`` are those of the last update; ``best`` is the best success of an evaluation."""

    updates: int
    env_steps: int
    metrics: Mapping[str, float]
    best: float | None


class Source(ABC):
    """Where the trajectories of each update come from."""

    fresh: ClassVar[bool]
    """Whether the present policy has just sampled them."""

    @abstractmethod
    def batch(self, agent: Agent, update: int, config: TrainerConfig, processes: Processes) -> list[Trajectory]:
        """The trajectories of update ``update``; those of a group stand together."""


class Rollouts(Source):
    """Fresh ones: every update plays its next tasks, in an order that the seed shuffles anew in every pass.

    Args:
        envs: Vectorised environments as ``rollout.collect`` needs them, with reward wrappers around them.
        tasks: Seeds of the training tasks. If a batch asks for more tasks than there are, some occur again in it: a
            group of such a task is as much larger.
    """

    fresh = True

    def __init__(self, envs: VectorEnv[Any, Any, Any], tasks: Sequence[int]) -> None:
        if not tasks:
            raise ValueError("tasks must name at least one seed to train on")
        self._envs, self._tasks = envs, list(tasks)

    def batch(self, agent: Agent, update: int, config: TrainerConfig, processes: Processes) -> list[Trajectory]:
        first = update * config.tasks * config.group_size
        tasks = self._next_tasks(update * config.tasks, config.tasks, config.seed)
        seeds = [task for task in tasks for _ in range(config.group_size)]
        episodes = list(zip(range(first, first + len(seeds)), seeds, strict=True))
        # Whole groups are shared out: their first prompts are the same, and are computed once.
        groups = [episodes[start : start + config.group_size] for start in range(0, len(episodes), config.group_size)]
        own = [episode for group in processes.share(groups) for episode in group]
        played: list[Trajectory] = []
        if own:
            played = collect(
                agent, self._envs, [seed for _, seed in own], numbers=[number for number, _ in own], progress=False
            )
        return sorted(processes.gather(played), key=lambda trajectory: trajectory.episode)

    def _next_tasks(self, first: int, count: int, seed: int) -> list[int]:
        """Those at places ``first``, ``first + 1``, … of all passes, one after the other."""
        size, orders = len(self._tasks), {}
        for repeat in range(first // size, (first + count - 1) // size + 1):
            orders[repeat] = list(self._tasks)
            random.Random(f"tasks/{seed}/{repeat}").shuffle(orders[repeat])
        return [orders[place // size][place % size] for place in range(first, first + count)]


class Logged(Source):
    """Logged ones, in order: each update takes the next ``tasks`` groups, from the start again after the last.

    Whatever policy sampled them, its log-probabilities are the old ones that ratios refer to.

    Args:
        trajectories: Sampled in the policy's mode and at its temperature, with token ids and log-probabilities. Those
            of a group have the same seed and stand together.
    """

    fresh = False

    def __init__(self, trajectories: Sequence[Trajectory]) -> None:
        if not trajectories:
            raise ValueError("there are no trajectories to train on")
        self._groups = [list(group) for _, group in groupby(trajectories, key=lambda trajectory: trajectory.seed)]

    @property
    def trajectories(self) -> list[Trajectory]:
        """All of them."""
        return [trajectory for group in self._groups for trajectory in group]

    @property
    def largest_group(self) -> int:
        """Most trajectories of one task that stand together."""
        return max(map(len, self._groups))

    def batch(self, agent: Agent, update: int, config: TrainerConfig, processes: Processes) -> list[Trajectory]:
        count = len(self._groups)
        places = range(update * config.tasks, update * config.tasks + min(config.tasks, count))
        return [trajectory for place in places for trajectory in self._groups[place % count]]


class Trainer(ABC):
    """Trains a policy, update by update; ``run`` is the whole of it.

    Args:
        policy: What is trained, in place.
        config: Settings.
        source: Where trajectories come from.
        run_dir: Folder for ``metrics.jsonl``, ``checkpoint.pt`` and what else is asked for; ``None`` writes nothing.
        evaluation: Judges the policy on held-out tasks.
        tracker: Also gets the metrics.
        processes: The processes that train together; by default those that a launcher started.
        progress: Show a progress bar.
    """

    name: ClassVar[str]
    """What the algorithm is called on the command line and in tables."""

    def __init__(
        self,
        policy: Policy,
        config: Any,
        source: Source,
        *,
        run_dir: str | Path | None = None,
        evaluation: Evaluation | None = None,
        tracker: Tracker | None = None,
        processes: Processes | None = None,
        progress: bool = False,
    ) -> None:
        self.policy, self.config, self.source = policy, config, source
        self.folder = Path(run_dir) if run_dir is not None else None
        self.processes = processes or Processes.launched()
        if config.keep_best and evaluation is None:
            raise ValueError("keep_best needs an evaluation that says which weights are best")
        policy.batch_tokens, policy.precision = config.batch_tokens, config.precision
        self.processes.share_weights(policy.parameters)
        self.optimizer = make_optimizer(
            policy.net.named_parameters(), config.optimizer, config.learning_rate, config.weight_decay
        )
        self.done = 0
        self.env_steps = 0
        self.best: float | None = None
        self._evaluation, self._tracker, self._progress = evaluation, tracker, progress
        self._metrics: Metrics = {}
        self._best_weights: dict[str, torch.Tensor] | None = None
        self._warned: set[str] = set()

    # --- for subclasses ---

    @abstractmethod
    def update(self, trajectories: list[Trajectory]) -> Metrics:
        """Learn from a batch of trajectories; returns what there is to log."""

    def step(self, losses: Iterable[tuple[torch.Tensor, Metrics]]) -> Metrics:
        """One step of the optimiser on the sum of ``losses``, each of them a forward pass over a part of a minibatch.

        Metrics of the parts, and of all processes, are added; of those whose name ends in ``_max`` the largest is kept.

        Raises:
            FloatingPointError: A loss or the gradient is not finite; the weights are left as they were.
        """
        self.optimizer.zero_grad(set_to_none=True)
        parts: list[Metrics] = []
        for loss, metrics in losses:
            loss.backward()  # type: ignore[no-untyped-call]
            parts.append({**metrics, "train/loss": float(loss.detach())})
        self.processes.sum_gradients(self.policy.parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(self.policy.parameters, self.config.max_grad_norm))
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of update {self.done + 1} is {norm}: lower the learning rate, or look at the rewards"
            )
        rate = self.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # no memory for them while the next batch is played
        return {**added(self.processes.gather(parts)), "train/grad_norm": norm, "train/learning_rate": rate}

    @property
    def learning_rate(self) -> float:
        """The learning rate of the present update."""
        config = self.config
        share = warm_cosine(self.done, config.updates, config.warmup, config.final_learning_rate)
        return float(config.learning_rate * share)

    # --- the loop ---

    def run(self, *, resume: bool = False) -> TrainReport:
        """Train to the end.

        Args:
            resume: Continue from the checkpoint in the run directory, if there is one.

        Raises:
            FileExistsError: The run directory holds a run and ``resume`` is false.
            StoreError: Its checkpoint belongs to other settings.
        """
        self._start(resume=resume)
        turn_dropout_off(self.policy.agent.model)
        self.policy.net.train()
        try:
            with self._bar() as bar:
                while self.done < self.config.updates and not self._spent():
                    self._one_update()
                    bar.update()
                    bar.set_postfix_str(self._postfix(), refresh=False)
        finally:
            self.policy.net.eval()
        if self.config.keep_best and self._best_weights is not None:
            self._load_weights(self._best_weights)
        return TrainReport(self.done, self.env_steps, dict(self._metrics), self.best)

    def _spent(self) -> bool:
        return self.config.env_steps is not None and self.env_steps >= self.config.env_steps

    def _one_update(self) -> None:
        started = time.perf_counter()
        trajectories = self.source.batch(self.policy.agent, self.done, self.config, self.processes)
        collected = time.perf_counter()
        self._write_rollouts(trajectories)
        trained = self.update(trajectories)
        finished = time.perf_counter()
        steps = sum(len(trajectory.steps) for trajectory in trajectories)
        self.env_steps += steps
        self.done += 1
        metrics = {
            "update": self.done,
            **rollout_metrics(trajectories),
            "rollout/env_steps": self.env_steps,
            **trained,
            "time/env_s": round(collected - started, 3),
            "time/train_s": round(finished - collected, 3),
        }
        last = self.done == self.config.updates or self._spent()
        every = self.config.eval_every
        if self._evaluation is not None and (last or (every and self.done % every == 0)):
            metrics |= self._evaluate(self._evaluation)
        self._metrics = metrics
        self._warn(metrics)
        self._log(metrics)
        if last or self.done % self.config.checkpoint_every == 0:
            self._save()

    def _evaluate(self, evaluation: Evaluation) -> Metrics:
        started = time.perf_counter()
        mine = [evaluation_metrics(evaluation(self.policy.agent))] if self.processes.is_first else []
        metrics = self.processes.gather(mine)[0]
        success = metrics["eval/success_rate"]
        if self.best is None or success > self.best:
            self.best = success
            if self.config.keep_best:
                self._best_weights = {name: value.clone() for name, value in self._weights().items()}
        return {**metrics, "time/eval_s": round(time.perf_counter() - started, 3)}

    # --- what a person sees ---

    def _bar(self) -> Any:
        hidden = None if self._progress and self.processes.is_first else True
        return tqdm(total=self.config.updates, initial=self.done, unit="update", desc=self.name, disable=hidden)

    def _postfix(self) -> str:
        success = f"success {self._metrics['rollout/success_rate']:.0%}"
        return success if self.best is None else f"{success}, held-out best {self.best:.1%}"

    def _warn(self, metrics: Metrics) -> None:
        bands = {
            "sampler/logprob_gap": (self.config.warn_gap, "sampler and trainer disagree about what was sampled"),
            "policy/approx_kl": (
                self.config.warn_kl,
                "an update moves the policy far: lower the learning rate",
            ),
            "policy/clip_fraction": (self.config.warn_clip, "most of an update is clipped: lower the learning rate"),
        }
        if not self.source.fresh:
            del bands["sampler/logprob_gap"]  # that is how far the policy has moved since
        for name, (highest, meaning) in bands.items():
            if metrics.get(name, 0.0) > highest and name not in self._warned and self.processes.is_first:
                self._warned.add(name)  # once a run: the curve is in the metrics
                _LOG.warning("update %d: %s is %.3g, above %g: %s", self.done, name, metrics[name], highest, meaning)

    def _log(self, metrics: Metrics) -> None:
        if not self.processes.is_first:
            return
        if self.folder is not None:
            with (self.folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")
        if self._tracker is not None:
            self._tracker.log(metrics, self.done)

    def _write_rollouts(self, trajectories: Sequence[Trajectory]) -> None:
        every = self.config.save_rollouts_every
        if self.folder is None or not every or self.done % every or not self.processes.is_first:
            return
        path = self.folder / "rollouts" / f"{self.done + 1:06d}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # a killed run may have begun it
        with TrajectoryWriter(path) as writer:
            for trajectory in trajectories:
                writer.write(trajectory)

    # --- checkpoints ---

    def _identity(self) -> dict[str, Any]:
        return {"algorithm": self.name, "config": asdict(self.config)}

    def _start(self, *, resume: bool) -> None:
        torch.manual_seed(self.config.seed)
        if self.folder is None:
            return
        if self.processes.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint, metrics = self.folder / CHECKPOINT, self.folder / METRICS
        if not resume and (checkpoint.exists() or metrics.exists()):
            raise FileExistsError(f"{self.folder} holds a training run: resume it, or choose another run directory")
        if checkpoint.exists():
            self._restore(torch.load(checkpoint, map_location="cpu", weights_only=True))
        self.processes.gather([])  # nobody writes before all have read
        if metrics.exists() and self.processes.is_first:
            _cut(metrics, self.done)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach() for name, value in self.policy.net.named_parameters() if value.requires_grad}

    def _load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        own = self._weights()
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

    def _save(self) -> None:
        if self.folder is None or not self.processes.is_first:
            return
        state = {
            "identity": self._identity(),
            "weights": self._weights(),
            "best_weights": self._best_weights,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "extra": self.extra_state(),
            "counters": {"done": self.done, "env_steps": self.env_steps, "best": self.best},
            "metrics": self._metrics,
        }
        temporary = self.folder / f"{CHECKPOINT}.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)  # a kill leaves the old checkpoint or the new one

    def _restore(self, state: dict[str, Any]) -> None:
        if state["identity"] != self._identity():
            raise StoreError(f"{self.folder} was started with {state['identity']}, not {self._identity()}")
        self._load_weights(state["weights"])
        self._best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.load_extra_state(state["extra"])
        self.done, self.env_steps = state["counters"]["done"], state["counters"]["env_steps"]
        self.best = state["counters"]["best"]
        self._metrics = state["metrics"]

    def extra_state(self) -> Any:
        """What a subclass has to keep in a checkpoint besides weights and optimiser: tensors and plain values."""
        return None

    def load_extra_state(self, state: Any) -> None:  # noqa: B027 - most algorithms keep nothing
        """Inverse of ``extra_state``."""


def _cut(path: Path, updates: int) -> None:
    """Drop the lines of updates after a checkpoint, and one that was half written: they are played again."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["update"] <= updates]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


def added(parts: Iterable[Metrics]) -> Metrics:
    """The sum of metrics by name; of those that end in ``_max``, the largest.

    >>> added([{"a": 1.0, "b_max": 3.0}, {"a": 2.0, "b_max": 1.0}])
    {'a': 3.0, 'b_max': 3.0}
    """
    total: Metrics = {}
    for part in parts:
        for name, value in part.items():
            if name not in total:
                total[name] = value
            else:
                total[name] = max(total[name], value) if name.endswith("_max") else total[name] + value
    return total


def averaged(parts: Sequence[Metrics]) -> Metrics:
    """The mean of metrics by name; of those that end in ``_max``, the largest."""
    return {
        name: value if name.endswith("_max") else value / sum(name in part for part in parts)
        for name, value in added(parts).items()
    }


def rollout_metrics(trajectories: Sequence[Trajectory]) -> Metrics:
    """How a batch of trajectories went: shares and means over trajectories, grounding over steps."""
    count = len(trajectories)
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    valid = [bool(step.info.get(InfoKey.VALID_ACTION, True)) for step in steps]
    terms: Metrics = {}
    for step in steps:
        for name, reward in step.info.get("reward_terms", {}).items():
            terms[f"reward/{name}"] = terms.get(f"reward/{name}", 0.0) + reward / count
    return {
        "rollout/success_rate": sum(trajectory.won for trajectory in trajectories) / count,
        "rollout/mean_steps": len(steps) / count,
        "rollout/grounding": sum(valid) / len(steps),
        **terms,
        "reward/outcome": sum(trajectory.outcome for trajectory in trajectories) / count,
        "reward/process": sum(step.process_reward for step in steps) / count,
    }


def evaluation_metrics(report: EvalReport) -> Metrics:
    """What an evaluation comes to: success with its interval, steps, and what else it measured."""
    overall = report.overall
    return {
        "eval/success_rate": overall.success,
        "eval/success_low": overall.success_low,
        "eval/success_high": overall.success_high,
        "eval/mean_steps": overall.mean_steps,
        "eval/score": overall.mean_score,
        **{f"eval/{name}": value for name, value in report.scores.items()},
    }
