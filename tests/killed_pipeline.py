"""Runs the pipeline again and again, killing it at chosen moments, until it gets through.

    python -m tests.killed_pipeline FOLDER

Everything is imported once; each attempt is a fork of that process, which kills itself by SIGKILL, so that nothing gets
a chance to tidy up. FOLDER/whole is a run that nobody kills, FOLDER/killed the other; FOLDER/kills.json tells where.
"""

import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from agentgym_prm.algos import core, loop, prm
from agentgym_prm.algos.online_dpo import OnlineDPOConfig
from agentgym_prm.algos.prm import PRMConfig
from agentgym_prm.algos.sft import SFTConfig
from agentgym_prm.models import ModelConfig, TinyConfig
from agentgym_prm.pipeline import PipelineConfig, run_pipeline
from agentgym_prm.report import STAGES
from agentgym_prm.stages import form, reward, targets, training
from agentgym_prm.stages.config import (
    DemonstrationsConfig,
    DevelopmentConfig,
    GamesConfig,
    RolloutConfig,
    TargetsConfig,
)
from agentgym_prm.stages.evaluation import EvalConfig
from agentgym_prm.store import TrajectoryWriter

CONFIG = PipelineConfig(
    model=ModelConfig(model="tiny", device="cpu"),
    seed=3,
    vocabulary_games=3,
    games=GamesConfig(max_episode_steps=12, num_envs=3),
    tiny=TinyConfig(hidden_size=16, num_heads=2, intermediate_size=32, num_layers=1),
    demonstrations=DemonstrationsConfig(games=8),
    sft=SFTConfig(learning_rate=3e-3, epochs=1, optimizer="muon", checkpoint_every=2, log_every=1, batch_size=8),
    rollout=RolloutConfig(games=5),
    targets=TargetsConfig(states_per_episode=4, expert_share=0.25, chunk=3, workers=1),
    prm=PRMConfig(learning_rate=3e-3, epochs=2, batch_size=4, contrast=1.0, checkpoint_every=2, log_every=1),
    dpo=OnlineDPOConfig(
        learning_rate=3e-3, optimizer="muon", updates=4, tasks=4, histories=8, eval_every=2, checkpoint_every=2
    ),
    development=DevelopmentConfig(episodes=3, judged_turns=2),
    eval=EvalConfig(episodes=4, best_of=(2,), control_n=2),
)
KILLS_A_STAGE = 2
BETWEEN_TOKENIZER_AND_WEIGHTS = 6
"""Of the model that is built: the end of the stage before, config.json and the tokenizer take two ticks each."""
MOMENTS = (*STAGES, "")
"""The last is when the summary is written."""


def present_stage(run: Path) -> str:
    return next((name for name in STAGES if not (run / name / form.DONE).exists()), "")


class Ticks:
    """Counts what is done in each stage, and kills this process at one of these moments."""

    def __init__(self, run: Path, stage: str | None, at: int) -> None:
        self.run, self.at = run, at
        self.place = MOMENTS.index(stage) if stage is not None else len(MOMENTS)
        self.counts: Counter[str] = Counter()

    def tick(self, half: Callable[[], object] = lambda: None) -> None:
        """``half`` does a part of what is about to be done, if that is where the process dies."""
        stage = present_stage(self.run)
        self.counts[stage] += 1
        place = MOMENTS.index(stage)
        # A stage that has less left to do than was thought is followed by a kill at the beginning of the next.
        if place > self.place or (place == self.place and self.counts[stage] == self.at):
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: Any, name: str) -> None:
        """Tick before and after each call."""
        function = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            result = function(*args, **kwargs)
            self.tick()
            return result

        setattr(owner, name, watched)

    def watch_everything(self) -> None:
        for owner, name in (
            (os, "replace"),
            (loop.TrainingLoop, "_train_on"),
            (loop.TrainingLoop, "_save"),
            (prm._MarkWhole, "on_save"),
            (prm._RewardTrainer, "compute_loss"),
            (prm._RewardTrainer, "_save_checkpoint"),
            (PreTrainedTokenizerBase, "save_pretrained"),
            (core.Trainer, "step"),
            (core.Trainer, "_log"),
            (core.Trainer, "_save"),
            (reward, "write_atomically"),
            (training, "write_atomically"),
            (form, "write_atomically"),
        ):
            self.watch(owner, name)
        self._watch_lines()

    def _watch_lines(self) -> None:
        """Files that lines are appended to also get half a line."""
        write, append = TrajectoryWriter.write, targets.append_branches

        def write_watched(writer: TrajectoryWriter, trajectory: Any) -> None:
            self.tick(lambda: (writer._file.write(b'{"schema_version":1,"epi'), writer._file.flush()))
            write(writer, trajectory)
            self.tick()

        def append_watched(path: Path, records: Any) -> None:
            def half() -> None:
                append(path, records[:1])
                with Path(path).open("a", encoding="utf-8") as file:
                    file.write('{"source":')

            self.tick(half)
            append(path, records)
            self.tick()

        TrajectoryWriter.write = write_watched  # type: ignore[method-assign]
        targets.append_branches = append_watched


def attempt(run: Path, stage: str | None = None, at: int = 0, counts: Path | None = None) -> int:
    """Run the pipeline in a fork; returns the signal that killed it, 0 for none."""
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), f"the pipeline failed with status {status}"
        return -status
    code = 1
    try:
        ticks = Ticks(run, stage, at)
        ticks.watch_everything()
        run_pipeline(run, CONFIG, say=lambda line: None)
        if counts is not None:
            counts.write_text(json.dumps(ticks.counts))
        code = 0
    finally:
        os._exit(code)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rng = random.Random(0)
    attempt(folder / "whole", counts=folder / "counts.json")
    counts = json.loads((folder / "counts.json").read_text())
    kills = []
    for stage in STAGES:
        for kill in range(KILLS_A_STAGE):
            at = rng.randint(1, max(1, counts[stage] // 2))
            if stage == "sft" and kill == 0:
                at = BETWEEN_TOKENIZER_AND_WEIGHTS
            if attempt(folder / "killed", stage, at) == signal.SIGKILL:
                kills.append([present_stage(folder / "killed"), at, counts[stage]])
    attempt(folder / "killed")
    (folder / "kills.json").write_text(json.dumps(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
