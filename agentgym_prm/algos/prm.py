"""Training of process reward models and value models, by Hugging Face's ``Trainer``.

==================  ==================================================================  ===========================
``loss``            what is learned                                                     examples from
==================  ==================================================================  ===========================
``soft_bce``        cross-entropy of ``sigmoid(score)`` with Q (or V) in [0, 1]         ``q_examples, v_examples``
``squared_error``   ``(score - Q) ** 2``                                                ``q_examples, v_examples``
``bradley_terry``   ``-log sigmoid(s_a - s_b)`` where ``Q_a > Q_b + margin``            ``q_examples``
``listwise``        cross-entropy of ``softmax(s)`` with ``softmax(Q / temperature)``   ``q_examples``
``inverse``         cross-entropy of ``sigmoid(Q(h,a) - gamma Q(h',a'))`` with 1 for    ``inverse_reward_examples``
                    demonstrations and 0 for rollouts
==================  ==================================================================  ===========================

Source: arXiv:2502.10325: learning rate 5e-5, one epoch, batch 64, soft cross-entropy. Added to it here: ``contrast``,
the weight of a ranking loss beside one on the level. Most of what Q varies by is how good the *history* is;
Best-of-N asks only which *action* is better after it, and a loss on the level alone learns that late or never.

An example is a history with all its judged actions, so that a prompt is read once for all of them; ``batch_size``
counts histories. ``Trainer`` brings several GPUs, mixed precision and accumulation; a killed run continues from its
newest whole checkpoint and ends, on a CPU, with the same parameters as an uninterrupted one.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from tqdm import tqdm

from agentgym_prm.algos.loop import METRICS, PRECISIONS
from agentgym_prm.algos.losses import bradley_terry, implicit_reward, listwise, soft_bce, squared_error
from agentgym_prm.algos.optim import OPTIMIZERS, make_optimizer, warm_cosine
from agentgym_prm.algos.sft import shuffled_batches
from agentgym_prm.errors import StoreError, UnknownNameError, needs_extra
from agentgym_prm.rewards.inverse import InverseExample
from agentgym_prm.rewards.prm import Asked, ProcessRewardModel, collate
from agentgym_prm.rewards.targets import GAMMA, PREFERENCE_MARGIN, ActionValues, VTarget, check_gamma

with needs_extra("train"):
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

LOSSES: Final = ("soft_bce", "squared_error", "bradley_terry", "listwise", "inverse")
RANKING_LOSSES: Final = ("bradley_terry", "listwise")
_WHOLE: Final = "whole"
"""Marks a checkpoint that was written to its end."""


@dataclass(frozen=True, slots=True)
class PRMConfig:
    """Settings of reward model training."""

    loss: str = "soft_bce"
    """soft_bce, squared_error, bradley_terry, listwise or inverse."""
    contrast: float = 0.0
    """Weight of a ranking loss that is added to soft_bce or squared_error."""
    contrast_loss: str = "listwise"
    """Which one: listwise or bradley_terry."""
    temperature: float = 0.02
    """Of the listwise loss's targets: values that differ by so much differ by a factor e in probability."""
    margin: float = PREFERENCE_MARGIN
    """Pairs of actions count whose Q differ by more than this."""
    gamma: float = GAMMA
    """Discount of the inverse loss."""
    learning_rate: float = 5e-5
    """Highest learning rate."""
    epochs: int = 1
    """Passes over the histories."""
    batch_size: int = 64
    """Histories a step, on each device."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    final_learning_rate: float = 0.0
    """Share of learning_rate that the cosine ends at."""
    optimizer: str = "adamw"
    """adamw, or muon for models from scratch (see optim.py)."""
    weight_decay: float = 0.0
    """Weight decay; not on vectors (norms, biases)."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    precision: str = "float32"
    """float32, or bfloat16 for autocast in the forward pass (the weights keep their type)."""
    seed: int = 0
    """Order of the histories."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl; checkpoints and the end have theirs too."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UnknownNameError.of("loss", self.loss, LOSSES)
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError.of("optimizer", self.optimizer, OPTIMIZERS)
        if self.precision not in PRECISIONS:
            raise UnknownNameError.of("precision", self.precision, PRECISIONS)
        check_gamma(self.gamma)
        for name in ("epochs", "batch_size", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("contrast", "margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("temperature", "learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup", "final_learning_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.contrast_loss not in RANKING_LOSSES:
            raise UnknownNameError.of("contrast_loss", self.contrast_loss, RANKING_LOSSES)
        if self.contrast and self.loss not in ("soft_bce", "squared_error"):
            raise ValueError(f"contrast is added to soft_bce or squared_error, not to {self.loss}")


class RewardExample(NamedTuple):
    """What is asked of the network, and what it should answer.

    ``asked`` is the history with its replies, in the inverse loss followed by the next history with the next reply.
    """

    asked: tuple[Asked, ...]
    targets: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PRMReport:
    """What a run did. ``loss`` is the mean of the last logged steps."""

    steps: int
    examples: int
    loss: float


def q_examples(prm: ProcessRewardModel, groups: Sequence[ActionValues]) -> list[RewardExample]:
    """Each history with all its actions; a value weighs the same however many returns it is the mean of."""
    _check_judges(prm, "action")
    return [
        RewardExample((prm.asked(group.history, group.actions),), group.values, (1.0,) * len(group.actions))
        for group in groups
    ]


def v_examples(prm: ProcessRewardModel, targets: Sequence[VTarget]) -> list[RewardExample]:
    """Each history alone, for a value model."""
    _check_judges(prm, "history")
    return [RewardExample((prm.asked(target.history),), (target.value,), (1.0,)) for target in targets]


def inverse_reward_examples(prm: ProcessRewardModel, examples: Sequence[InverseExample]) -> list[RewardExample]:
    """Each step with the one after it; what ``rewards.inverse.inverse_examples`` gives."""
    _check_judges(prm, "action")
    made = []
    for example in examples:
        asked = [prm.asked(example.history, (example.action,))]
        if example.next_history is not None and example.next_action is not None:
            asked.append(prm.asked(example.next_history, (example.next_action,)))
        made.append(RewardExample(tuple(asked), (float(example.label),), (1.0,)))
    return made


def _check_judges(prm: ProcessRewardModel, kind: str) -> None:
    if prm.settings.judges != kind:
        raise ValueError(
            f"these examples are for a model that judges {kind!r}, this one judges {prm.settings.judges!r}"
        )


def train_prm(
    prm: ProcessRewardModel,
    examples: Sequence[RewardExample],
    config: PRMConfig,
    *,
    run_dir: str | Path,
    resume: bool = False,
    progress: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> PRMReport:
    """Train ``prm`` in place.

    Args:
        prm: An untrained or trained reward model; its trainable parameters are updated.
        examples: As ``q_examples``, ``v_examples`` or ``inverse_reward_examples`` make them; the same ones in the same
            order when resuming.
        config: Settings.
        run_dir: Folder for ``metrics.jsonl`` and ``checkpoints/``.
        resume: Continue from the newest whole checkpoint, if there is one.
        progress: Show a progress bar.
        callbacks: Further callbacks of ``Trainer``.

    Raises:
        FileExistsError: ``run_dir`` holds a training run and ``resume`` is false.
        StoreError: The checkpoint belongs to other settings or examples.
        ValueError: No examples, or their kind does not fit the loss.
    """
    _check_examples(examples, config)
    folder = Path(run_dir)
    checkpoints = folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    if not resume and ((folder / METRICS).exists() or checkpoints.exists()):
        raise FileExistsError(f"{folder} holds a training run: resume it, or choose another run directory")
    identity = {
        "config": asdict(config),
        "judges": prm.settings.judges,
        "head": prm.settings.head,
        "examples": len(examples),
        "tokens": sum(map(_places, examples)),
        "digest": _digest(examples),
    }
    newest = _newest_whole(checkpoints, identity)
    log = _Log(folder / METRICS, after=int(newest.name.rpartition("-")[2]) if newest else 0)
    trainer = _RewardTrainer(prm, examples, config, checkpoints, log)
    trainer.remove_callback(_printer())
    for callback in (log, _MarkWhole(identity), *((_Bar(),) if progress else ()), *callbacks):
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    trainer.accelerator.unwrap_model(prm.net, keep_fp32_wrapper=False)  # or autocast would stay on
    prm.model.eval()
    return PRMReport(trainer.state.global_step, len(examples), log.loss)


def calibrate(prm: ProcessRewardModel, groups: Sequence[ActionValues]) -> None:
    """Fit the scale and offset before the sigmoid to the values: Platt's scaling, with targets in [0, 1].

    The order of the scores does not change. A ranking loss leaves their level open; this gives it a meaning: among
    actions with one score, the mean value is about that score. Fit on other tasks than calibration is judged on.

    Raises:
        ValueError: Link ``"identity"``, no groups, or scores that do not rise where values do: nothing was learned.
            The model is left as it was.
    """
    if prm.settings.link != "sigmoid" or not groups:
        raise ValueError("calibration needs link 'sigmoid' and at least one group")
    settings = prm.settings
    histories = [group.history for group in groups for _ in group.actions]
    prm.use(replace(settings, link="identity"))
    try:
        outputs_N = torch.from_numpy(prm.score(histories, [action for group in groups for action in group.actions]))
    finally:
        prm.use(settings)
    values_N = torch.tensor([value for group in groups for value in group.values], dtype=torch.float64)
    parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    spread, mean = outputs_N.std(correction=0) + 1e-9, outputs_N.mean()
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits_N = parameters[0] * (outputs_N - mean) / spread + parameters[1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_N, values_N)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    slope, level = parameters.tolist()
    scale = slope / float(spread)
    if not scale > 0:
        raise ValueError("scores do not rise where values do: the model has learned nothing to calibrate")
    prm.use(replace(settings, link="sigmoid", scale=scale, offset=level - scale * float(mean)))


def _check_examples(examples: Sequence[RewardExample], config: PRMConfig) -> None:
    if not examples:
        raise ValueError("no examples: nothing to learn from")
    steps = any(len(example.asked) > 1 for example in examples)
    if steps != (config.loss == "inverse"):
        raise ValueError(f"loss {config.loss!r} does not fit these examples (see the table in algos/prm.py)")
    if config.loss in ("soft_bce", "inverse"):
        wrong = [value for each in examples for value in each.targets if not 0 <= value <= 1]
        if wrong:
            raise ValueError(f"targets of {config.loss} must be in [0, 1], got {wrong[0]:g} and {len(wrong) - 1} more")


def _digest(examples: Sequence[RewardExample]) -> str:
    """Tells examples from others: also those with as many tokens and other values."""
    digest = blake2b(digest_size=16)
    for example in examples:
        digest.update(repr(tuple(example)).encode())
    return digest.hexdigest()


def _places(example: RewardExample) -> int:
    return sum(len(each.prompt) + sum(map(len, each.replies)) for each in example.asked)


# --- the batch and its loss ---


def make_batch(examples: Sequence[RewardExample], prm: ProcessRewardModel, config: PRMConfig) -> dict[str, Any]:
    """Tensors of a batch: inputs of ``RewardNet`` and, beside them, targets, pairs and who follows whom."""
    asked = [each for example in examples for each in example.asked]
    batch: dict[str, Any] = collate(asked, prm.model, int(prm.tokenizer.pad_token_id), prm.settings.head)
    batch["targets"] = torch.tensor([value for example in examples for value in example.targets])
    batch["weights"] = torch.tensor([weight for example in examples for weight in example.weights])
    first = 0
    pairs: list[tuple[int, int]] = []
    present: list[int] = []
    following: list[int] = []
    for example in examples:
        pairs += [
            (first + better, first + worse)
            for better, high in enumerate(example.targets)
            for worse, low in enumerate(example.targets)
            if high > low + config.margin
        ]
        count = len(example.targets)
        present += range(first, first + count)
        # In the inverse loss the next step's score comes right after the step's own; -1 says that there is none.
        following.append(first + 1 if len(example.asked) > 1 else -1)
        first += sum(len(each.replies) for each in example.asked)
    batch["group"] = torch.tensor([number for number, each in enumerate(examples) for _ in each.targets])
    batch["chosen"] = torch.tensor([chosen for chosen, _ in pairs], dtype=torch.long)
    batch["rejected"] = torch.tensor([rejected for _, rejected in pairs], dtype=torch.long)
    batch["present"] = torch.tensor(present)
    batch["following"] = torch.tensor(following)
    return batch


def reward_loss(scores: torch.Tensor, batch: dict[str, Any], config: PRMConfig) -> torch.Tensor:
    """The loss of a batch, given the network's output for all that it asks."""
    if config.loss == "inverse":
        following, present = batch["following"], batch["present"]
        after = torch.where(following >= 0, scores[following.clamp(min=0)], 0.0)
        rewards = implicit_reward(scores[present], after, config.gamma)
        return soft_bce(rewards, batch["targets"], batch["weights"])
    if config.loss in RANKING_LOSSES:
        return _ranking(config.loss, scores, batch, config)
    level = soft_bce if config.loss == "soft_bce" else squared_error
    loss = level(scores, batch["targets"], batch["weights"])
    return loss + config.contrast * _ranking(config.contrast_loss, scores, batch, config) if config.contrast else loss


def _ranking(name: str, scores: torch.Tensor, batch: dict[str, Any], config: PRMConfig) -> torch.Tensor:
    if name == "listwise":
        return listwise(scores, batch["targets"], batch["group"], config.temperature)
    return bradley_terry(scores, batch["chosen"], batch["rejected"])


# --- Trainer ---

_INPUTS: Final = ("input_ids", "attention_mask", "position_ids", "rows", "places", "tokens", "owners")


class _RewardTrainer(Trainer):
    """Hugging Face's loop with our loss, our order of examples and our optimiser."""

    def __init__(
        self,
        prm: ProcessRewardModel,
        examples: Sequence[RewardExample],
        config: PRMConfig,
        folder: Path,
        log: "_Log",
    ) -> None:
        self._examples, self._config, self._log = examples, config, log
        arguments = TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            bf16=config.precision == "bfloat16",
            seed=config.seed,
            save_steps=config.checkpoint_every,
            save_total_limit=2,  # the newest may be half written when a run is killed
            logging_steps=config.log_every,
            use_cpu=prm.model.device.type == "cpu",
            dataloader_pin_memory=prm.model.device.type != "cpu",
            remove_unused_columns=False,
            disable_tqdm=True,
            report_to="none",
        )
        # Several GPUs take a process each (accelerate launch): DataParallel would split rows and places wrongly.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        super().__init__(
            model=prm.net,
            args=arguments,
            train_dataset=examples,
            data_collator=partial(make_batch, prm=prm, config=config),
        )

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Any:
        scores = model(**{name: inputs[name] for name in _INPUTS})
        loss = reward_loss(scores, inputs, self._config)
        return (loss, {"scores": scores}) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        config = self._config
        self.optimizer: torch.optim.Optimizer = make_optimizer(
            self.model.named_parameters(), config.optimizer, config.learning_rate, config.weight_decay
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        config = self._config

        def share(step: int) -> float:
            return warm_cosine(step, num_training_steps, config.warmup, config.final_learning_rate)

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, share)
        return self.lr_scheduler

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        weights = self.model.state_dict() if state_dict is None else state_dict
        twice = self.model._keys_to_ignore_on_save
        super()._save(output_dir, {name: weight for name, weight in weights.items() if name not in twice})

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return _Buckets([_places(each) for each in self._examples], self._config)


class _Buckets(torch.utils.data.Sampler[int]):
    """Examples in random order, but those of a batch similar in length; another order every epoch."""

    def __init__(self, lengths: Sequence[int], config: PRMConfig) -> None:
        self._lengths, self._config, self._epoch = lengths, config, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        batches = shuffled_batches(self._lengths, self._config.batch_size, self._config.seed, self._epoch)
        # A short batch in the middle would shift all that follow: it goes last.
        batches.sort(key=len, reverse=True)
        return iter([index for batch in batches for index in batch])


class _Log(TrainerCallback):
    """Writes what ``Trainer`` logs to ``metrics.jsonl``; lines after the checkpoint resumed from are dropped.

    A line is the mean since the line before. ``Trainer`` forgets that at a checkpoint, so there is one at each, and one
    at the end: else a resumed run would write others than an uninterrupted one, and a short run none.
    """

    def __init__(self, path: Path, after: int) -> None:
        self._path, self.loss = path, float("nan")
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= after]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        if kept:
            self.loss = json.loads(kept[-1])["prm/loss"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % args.save_steps == 0 or state.global_step == state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        self.loss = float(logs["loss"])
        line = {
            "step": state.global_step,
            "epoch": logs["epoch"],
            "prm/loss": self.loss,
            "prm/learning_rate": logs["learning_rate"],
            "prm/grad_norm": float(logs["grad_norm"]),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _MarkWhole(TrainerCallback):
    """Marks a checkpoint as whole once everything in it has been written, and says what it belongs to."""

    def __init__(self, identity: dict[str, Any]) -> None:
        self._identity = identity

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            temporary = folder / f"{_WHOLE}.tmp"
            temporary.write_text(json.dumps(self._identity), encoding="utf-8")
            os.replace(temporary, folder / _WHOLE)


class _Bar(TrainerCallback):
    """A progress bar like everybody else's."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", desc="prm", disable=None)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _newest_whole(checkpoints: Path, identity: dict[str, Any]) -> Path | None:
    """The newest checkpoint that was written to its end; others are deleted.

    Raises:
        StoreError: It belongs to other settings or examples.
    """
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    owners = {path: _owner(path) for path in found}
    whole = [path for path in found if owners[path] is not None]
    for path in set(found) - set(whole):
        shutil.rmtree(path)
    if not whole:
        return None
    owner = owners[whole[-1]]
    if owner != identity:
        raise StoreError(f"{checkpoints} was started with {owner}, not {identity}")
    return whole[-1]


def _owner(checkpoint: Path) -> Any:
    """What a whole checkpoint belongs to, ``None`` for one that is not whole."""
    try:
        return json.loads((checkpoint / _WHOLE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
