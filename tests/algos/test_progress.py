import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.algos import progress as algorithm
from agentgym_prm.algos.progress import ProgressConfig, add_gradient, progress_examples, train_progress
from agentgym_prm.errors import StoreError, UnknownNameError
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards import progress as progress_module
from agentgym_prm.rewards.progress import ProgressEstimator
from agentgym_prm.transcript import Chat
from agentgym_prm.types import Action, Step, Trajectory
from tests.chat_models import chat_tokenizer

STATE = Prompt(
    "now",
    '{% set style = "state" %}{% set reply_format = "bare" %}{% set commands = "verbatim" %}'
    "{% block user %}{{ observation }}{% endblock %}",
)
CONVERSATION = Prompt.load("bare")
PROMPTS = {"conversation": CONVERSATION, "state": STATE}
CHAT = Chat(chat_tokenizer())


def episode(outcome, *turns, number=0):
    actions = [Action(command, reply=command, token_ids=CHAT.reply_ids(command)) for _, command in turns]
    rewards = [*[0.0] * (len(turns) - 1), outcome]
    steps = tuple(
        Step(observation, (), action, outcome_reward=reward)
        for (observation, _), action, reward in zip(turns, actions, rewards, strict=True)
    )
    return Trajectory("t", 0, steps, "", task_id=f"task {number}", episode=number)


WON = episode(1.0, ("dark", "look"), ("key", "take key"))
LOST = episode(0.0, ("dark", "look"), number=1)
LONG = episode(0.5, ("a lamp", "go"), ("dark room", "look"), ("key", "look"), ("door", "open a door"), number=2)
MANY = [replace(each, episode=number) for number in range(5) for each in (WON, LOST, LONG)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights large enough that contributions differ, and small enough to be learned from."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(chat_tokenizer()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=3,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    return folder


def start(folder, prompt="conversation", **options):
    config = ModelConfig(str(folder), device="cpu", dtype="float32")
    estimator = ProgressEstimator.start(config, PROMPTS[prompt], **options)
    # A head of zero would make every comparison of contributions true.
    generator = torch.Generator().manual_seed(options.get("seed", 0))
    head = estimator.model.score.weight
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=generator) / (head.shape[1] + 1) ** 0.5)
    return estimator


def weights(estimator):
    return {name: value.detach().clone() for name, value in estimator.model.named_parameters()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


# --- the loss ---


class Ruler(torch.nn.Module):
    """Its last hidden state is (place, 1), so that a head of (0.1, 1) makes 1 + place / 10."""

    base_model_prefix = "body"
    config = SimpleNamespace()
    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.score = torch.nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.score.weight.copy_(torch.tensor([[0.1, 1.0]]))

    @staticmethod
    def body(input_ids, attention_mask, position_ids, use_cache):
        places = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        return SimpleNamespace(last_hidden_state=torch.stack([places, torch.ones_like(places)], -1).float())


@pytest.mark.parametrize("batch_tokens", [1, 30, 16384])
def test_the_loss_sees_the_sum_of_the_contributions_and_nothing_else(batch_tokens):
    """Replies end at places 10 and 24 (tests/rewards/test_progress.py writes the tokens out).

    WON: (1 + 1.0) + (1 + 2.4) = 5.4 for an outcome of 1, an error of 4.4. LOST: 1 + 1.0 = 2 for 0. So the squared
    errors add up to 19.36 + 4. Gradient of the mean: (2 * 4.4 * (10 + 24, 2) + 2 * 2 * (10, 1)) / 2 = (169.6, 10.8).
    """
    estimator = ProgressEstimator(Ruler(), chat_tokenizer(), CONVERSATION)
    assert estimator.contributions([WON, LOST])[0].tolist() == pytest.approx([2.0, 3.4])
    examples = progress_examples(estimator, [WON, LOST])
    total = add_gradient(estimator, examples, ProgressConfig(batch_tokens=batch_tokens))
    assert total == pytest.approx(23.36, rel=1e-6)
    assert estimator.model.score.weight.grad[0].tolist() == pytest.approx([169.6, 10.8], rel=1e-6)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("batch_tokens", [1, 30, 16384])
def test_the_gradient_is_that_of_a_slow_computation_however_the_batch_is_cut(folder, tmp_path, prompt, batch_tokens):
    """The slow one: Hugging Face's own class on each turn by itself, cut off where the reply ends."""
    estimator = start(folder, prompt)
    estimator.save(tmp_path)
    slow = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    loss = 0.0
    for trajectory in (LONG, WON):
        ends = [(row.token_ids, place) for row in estimator.readings(trajectory) for place in row.places]
        total = sum(slow(input_ids=torch.tensor([ids[: place + 1]])).logits.sum() for ids, place in ends)
        loss = loss + (total - trajectory.outcome) ** 2
    (loss / 2).backward()
    found = add_gradient(
        estimator, progress_examples(estimator, [LONG, WON]), ProgressConfig(batch_tokens=batch_tokens)
    )
    assert found == pytest.approx(loss.item(), rel=1e-4)
    expected = {name: weight.grad for name, weight in slow.named_parameters()}
    size = max(gradient.abs().max().item() for gradient in expected.values())
    for name, weight in estimator.model.named_parameters():
        assert torch.allclose(weight.grad, expected[name], atol=1e-4 * size), name


@pytest.mark.parametrize(("batch_tokens", "passes"), [(16384, [3]), (13, [1] * 5)])
def test_a_batch_is_one_forward_pass_where_it_fits(folder, monkeypatch, batch_tokens, passes):
    """Three rows of 11, 11 and 13 tokens; cut, LOST takes one pass and the two rows of WON are read twice."""
    estimator = start(folder, "state")
    rows = []
    original = progress_module.pad_right
    monkeypatch.setattr(progress_module, "pad_right", lambda ids, pad: rows.append(len(ids)) or original(ids, pad))
    examples = progress_examples(estimator, [WON, LOST])
    add_gradient(estimator, examples, ProgressConfig(batch_tokens=batch_tokens))
    assert rows == passes


# --- training ---


def decided(count, seed, turns=4):
    """Episodes in which the command at the key decides, wherever that is; elsewhere the same commands do nothing."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        place, won = rng.randrange(turns), rng.random() < 0.5
        said = [
            (rng.choice(("dark", "light", "lamp", "door")), rng.choice(("take", "look", "help"))) for _ in range(turns)
        ]
        said[place] = ("key", "take" if won else rng.choice(("look", "help")))
        made.append((episode(float(won), *said, number=number), place))
    return made


def with_outcomes(trajectories, outcomes):
    return [
        replace(each, steps=(*each.steps[:-1], replace(each.steps[-1], outcome_reward=outcome)))
        for each, outcome in zip(trajectories, outcomes, strict=True)
    ]


LEARN = ProgressConfig(learning_rate=1e-2, epochs=8, batch_size=16, optimizer="muon")


@pytest.mark.parametrize("shuffled", [False, True])
def test_credit_lands_on_the_turn_that_decides_and_with_shuffled_outcomes_it_does_not(folder, shuffled):
    """Margin stated beforehand: in 9 of 10 new won episodes the deciding turn has the highest contribution, of four.

    With shuffled outcomes in no more than half of them; chance is a quarter.
    """
    trajectories = [trajectory for trajectory, _ in decided(300, seed=1)]
    if shuffled:
        outcomes = [each.outcome for each in trajectories]
        random.Random(2).shuffle(outcomes)
        trajectories = with_outcomes(trajectories, outcomes)
    estimator = start(folder)
    train_progress(estimator, trajectories, LEARN)
    won = [(trajectory, place) for trajectory, place in decided(200, seed=3) if trajectory.outcome]
    contributions = estimator.contributions([trajectory for trajectory, _ in won])
    share = np.mean([each.argmax() == place for each, (_, place) in zip(contributions, won, strict=True)])
    assert share <= 0.5 if shuffled else share >= 0.9, share


def test_batches_are_random_and_an_epoch_sees_every_trajectory_once(folder, monkeypatch):
    """Not sorted by length: 20 short lost and 20 long won ones would make ten batches of one outcome each."""
    lost, won = (with_outcomes([each] * 20, [outcome] * 20) for each, outcome in ((LOST, 0.0), (LONG, 1.0)))
    seen = []

    def record(estimator, batch, config):
        seen.append([example.outcome for example in batch])
        return 0.0

    monkeypatch.setattr(algorithm, "add_gradient", record)
    train_progress(start(folder), [*lost, *won], ProgressConfig(epochs=2, batch_size=4))
    assert [len(batch) for batch in seen] == [4] * 20
    assert sum(map(sum, seen[:10])) == sum(map(sum, seen[10:])) == 20
    assert seen[:10] != seen[10:]
    # By chance about one batch in eight is of one outcome: two or three of twenty.
    assert sum(len(set(batch)) == 1 for batch in seen) <= 6


@pytest.mark.parametrize("killed_after", [1, 2, 5, 7])
def test_a_killed_and_resumed_run_ends_with_the_same_parameters_bit_by_bit(folder, tmp_path, killed_after):
    class Killed(BaseException):
        pass

    def kill(step):
        if step == killed_after:
            raise Killed

    config = ProgressConfig(
        learning_rate=1e-3, epochs=2, batch_size=4, optimizer="muon", checkpoint_every=2, log_every=1
    )
    whole = start(folder)
    report = train_progress(whole, MANY, config, run_dir=tmp_path / "whole")
    with pytest.raises(Killed):
        train_progress(start(folder), MANY, config, run_dir=tmp_path / "killed", after_step=kill)
    resumed = start(folder)
    again = train_progress(resumed, MANY, config, run_dir=tmp_path / "killed", resume=True)
    assert same(weights(whole), weights(resumed))
    assert not same(weights(whole), weights(start(folder)))
    assert (again.steps, again.examples) == (8, 15)
    assert again.loss == report.loss

    def losses(name):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [
            (line["step"], line["progress/loss"], line["progress/grad_norm"], line["progress/trajectories"])
            for line in lines
        ]

    assert losses("killed") == losses("whole")
    # 15 trajectories, batches of 4, 2 epochs.
    assert [(step, seen) for step, _, _, seen in losses("whole")] == [
        (1, 4), (2, 8), (3, 12), (4, 15), (5, 19), (6, 23), (7, 27), (8, 30),
    ]  # fmt: skip


def test_the_reported_loss_is_the_mean_squared_error(folder):
    """With a rate of next to nothing, the loss of the only step is that of the untrained estimator."""
    estimator = start(folder)
    errors = [
        (each.sum() - trajectory.outcome) ** 2
        for each, trajectory in zip(estimator.contributions(MANY), MANY, strict=True)
    ]
    report = train_progress(estimator, MANY, ProgressConfig(learning_rate=1e-12, batch_size=15))
    assert report.loss == pytest.approx(np.mean(errors), rel=1e-4)


def test_a_run_directory_is_neither_overwritten_nor_continued_with_other_outcomes(folder, tmp_path):
    config = ProgressConfig()
    train_progress(start(folder), MANY, config, run_dir=tmp_path)
    with pytest.raises(FileExistsError, match="resume"):
        train_progress(start(folder), MANY, config, run_dir=tmp_path)
    with pytest.raises(StoreError, match="was started with"):
        train_progress(start(folder), MANY, ProgressConfig(batch_tokens=1), run_dir=tmp_path, resume=True)
    others = with_outcomes(MANY, [1.0] * len(MANY))
    with pytest.raises(StoreError, match="was started with"):
        train_progress(start(folder), others, config, run_dir=tmp_path, resume=True)


def test_wrong_settings_and_trajectories_are_refused(folder):
    for wrong, message in (
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate and max_grad_norm must be above 0"),
        ({"warmup": 1.5}, r"warmup must be in \[0, 1\], got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            ProgressConfig(**wrong)
    with pytest.raises(UnknownNameError, match="did you mean 'muon'"):
        ProgressConfig(optimizer="muom")
    assert ProgressConfig().learning_rate == 3e-6
    with pytest.raises(ValueError, match="no trajectories"):
        train_progress(start(folder), [], ProgressConfig())
    with pytest.raises(ValueError, match="has no turns"):
        train_progress(start(folder), [Trajectory("t", 0, (), "")], ProgressConfig())
    with pytest.raises(ValueError, match="outcomes must be finite, episode 0 has nan"):
        train_progress(start(folder), with_outcomes([WON], [float("nan")]), ProgressConfig())
    with pytest.raises(ValueError, match="takes 25 tokens, more than max_length 20"):
        train_progress(start(folder, max_length=20), [WON], ProgressConfig())
