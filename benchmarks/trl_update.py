"""Claim: a GRPO update takes no longer than TRL's on the same model, batch and lengths, and no more memory.

    .venv-trl/bin/python benchmarks/trl_update.py [--rounds 3] [--threads 1 2] [--cases …]        (make bench-trl)

The update alone: nobody generates. Both sides get the same token ids, prompt lengths, masks and rewards, start from the
same random weights, and do what an update does: old log-probabilities where steps need them, those of the reference
where the loss does, forward, backward, AdamW, float32, without gradient checkpointing. TRL runs its own ``train()``,
its ``rollout_func`` returns what there is; its clock starts when that returns and stops after its last step of the
batch. Our update runs inside that function, before the clock starts: so the two alternate. One more round than
counted comes first. TRL's microbatches have 8 rows; ours have the places that TRL's take, padding included.

That both compute the same is checked in every case: neither shuffles the batch here, and after all rounds the weights
have to be the same but for rounding. "tokens" are all that are read, prompts and observations included, padding not.

Memory is the peak of the resident set in a process of its own for each side, and, because what TRL imports is not what
an update takes, its rise over what was resident before the first update.
"""

import argparse
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.algos.core import Source
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.policy import Policy, Row
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.types import Action, Step, Trajectory

WORDS = [" " + "".join(syllables) for syllables in product("bdfgklmnprst", "aeiou", "bdfgklmnprst", "aeiou")]
MODELS = {
    "1M": TinyConfig(hidden_size=128, num_layers=4, intermediate_size=384, vocab_size=2048),
    "10M": TinyConfig(hidden_size=320, num_layers=6, num_heads=5, intermediate_size=960, vocab_size=4096),
}
GROUP, MICROBATCH, RATE = 8, 8, 1e-4
SAME = 0.01
"""Largest distance between both sides' weights, as a share of how far training moved them."""


@dataclass(frozen=True)
class Case:
    """What is compared.

    ``turns`` of 1 is a prompt with one completion; ``steps`` are the optimiser's on a batch. With ``even`` lengths
    nobody pads: what is left of the ratio then does not come from batches of similar lengths.
    """

    model: str
    groups: int
    turns: int = 1
    beta: float = 0.0
    steps: int = 1
    even: bool = False


CASES = {
    "plain": Case("1M", 4),
    "even": Case("1M", 4, even=True),
    "reference": Case("1M", 4, beta=0.04),
    "two-steps": Case("1M", 4, steps=2),
    "turns": Case("1M", 4, turns=6),
    "plain-10M": Case("10M", 2),
    "turns-10M": Case("10M", 2, turns=6),
}


# --- the batch, the same for both ---


def words(draw: random.Random, count: int, vocabulary: Sequence[str]) -> str:
    return "".join(draw.choices(vocabulary, k=count))


def played(case: Case, agent: LocalAgent, vocabulary: Sequence[str]) -> list[Trajectory]:
    """Random texts in random lengths: prompts of about 64-256 tokens; replies of 64-256, or of 12-36 in turns."""
    draw, chat = random.Random(0), agent.encoder.chat
    shortest, longest = (64, 256) if case.turns == 1 else (12, 36)
    if case.even:
        shortest = longest = 160
    trajectories = []
    for group in range(case.groups):
        prompt = words(draw, 158 if case.even else draw.randint(62, 254), vocabulary)
        for member in range(GROUP):
            steps = []
            for turn in range(case.turns if case.turns == 1 else draw.randint(3, case.turns)):
                ids = (*chat.encode(words(draw, draw.randint(shortest, longest) - 1, vocabulary)), chat.stop_ids[0])
                reply = chat.decode(ids)
                action = Action(reply, reply=reply, token_ids=ids, logprobs=(-1.0,) * len(ids), stop_reason="end")
                shown = words(draw, draw.randint(12, 36), vocabulary) if turn else prompt
                steps.append(Step(shown, (), action))
            steps[-1] = Step(steps[-1].observation, (), steps[-1].action, outcome_reward=draw.random(), terminated=True)
            trajectories.append(Trajectory("", group, tuple(steps), "", episode=group * GROUP + member))
    return trajectories


class Nowhere(Source):
    """Trajectories are handed to ``update``."""

    fresh = True

    def batch(self, *_: Any) -> list[Trajectory]:
        raise NotImplementedError


class InOrder(GRPOTrainer):
    """GRPO whose minibatches are consecutive parts of the batch, as TRL's are when it does not shuffle."""

    def plan(self, rows: Sequence[Row]) -> list[list[list[int]]]:
        size = len(rows) // self.config.minibatches
        return [[list(range(start, start + size)) for start in range(0, len(rows), size)]]


class Setting:
    """A case made real: model folder, trajectories and their rows, ours to train on and theirs to return."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        shape = MODELS[case.model]
        vocabulary = WORDS[: shape.vocab_size - 300]
        if not (folder / "config.json").is_file():
            build_tiny(folder, ["".join(vocabulary)], shape)
        agent = self.agent()
        self.trajectories = played(case, agent, vocabulary)
        self.rows = Policy(agent).rows(self.trajectories)
        self.tokens = sum(len(row.token_ids) for row in self.rows)
        prompts = max(row.places[0] for row in self.rows)
        self.width = prompts + max(len(row.token_ids) - row.places[0] for row in self.rows)

    def agent(self) -> LocalAgent:
        model, tokenizer = load_model(ModelConfig(str(self.folder), device="cpu", dtype="float32"))
        return LocalAgent(model, tokenizer, "bare")

    # --- our side ---

    def ours(self) -> GRPOTrainer:
        config = GRPOConfig(
            updates=10**6,
            learning_rate=RATE,
            scale="none",
            kl_coef=self.case.beta,
            minibatches=self.case.steps,
            batch_tokens=MICROBATCH * self.width,
        )
        return InOrder(Policy(self.agent()), config, Nowhere())

    def update(self, trainer: GRPOTrainer) -> None:
        trainer.update(self.trajectories)
        trainer.done += 1

    # --- their side ---

    def theirs(self, rounds: int, before: Callable[[], None], after: Callable[[], None]) -> Any:
        """TRL's trainer; ``before`` and ``after`` are called around each batch's update."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import trl.trainer.grpo_trainer as grpo
            from datasets import Dataset
            from transformers import PrinterCallback, TrainerCallback
        grpo.shuffle_sequence_dict = lambda batch: batch
        steps, count = self.case.steps, len(self.rows)
        batch: dict[str, Any] = {
            "prompt_ids": [list(row.token_ids[: row.places[0]]) for row in self.rows],
            "completion_ids": [list(row.token_ids[row.places[0] :]) for row in self.rows],
            "logprobs": [[-1.0] * (len(row.token_ids) - row.places[0]) for row in self.rows],
        }
        if self.case.turns > 1:
            acted = [set(row.places) for row in self.rows]
            batch["env_mask"] = [
                [int(place in places) for place in range(row.places[0], len(row.token_ids))]
                for row, places in zip(self.rows, acted, strict=True)
            ]
        rewards = [trajectory.outcome for trajectory in self.trajectories]

        def rollout(*_: Any) -> dict[str, Any]:
            before()
            return {name: list(lists) for name, lists in batch.items()}

        class Watch(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step % steps == 0:
                    after()

        model, tokenizer = load_model(ModelConfig(str(self.folder), device="cpu", dtype="float32"))
        config = grpo.GRPOConfig(
            output_dir=str(self.folder / "trl"),
            max_steps=rounds * steps,
            per_device_train_batch_size=MICROBATCH,
            gradient_accumulation_steps=count // MICROBATCH // steps,
            steps_per_generation=count // MICROBATCH,
            num_generations=GROUP,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            beta=self.case.beta,
            loss_type="grpo",
            scale_rewards="none",
            shuffle_dataset=False,
            max_completion_length=4096,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = grpo.GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [str(group) for group in range(self.case.groups)]}),
            reward_funcs=lambda completions, **_: rewards,
            rollout_func=rollout,
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


# --- time ---


class Clock:
    """Seconds and CPU seconds of each span."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def start(self) -> None:
        gc.collect()
        self._started = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds.append(time.perf_counter() - self._started[0])
        self.cpu_seconds.append(time.process_time() - self._started[1])


def rates(setting: Setting, rounds: int) -> dict[str, float]:
    """Both sides in turns; medians of tokens a second."""
    own, their = Clock(), Clock()
    mine = setting.ours()

    def before() -> None:
        own.start()
        setting.update(mine)
        own.stop()
        their.start()

    theirs = setting.theirs(rounds + 1, before, their.stop)
    theirs.train()
    ratios = [t / o for o, t in zip(own.seconds[1:], their.seconds[1:], strict=True)]
    cpu = [t / o for o, t in zip(own.cpu_seconds[1:], their.cpu_seconds[1:], strict=True)]
    return {
        "ours": setting.tokens / statistics.median(own.seconds[1:]),
        "trl": setting.tokens / statistics.median(their.seconds[1:]),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "cpu_ratio": statistics.median(cpu),
        "difference": difference(setting, mine, theirs),
    }


def difference(setting: Setting, ours: GRPOTrainer, theirs: Any) -> float:
    """How far both sides' weights are apart, as a share of how far training moved them.

    Raises:
        AssertionError: So far that they did not compute the same.
    """
    start = dict(setting.agent().model.named_parameters())
    mine, trained = (dict(model.named_parameters()) for model in (ours.policy.agent.model, theirs.model))
    assert mine.keys() == trained.keys() == start.keys()
    with torch.no_grad():
        apart = sum(float((mine[name] - trained[name]).square().sum()) for name in start) ** 0.5
        moved = sum(float((start[name] - trained[name]).square().sum()) for name in start) ** 0.5
    assert apart < SAME * moved, f"the two sides computed different updates: {apart} apart, {moved} moved"
    return apart / moved


# --- memory ---


def resident() -> float:
    """Megabytes resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak() -> float:
    """Megabytes resident at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def memory(setting: Setting, side: str) -> dict[str, float]:
    """The peak of two updates of one side, and what was resident before; for a process of its own."""
    at_first: list[float] = []
    if side == "trl":
        setting.theirs(2, lambda: at_first.append(resident()), lambda: None).train()
    else:
        trainer = setting.ours()
        for _ in range(2):
            at_first.append(resident())
            setting.update(trainer)
    return {"before": at_first[0], "peak": peak()}


def in_new_process(arguments: Sequence[str], threads: int) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    measured = output.splitlines()[-1]
    print(f"{threads} threads, {' '.join(arguments)}: {measured}", file=sys.stderr, flush=True)  # it takes minutes
    return json.loads(measured)


# --- the table ---


def lines(names: Sequence[str], threads: Sequence[int], rounds: int, folder: str) -> Iterator[str]:
    yield (
        "| case | threads | places × rows | ours, tokens/s | TRL, tokens/s | ratio (lowest-highest) "
        "| CPU time, TRL/ours | weights apart | peak MB ours / TRL | rise MB ours / TRL |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name in names:
        case = [name, "--folder", folder]
        for count in threads:
            speed = in_new_process(["--time", *case, "--rounds", str(rounds)], count)
            used = {side: in_new_process(["--memory", side, *case], count) for side in ("ours", "trl")}
            rise = {side: each["peak"] - each["before"] for side, each in used.items()}
            yield (
                f"| {name} | {count} | {speed['width']:.0f} × {speed['rows']:.0f} | {speed['ours']:,.0f} "
                f"| {speed['trl']:,.0f} | **{speed['ratio']:.2f}** ({speed['lowest']:.2f}-{speed['highest']:.2f}) "
                f"| {speed['cpu_ratio']:.2f} | {speed['difference']:.1e} "
                f"| {used['ours']['peak']:.0f} / {used['trl']['peak']:.0f} | {rise['ours']:.0f} / {rise['trl']:.0f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--time", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time:
        setting = Setting(CASES[options.time], Path(options.folder) / CASES[options.time].model)
        shape = {"width": setting.width, "rows": len(setting.rows)}
        print(json.dumps({**rates(setting, options.rounds), **shape}))
    elif options.memory:
        side, name = options.memory
        print(json.dumps(memory(Setting(CASES[name], Path(options.folder) / CASES[name].model), side)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for line in lines(options.cases, options.threads, options.rounds, folder):
                print(line, flush=True)


if __name__ == "__main__":
    main()
