import logging
import math
import random

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from agentgym_prm.algos.optim import make_optimizer
from agentgym_prm.algos.step_labels import (
    IGNORED,
    EncodingReport,
    ProcessRewardTrainer,
    RewardDataCollator,
    step_metrics,
)
from agentgym_prm.errors import DataFormatError, UnknownNameError
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny, build_tokenizer, load_model
from agentgym_prm.rewards.step_labels import RIGHT, WRONG, StepLabels
from agentgym_prm.rewards.step_quality import evaluate_steps
from agentgym_prm.rewards.token_labels import TokenLabelScorer, TokenLabelSettings

RAW = [
    {"input": "add 2 and 3", "value": ["2 + 3 = 5", "so 5"], "label": ["+", "-"]},
    {"input": "add 1", "value": ["1 + 1 = 3"], "label": ["-"]},
]
TEXTS = [text for row in RAW for text in (row["input"], *row["value"])]
TINY = TinyConfig(hidden_size=32, num_heads=2, intermediate_size=64, vocab_size=512, max_positions=128)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(TEXTS, joint_names=False)


@pytest.fixture
def loaded(tmp_path):
    return load_model(ModelConfig(str(build_tiny(tmp_path / "tiny", TEXTS, TINY)), device="cpu"))


def arguments(folder, **settings):
    defaults = {
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 1,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(output_dir=str(folder), **{**defaults, **settings})


def trainer(loaded, folder, examples=RAW, held_out=None, **settings):
    return ProcessRewardTrainer(
        model=loaded.model,
        args=arguments(folder, **settings),
        train_dataset=examples,
        eval_dataset=held_out,
        processing_class=loaded.tokenizer,
    )


# --- batches ---


def test_classes_stand_at_the_markers_of_judged_steps(tokenizer):
    batch = RewardDataCollator(tokenizer)(RAW)
    _ = IGNORED
    # add 2 and 3 \n | 2 + 3 = 5 \n | so 5 \n      and      add 1 \n | 1 + 1 = 3 \n, padded
    assert batch["labels"].tolist() == [
        [_, _, _, _, _, _, _, _, _, _, 0, _, _, 1],
        [_, _, _, _, _, _, _, _, 1, _, _, _, _, _],
    ]
    assert batch["attention_mask"].sum(1).tolist() == [14, 9]
    marker = tokenizer.encode("\n")[0]
    assert batch["input_ids"][batch["labels"] != IGNORED].tolist() == [marker] * 3


@pytest.mark.parametrize(("neutral", "classes"), [("ignore", [0, 1]), ("right", [0, 0, 1]), ("wrong", [0, 1, 1])])
def test_neutral_steps_count_as_asked_and_those_nobody_judged_never(tokenizer, neutral, classes):
    attempt = StepLabels("p", ("a", "b", "c", "d"), (RIGHT, 0, None, WRONG))
    labels = RewardDataCollator(tokenizer, neutral=neutral)([attempt])["labels"]
    assert labels[labels != IGNORED].tolist() == classes
    with pytest.raises(UnknownNameError, match="did you mean 'right'"):
        RewardDataCollator(tokenizer, neutral="rigth")


def test_an_example_without_a_judged_step_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"no judged step, .* input 'p', labels \(None,\)"):
        RewardDataCollator(tokenizer)([StepLabels("p", ("a",))])
    with pytest.raises(ValueError, match="no judged step"):
        RewardDataCollator(tokenizer)([{"input": "p", "value": [], "label": []}])
    with pytest.raises(DataFormatError, match="field 'label' is missing"):
        RewardDataCollator(tokenizer)([{"input": "p", "value": ["a"]}])


def test_a_batch_whose_markers_were_all_cut_is_refused(tokenizer):
    collator = RewardDataCollator(tokenizer, TokenLabelSettings(max_tokens=9))
    with pytest.raises(ValueError, match="all 2 judged steps of an example lie behind its first 9 tokens"):
        collator([RAW[0]])
    assert collator([RAW[1]])["labels"][0].tolist() == [IGNORED] * 8 + [1]


# --- the trainer ---


def test_cut_steps_are_counted_and_reported(loaded, tmp_path, caplog):
    collator = RewardDataCollator(loaded.tokenizer, TokenLabelSettings(max_tokens=11))
    long = {**RAW[0], "input": "add 2 and 3 and 2 and 3 and 2"}
    with caplog.at_level(logging.WARNING, logger="agentgym_prm"):
        made = ProcessRewardTrainer(loaded.model, arguments(tmp_path), [*RAW, long], data_collator=collator)
    # The first example loses its second step, the last both, so it is left out.
    assert made.encoded == EncodingReport(examples=2, steps=2, cut_steps=3, cut_examples=1)
    assert "3 judged steps lie behind the first 11 tokens and are not used; 1 examples are left out" in caplog.text


def test_data_that_teach_nothing_are_refused(loaded, tmp_path):
    with pytest.raises(ValueError, match=r"train_dataset\[1\]: an example has no judged step"):
        trainer(loaded, tmp_path, [RAW[0], {"input": "p", "value": ["a"], "label": [None]}])
    collator = RewardDataCollator(loaded.tokenizer, TokenLabelSettings(max_tokens=5))
    with pytest.raises(ValueError, match="train_dataset has 2 examples and none with a judged step within 5 tokens"):
        ProcessRewardTrainer(loaded.model, arguments(tmp_path), RAW, data_collator=collator)
    with pytest.raises(ValueError, match="train_dataset has 0 examples"):
        trainer(loaded, tmp_path, [])
    with pytest.raises(ValueError, match="processing_class is missing: the tokenizer"):
        ProcessRewardTrainer(loaded.model, arguments(tmp_path), RAW)


def test_the_loss_is_the_cross_entropy_of_two_tokens_at_the_markers(loaded, tmp_path):
    made = trainer(loaded, tmp_path)
    loss = made.compute_loss(loaded.model, made.data_collator(RAW)).item()
    scores = TokenLabelScorer(loaded.model, loaded.tokenizer).step_scores(
        [StepLabels.from_json(example) for example in RAW]
    )
    # Labels + - and -: the mean of -log p, -log (1 - p), -log (1 - p).
    expected = -(math.log(scores[0][0]) + math.log(1 - scores[0][1]) + math.log(1 - scores[1][0])) / 3
    assert loss == pytest.approx(expected, rel=1e-5)


def test_nothing_but_the_logits_of_the_two_tokens_counts(loaded, tmp_path):
    """The gradient of the loss with respect to the output embeddings is zero for every other token."""
    made = trainer(loaded, tmp_path)
    head = torch.nn.Linear(32, len(loaded.tokenizer), bias=False)
    with torch.no_grad():
        head.weight.copy_(loaded.model.lm_head.weight)
    loaded.model.lm_head = head
    made.compute_loss(loaded.model, made.data_collator(RAW)).backward()
    touched = set(head.weight.grad.abs().sum(1).nonzero()[:, 0].tolist())
    assert touched == set(made.data_collator.encoder.label_ids)


def test_models_that_give_all_logits_have_the_same_loss(loaded, tmp_path):
    made = trainer(loaded, tmp_path)
    batch = made.data_collator(RAW)
    expected = made.compute_loss(loaded.model, dict(batch)).item()
    made._takes_kept = False
    assert made.compute_loss(loaded.model, dict(batch)).item() == pytest.approx(expected, rel=1e-6)


def test_every_judged_step_weighs_the_same_however_batches_are_cut(tmp_path):
    """Two batches of one example, accumulated, move the weights as one batch of two with 2 and 1 steps does."""

    def weights(batch_size, accumulation):
        folder = build_tiny(tmp_path / f"tiny{batch_size}", TEXTS, TINY)
        loaded = load_model(ModelConfig(str(folder), device="cpu"))
        settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation}
        optimizer = torch.optim.SGD(loaded.model.parameters(), lr=0.5)
        made = ProcessRewardTrainer(
            loaded.model,
            arguments(tmp_path, max_steps=1, max_grad_norm=0.0, **settings),
            RAW,
            processing_class=loaded.tokenizer,
            optimizers=(optimizer, None),
        )
        made.train()
        return torch.cat([weight.detach().flatten() for weight in loaded.model.parameters()])

    start = load_model(ModelConfig(str(build_tiny(tmp_path / "tiny0", TEXTS, TINY)), device="cpu")).model
    start = torch.cat([weight.detach().flatten() for weight in start.parameters()])
    whole, parts = weights(2, 1), weights(1, 2)
    assert (whole - start).abs().max() > 0.01
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)


PAIR = [
    {"input": "add 2 and 3", "value": ["2 + 3 = 5"], "label": ["+"]},
    {"input": "add 2 and 3", "value": ["2 + 3 = 3"], "label": ["-"]},
]


@pytest.mark.parametrize("inverted", [False, True])
def test_a_model_trained_on_two_steps_ranks_the_plus_step_higher(loaded, tmp_path, inverted):
    """And on inverted labels the other one: in the release of sdiehl/prm both ended the wrong way round."""
    flipped = {"+": "-", "-": "+"}
    examples = [{**row, "label": [flipped[row["label"][0]]]} for row in PAIR] if inverted else PAIR
    trainer(loaded, tmp_path, examples, max_steps=30, learning_rate=1e-2).train()
    scores = TokenLabelScorer(loaded.model, loaded.tokenizer).step_scores([StepLabels.from_json(row) for row in PAIR])
    right, wrong = (1, 0) if inverted else (0, 1)
    assert scores[right][0] > 0.9
    assert scores[wrong][0] < 0.1


def test_a_folder_that_the_trainer_saved_is_a_scorer(loaded, tmp_path):
    collator = RewardDataCollator(loaded.tokenizer, TokenLabelSettings(marker=" =", max_tokens=60))
    made = ProcessRewardTrainer(loaded.model, arguments(tmp_path, max_steps=1), RAW, data_collator=collator)
    made.train()
    made.save_model(str(tmp_path / "model"))
    scorer = TokenLabelScorer.load(tmp_path / "model", device="cpu")
    assert scorer.settings == TokenLabelSettings(marker=" =", max_tokens=60)
    attempts = [StepLabels.from_json(row) for row in RAW]
    here = TokenLabelScorer(loaded.model, loaded.tokenizer, collator.settings).step_scores(attempts)
    for found, expected in zip(scorer.step_scores(attempts), here, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_adapters_are_trained_and_loaded_alike(tmp_path):
    folder = build_tiny(tmp_path / "tiny", TEXTS, TINY)
    loaded = load_model(ModelConfig(str(folder), device="cpu", lora_rank=2))
    attempts = [StepLabels.from_json(row) for row in RAW]
    scorer = TokenLabelScorer(loaded.model, loaded.tokenizer)
    before = np.concatenate(scorer.step_scores(attempts))
    made = trainer(loaded, tmp_path, max_steps=5, learning_rate=1e-2)
    made.train()
    made.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    after = np.concatenate(TokenLabelScorer.load(tmp_path / "adapter", device="cpu").step_scores(attempts))
    np.testing.assert_allclose(after, np.concatenate(scorer.step_scores(attempts)), atol=1e-6)
    assert np.abs(after - before).max() > 0.01


def test_a_tokenizer_without_end_and_padding_will_do(loaded, tmp_path):
    expected = TokenLabelScorer(loaded.model, loaded.tokenizer).step_scores([StepLabels.from_json(row) for row in RAW])
    loaded.tokenizer.pad_token = loaded.tokenizer.eos_token = None
    found = TokenLabelScorer(loaded.model, loaded.tokenizer).step_scores([StepLabels.from_json(row) for row in RAW])
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    trainer(loaded, tmp_path, max_steps=1).train()


def test_held_out_steps_are_evaluated_by_loss_accuracy_and_auc(loaded, tmp_path):
    held_out = [*RAW, {"input": "add 3", "value": ["3 + 3 = 5", "so 3"], "label": ["-", None]}]
    metrics = trainer(loaded, tmp_path, held_out=held_out).evaluate()
    attempts = [StepLabels.from_json(row) for row in held_out]
    found = evaluate_steps(TokenLabelScorer(loaded.model, loaded.tokenizer), attempts).steps
    assert metrics["eval_accuracy"] == pytest.approx(found.accuracy)
    assert metrics["eval_auc"] == pytest.approx(found.auc)


def test_metrics_are_those_of_the_judged_places():
    class Prediction:
        # A right step scored as right, behind it padding; a wrong one scored as right, behind it one not judged.
        predictions = np.array([[[2.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [-5.0, 5.0]]])
        label_ids = np.array([[0, IGNORED], [1, IGNORED]])

    assert step_metrics(Prediction) == {"accuracy": 0.5, "auc": 1.0}


def test_the_trainer_is_a_hugging_face_trainer():
    assert issubclass(ProcessRewardTrainer, Trainer)


# --- learning ---


def counting(rng):
    """Eight sums of 0 … 4 and 1 or -1, four in ten of them wrong; each goes on with what the last one says."""
    value, sums, labels = rng.randrange(5), [], []
    start = value
    for _ in range(8):
        sign = rng.choice([sign for sign in (1, -1) if 0 <= value + sign <= 4])
        right = value + sign
        found = right if rng.random() < 0.6 else rng.choice([each for each in range(5) if each != right])
        sums.append(f"then {value} {'+' if sign > 0 else '-'} 1 = {found}")
        labels.append(RIGHT if found == right else WRONG)
        value = found
    return StepLabels(f"start with {start}", tuple(sums), tuple(labels))


def test_a_model_from_scratch_learns_which_sums_are_right(tmp_path):
    """The smaller version of benchmarks/step_labels.py; by chance the area is one half."""
    rng = random.Random(0)
    examples = [counting(rng) for _ in range(700)]
    known = {each.steps for each in examples[:400]}
    held_out = [each for each in examples[400:] if each.steps not in known]
    texts = [text for each in examples[:50] for text in (each.input, *each.steps)]
    loaded = load_model(ModelConfig(str(build_tiny(tmp_path / "tiny", texts, TINY)), device="cpu"))
    made = ProcessRewardTrainer(
        loaded.model,
        arguments(tmp_path, num_train_epochs=10, per_device_train_batch_size=16, learning_rate=1e-2),
        examples[:400],
        held_out,
        loaded.tokenizer,
        optimizers=(make_optimizer(loaded.model.named_parameters(), "muon", 1e-2), None),
    )
    assert made.evaluate()["eval_auc"] < 0.6
    made.train()
    found = evaluate_steps(TokenLabelScorer(loaded.model, loaded.tokenizer), held_out)
    assert found.steps.auc > 0.9
