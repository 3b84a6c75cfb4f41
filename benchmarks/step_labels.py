"""Claim: a model from scratch, trained on step labels alone, tells right steps from wrong ones in unseen problems.

    python benchmarks/step_labels.py [--seeds 0 1 2] [--problems 2500] [--processbench FOLDER]

Problems of eight sums and differences of 0 … 9 and 1 … 3. In every other problem half of the steps say a wrong result,
from which the next step goes on. Prints accuracy, AUC and first-error F1 on problems that are not among those trained
on, beside the untrained model, the baselines and a model trained on labels in random order. With --processbench, the
files processbench_{gsm8k,math}.jsonl.gz in the folder are judged by the baselines and the trained model, which has
never seen mathematics in words: there it shows only that the evaluation runs.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainingArguments
from transformers.utils import logging

from agentgym_prm.algos.optim import make_optimizer
from agentgym_prm.algos.step_labels import ProcessRewardTrainer
from agentgym_prm.models import LoadedModel, ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.rewards.step_labels import RIGHT, WRONG, StepLabels, read_step_labels
from agentgym_prm.rewards.step_quality import (
    BASELINES,
    StepTextScorer,
    best_threshold,
    evaluate_steps,
)
from agentgym_prm.rewards.token_labels import TokenLabelScorer

TOP, MOST, STEPS = 9, 3, 8
HELD_OUT, MOST_CHARACTERS = 400, 1500


def problem(rng: random.Random) -> StepLabels:
    """Sums and differences, each judged by itself."""
    value, share = rng.randint(0, TOP), rng.choice((0.5, 1.0))
    words, steps, labels = [f"start with {value}"], [], []
    for _ in range(STEPS):
        sign, number = rng.choice([(s, n) for s in (1, -1) for n in range(1, MOST + 1) if 0 <= value + s * n <= TOP])
        right = value + sign * number
        found = right if rng.random() < share else rng.choice([n for n in range(TOP + 1) if n != right])
        words.append(f"{'add' if sign > 0 else 'take'} {number}")
        steps.append(f"then {value} {'+' if sign > 0 else '-'} {number} = {found}")
        labels.append(RIGHT if found == right else WRONG)
        value = found
    return StepLabels(" , ".join(words), tuple(steps), tuple(labels))


def shuffled(examples: Sequence[StepLabels], rng: random.Random) -> list[StepLabels]:
    """The same steps with all labels in another order: nothing to learn."""
    labels = [label for example in examples for label in example.labels]
    rng.shuffle(labels)
    drawn = iter(labels)
    return [replace(example, labels=tuple(next(drawn) for _ in example.labels)) for example in examples]


def tiny(folder: Path, examples: Sequence[StepLabels], seed: int) -> LoadedModel:
    texts = [text for example in examples for text in (example.input, *example.steps)]
    config = TinyConfig(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128, vocab_size=600, seed=seed)
    return load_model(ModelConfig(str(build_tiny(folder, texts, config)), device="cpu"))


def train(loaded: LoadedModel, examples: Sequence[StepLabels], folder: Path, seed: int) -> TokenLabelScorer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=8,
        per_device_train_batch_size=16,
        learning_rate=5e-3,
        warmup_steps=20,
        lr_scheduler_type="cosine",
        seed=seed,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    optimizer = make_optimizer(loaded.model.named_parameters(), "muon", arguments.learning_rate)
    trainer = ProcessRewardTrainer(
        loaded.model, arguments, examples, processing_class=loaded.tokenizer, optimizers=(optimizer, None)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return TokenLabelScorer(loaded.model, loaded.tokenizer)


def row(name: str, scorer: StepTextScorer, attempts: Sequence[StepLabels], threshold: float = 0.5) -> str:
    found = evaluate_steps(scorer, attempts, threshold=threshold)
    first = found.first_errors
    assert first is not None
    return (
        f"{name:<28}{found.steps.accuracy:>9.3f}{found.steps.auc:>9.3f}{first.error_accuracy:>9.3f}"
        f"{first.correct_accuracy:>9.3f}{first.f1:>9.3f}{threshold:>11.3f}"
    )


def heading(title: str) -> str:
    names = ("accuracy", "AUC", "errors", "correct", "F1")
    return f"{title:<28}" + "".join(f"{name:>9}" for name in names) + f"{'threshold':>11}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--problems", type=int, default=2500)
    parser.add_argument("--processbench", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    scorer: StepTextScorer = BASELINES["random"]
    for seed in options.seeds:
        rng = random.Random(seed)
        examples = [problem(rng) for _ in range(options.problems)]
        seen = {example.input for example in examples}
        held_out = [each for each in (problem(rng) for _ in range(HELD_OUT)) if each.input not in seen]
        print(heading(f"seed {seed}, {len(held_out)} held-out"), flush=True)
        for name, baseline in BASELINES.items():
            print(row(name, baseline, held_out))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            loaded = tiny(path / "untrained", examples, seed)
            print(row("untrained", TokenLabelScorer(loaded.model, loaded.tokenizer), held_out))
            control = train(tiny(path / "c", examples, seed), shuffled(examples, rng), path / "control", seed)
            print(row("trained, labels shuffled", control, held_out), flush=True)
            start = time.perf_counter()
            scorer = train(loaded, examples, path / "run", seed)
            seconds = time.perf_counter() - start
            print(row(f"trained ({seconds:.0f} s)", scorer, held_out), flush=True)
    if options.processbench:
        judge_processbench(options.processbench, {**BASELINES, "trained on sums": scorer})


def judge_processbench(folder: Path, scorers: Mapping[str, StepTextScorer]) -> None:
    """The threshold is one half, and then the best on gsm8k, as the benchmark's authors choose it."""
    parts = {name: read_step_labels(folder / f"processbench_{name}.jsonl.gz") for name in ("gsm8k", "math")}
    # Words that the tiny vocabulary lacks take a token for each letter, so that long attempts outgrow the model.
    short = {
        name: [each for each in attempts if len(each.input) + sum(map(len, each.steps)) < MOST_CHARACTERS]
        for name, attempts in parts.items()
    }
    labels = [label for each in short["gsm8k"] if (label := each.first_error) is not None]
    thresholds = {name: best_threshold(each.step_scores(short["gsm8k"]), labels) for name, each in scorers.items()}
    for name, attempts in short.items():
        print(heading(f"{name}, {len(attempts)} of {len(parts[name])}"))
        for called, scorer in scorers.items():
            print(row(called, scorer, attempts))
            print(row(called, scorer, attempts, thresholds[called]), flush=True)


if __name__ == "__main__":
    main()
