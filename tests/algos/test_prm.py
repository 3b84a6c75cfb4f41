import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.scripted import RandomAgent
from agentgym_prm.algos.prm import (
    PRMConfig,
    calibrate,
    inverse_reward_examples,
    make_batch,
    q_examples,
    reward_loss,
    train_prm,
    v_examples,
)
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.envs.toy import TOY_TASK_IDS, TOY_TASKS, ToyEngine, ToyEnv, optimal_q, toy_engine
from agentgym_prm.errors import StoreError, UnknownNameError
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny
from agentgym_prm.rewards import prm as prm_module
from agentgym_prm.rewards.inverse import InverseExample, inverse_examples
from agentgym_prm.rewards.prm import PRMSettings, ProcessRewardModel
from agentgym_prm.rewards.targets import ActionValues, VTarget
from agentgym_prm.rollout import collect
from agentgym_prm.testing import ScriptedAgent
from agentgym_prm.types import Action, History, Step
from tests.chat_models import WORDS, chat_model, chat_tokenizer

HEADS = ("scalar", "likelihood")
COMMANDS = ("go to door", "look", "take key", "go", "help")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "llama"
    chat_model().save_pretrained(path)
    chat_tokenizer().save_pretrained(path)
    return path


def start(folder, head="scalar", *, prompt=None, **settings):
    prompt = prompt or Prompt.load("bare")
    settings = PRMSettings(**{"head": head, "link": "identity", **settings})
    return ProcessRewardModel.start(ModelConfig(str(folder), device="cpu", dtype="float32"), prompt, settings)


def group(observation, values, task="look"):
    actions = tuple(Action(command) for command in COMMANDS[: len(values)])
    return ActionValues(History(task, observation, COMMANDS), actions, tuple(values), (1,) * len(values))


def many_groups(count=22):
    draws = np.random.default_rng(0)
    words = [word for word in WORDS if word.isalpha()]
    return [
        group(" ".join(draws.choice(words, 1 + number % 5)), [float(x) for x in draws.random(2 + number % 3)])
        for number in range(count)
    ]


# --- the batch and its loss ---


def test_a_batch_by_hand(folder):
    """Scores are numbered through all groups: 0 to 2 belong to the first, 3 and 4 to the second."""
    examples = q_examples(start(folder), [group("dark room", (0.2, 0.5, 0.52)), group("key", (0.9, 0.1))])
    batch = make_batch(examples, start(folder), PRMConfig(margin=0.03))
    assert batch["targets"].tolist() == pytest.approx([0.2, 0.5, 0.52, 0.9, 0.1])
    assert batch["weights"].tolist() == [1] * 5
    assert batch["group"].tolist() == [0, 0, 0, 1, 1]
    pairs = set(zip(batch["chosen"].tolist(), batch["rejected"].tolist(), strict=True))
    assert pairs == {(1, 0), (2, 0), (3, 4)}  # 0.52 and 0.5 are too close
    finer = make_batch(examples, start(folder), PRMConfig(margin=0.01))
    assert (2, 1) in set(zip(finer["chosen"].tolist(), finer["rejected"].tolist(), strict=True))
    assert len(finer["chosen"]) == 4


def inverse_steps():
    """A step with another after it, one that ends its episode, and again one with another."""
    one, two, three = (History("look", text) for text in ("dark", "room key", "lamp"))
    look, go = Action("look"), Action("go to door")
    return [
        InverseExample(one, look, two, go, label=1),
        InverseExample(two, look, None, None, label=0),
        InverseExample(three, go, one, go, label=0),
    ]


def test_a_batch_of_the_inverse_loss_by_hand(folder):
    prm = start(folder)
    batch = make_batch(inverse_reward_examples(prm, inverse_steps()), prm, PRMConfig(loss="inverse"))
    # The network is asked for five scores: the step's, the next one's; the last of an episode alone; two again.
    assert batch["present"].tolist() == [0, 2, 3]
    assert batch["following"].tolist() == [1, -1, 4]
    assert batch["targets"].tolist() == [1, 0, 0]
    assert len(batch["places"]) == 5


def test_the_inverse_loss_by_hand(folder):
    prm = start(folder)
    config = PRMConfig(loss="inverse", gamma=0.9)
    batch = make_batch(inverse_reward_examples(prm, inverse_steps()), prm, config)
    scores = torch.tensor([1.0, -2.0, 0.5, 3.0, 2.0])
    rewards = [1 + 0.9 * 2, 0.5, 3 - 0.9 * 2]
    expected = (math.log1p(math.exp(-rewards[0])) + sum(math.log1p(math.exp(each)) for each in rewards[1:])) / 3
    assert reward_loss(scores, batch, config).item() == pytest.approx(expected, abs=1e-6)


SCORES = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0])


def by_hand(loss, margin=0.03, temperature=0.02):
    """One score at a time, in double precision."""
    scores, values = SCORES.tolist(), [0.2, 0.5, 0.52, 0.9, 0.1]
    groups = [(0, 1, 2), (3, 4)]
    if loss == "squared_error":
        return sum((s - v) ** 2 for s, v in zip(scores, values, strict=True)) / 5
    if loss == "soft_bce":
        return sum(math.log1p(math.exp(s)) - v * s for s, v in zip(scores, values, strict=True)) / 5
    if loss == "bradley_terry":
        pairs = [(a, b) for members in groups for a in members for b in members if values[a] > values[b] + margin]
        return sum(math.log1p(math.exp(scores[b] - scores[a])) for a, b in pairs) / len(pairs)
    total = 0.0
    for members in groups:
        targets = [math.exp(values[a] / temperature) for a in members]
        mass = math.log(sum(math.exp(scores[a]) for a in members))
        total += sum(t / sum(targets) * (mass - scores[a]) for t, a in zip(targets, members, strict=True))
    return total / 2


@pytest.mark.parametrize("loss", ["soft_bce", "squared_error", "bradley_terry", "listwise"])
def test_each_loss_by_hand(folder, loss):
    examples = q_examples(start(folder), [group("dark room", (0.2, 0.5, 0.52)), group("key", (0.9, 0.1))])
    config = PRMConfig(loss=loss)
    batch = make_batch(examples, start(folder), config)
    assert reward_loss(SCORES, batch, config).item() == pytest.approx(by_hand(loss), rel=1e-5)  # float32


@pytest.mark.parametrize("contrast", ["bradley_terry", "listwise"])
@pytest.mark.parametrize("loss", ["soft_bce", "squared_error"])
def test_level_and_ranking_are_added(folder, loss, contrast):
    examples = q_examples(start(folder), [group("dark room", (0.2, 0.5, 0.52)), group("key", (0.9, 0.1))])
    config = PRMConfig(loss=loss, contrast=0.5, contrast_loss=contrast)
    batch = make_batch(examples, start(folder), config)
    expected = by_hand(loss) + 0.5 * by_hand(contrast)
    assert reward_loss(SCORES, batch, config).item() == pytest.approx(expected, rel=1e-5)  # float32


def gradient(prm, examples, config):
    batch = make_batch(examples, prm, config)
    inputs = ("input_ids", "attention_mask", "position_ids", "rows", "places", "tokens", "owners")
    prm.model.zero_grad()
    loss = reward_loss(prm.net(**{name: batch[name] for name in inputs}), batch, config)
    loss.backward()
    return loss.item(), torch.cat([weight.grad.flatten() for weight in prm.model.parameters()])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("loss", ["soft_bce", "listwise", "inverse"])
def test_the_packed_gradient_is_the_plain_one(folder, monkeypatch, head, loss):
    prm, config = start(folder, head), PRMConfig(loss=loss)
    inverse = loss == "inverse"
    examples = inverse_reward_examples(prm, inverse_steps()) if inverse else q_examples(prm, many_groups(5))
    packed_loss, packed = gradient(prm, examples, config)
    monkeypatch.setattr(prm_module, "takes_any_mask", lambda model: False)
    plain_loss, plain = gradient(prm, examples, config)
    assert packed_loss == pytest.approx(plain_loss, rel=1e-4)  # float32
    assert packed.norm() > 0
    assert (packed - plain).norm() < 1e-4 * plain.norm()


def test_mixed_precision_bears_prompts_of_different_lengths(folder):
    prm = start(folder)
    examples = q_examples(prm, many_groups(6))
    plain, _ = gradient(prm, examples, PRMConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, slope = gradient(prm, examples, PRMConfig())
    assert torch.isfinite(slope).all()
    assert mixed == pytest.approx(plain, rel=0.05)  # bfloat16 has 8 bits


# --- the toy environment, whose values are known ---

TASK, GAMMA = 0, 0.8
# The state, told from the commands: a tiny model can remember the values of 116 states.
TOY_PROMPT = Prompt(
    "toy",
    """{% set style = "state" %}{% set reply_format = "bare" %}{% set commands = "verbatim" %}{% block user -%}
{% set now = namespace(room="hall", apple="kitchen", book="hall") -%}
{% for step in steps %}{% set words = step.action.command.split(" ") -%}
{% if words[0] == "go" %}{% set now.room = words[2] %}{% endif -%}
{% if words[0] in ("take", "drop", "throw") -%}
{% set place = {"take": "hand", "drop": now.room, "throw": "pond"}[words[0]] -%}
{% if words[1] == "apple" %}{% set now.apple = place %}{% else %}{% set now.book = place %}{% endif -%}
{% endif %}{% endfor -%}
{{ now.room }} {{ now.apple }} {{ now.book }}
{%- endblock %}""",
)


def toy_histories():
    """A shortest history for each state in which the task is not solved yet; the chest, empty here, stays shut."""
    engine = ToyEngine()
    first = History(TOY_TASKS[TASK].text, engine.reset(TASK), engine.admissible_commands(), task_id=TOY_TASK_IDS[TASK])
    found, queue = {engine.state: first}, [(engine, first)]
    for engine, history in queue:
        for command in history.admissible_commands:
            after = engine.clone()
            observation = after.step(command)
            if not (after.won or after.state.open or after.state in found):
                step = Step(history.observation, history.admissible_commands, Action(command))
                info = {"admissible_commands": after.admissible_commands()}
                found[after.state] = history.after(step, observation, info)
                queue.append((after, found[after.state]))
    return found


TOY = toy_histories()
TABLE = optimal_q(TASK, GAMMA)
TOY_GROUPS = [
    ActionValues(
        history,
        tuple(Action(command) for command in history.admissible_commands),
        tuple(TABLE.q(state, command) for command in history.admissible_commands),
        (1,) * len(history.admissible_commands),
    )
    for state, history in TOY.items()
]


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    commands = [command for history in TOY.values() for command in history.admissible_commands]
    texts = [*(TOY_PROMPT.messages(history)[-1].content for history in TOY.values()), *commands]
    shape = TinyConfig(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, vocab_size=512)
    return build_tiny(tmp_path_factory.mktemp("toy") / "tiny", texts, shape)


def trained(toy_folder, tmp_path, loss, make, *, epochs, head="scalar", rate=0.02, judges="action", **settings):
    link = "identity" if loss == "squared_error" else "sigmoid"
    prm = start(toy_folder, head, prompt=TOY_PROMPT, link=link, judges=judges)
    config = PRMConfig(
        loss=loss, learning_rate=rate, epochs=epochs, batch_size=29, optimizer="muon", temperature=0.1, **settings
    )
    report = train_prm(prm, make(prm), config, run_dir=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[0]["prm/loss"] > report.loss == lines[-1]["prm/loss"]
    return prm


class Lister(Agent):
    """Proposes the admissible commands one after the other."""

    name = "lister"

    def sample(self, histories, n=1):
        return [[Action(h.admissible_commands[i % len(h.admissible_commands)]) for i in range(n)] for h in histories]


def scores_of(prm):
    pairs = [(each.history, action) for each in TOY_GROUPS for action in each.actions]
    scores = prm.score(*zip(*pairs, strict=True))
    cuts = np.cumsum([len(each.actions) for each in TOY_GROUPS])[:-1]
    return np.split(scores, cuts)


def ranked_right(prm, margin=0.03):
    """Share of the pairs of actions after one history, more than ``margin`` apart, that are in the right order."""
    verdicts = [
        scores[better] > scores[worse]
        for scores, each in zip(scores_of(prm), TOY_GROUPS, strict=True)
        for better, high in enumerate(each.values)
        for worse, low in enumerate(each.values)
        if high > low + margin
    ]
    assert len(verdicts) == 350
    return sum(verdicts) / len(verdicts)


def best_chosen(prm):
    """Share of the states where it matters in which Best-of-N takes an action that no other is better than."""
    groups = [each for each in TOY_GROUPS if max(each.values) > min(each.values)]
    player = BestOfN(Lister(), prm, n=max(len(each.actions) for each in groups))
    taken = player.act([each.history for each in groups])
    verdicts = [
        TABLE.q(toy_engine(each.history).state, action.command) == max(each.values)
        for each, action in zip(groups, taken, strict=True)
    ]
    return sum(verdicts) / len(verdicts)


def of_toy(prm):
    return q_examples(prm, TOY_GROUPS)


def root_mean_square(prm):
    errors = np.concatenate(scores_of(prm)) - np.concatenate([each.values for each in TOY_GROUPS])
    return float(np.sqrt((errors**2).mean()))


SPREAD = float(np.std(np.concatenate([each.values for each in TOY_GROUPS])))


def test_the_toy_values_are_far_enough_apart():
    assert len(TOY) == 116
    assert SPREAD > 0.2


@pytest.mark.parametrize("loss", ["soft_bce", "squared_error"])
def test_scores_become_the_exact_values(toy_folder, tmp_path, loss):
    """Both losses are least at Q itself; after 60 or 80 passes errors are below 0.15 of Q's spread."""
    epochs, rate = (60, 0.02) if loss == "soft_bce" else (80, 0.01)
    prm = trained(toy_folder, tmp_path, loss, of_toy, epochs=epochs, rate=rate)
    assert root_mean_square(prm) < 0.15 * SPREAD
    assert ranked_right(prm) > 0.9
    assert best_chosen(prm) > 0.9


@pytest.mark.parametrize(("loss", "head", "epochs"), [
    ("bradley_terry", "scalar", 40), ("listwise", "scalar", 40), ("listwise", "likelihood", 25),
])  # fmt: skip
def test_ranking_losses_put_the_better_action_first(toy_folder, tmp_path, loss, head, epochs):
    untrained = start(toy_folder, head, prompt=TOY_PROMPT)
    assert ranked_right(untrained) < 0.7
    prm = trained(toy_folder, tmp_path, loss, of_toy, epochs=epochs, head=head)
    assert ranked_right(prm) > 0.95
    assert best_chosen(prm) > 0.95


def test_shuffled_values_teach_nothing(toy_folder, tmp_path):
    def shuffled(prm):
        draws = np.random.default_rng(0)
        values = draws.permutation(np.concatenate([each.values for each in TOY_GROUPS])).tolist()
        remaining = iter(values)
        return q_examples(prm, [replace(g, values=tuple(next(remaining) for _ in g.actions)) for g in TOY_GROUPS])

    prm = trained(toy_folder, tmp_path, "listwise", shuffled, epochs=20)
    assert ranked_right(prm) == pytest.approx(0.5, abs=0.1)
    assert best_chosen(prm) < 0.6


def test_a_value_model_learns_the_values_of_histories(toy_folder, tmp_path):
    def values(prm):
        return v_examples(prm, [VTarget(history, TABLE.v(state), 1) for state, history in TOY.items()])

    prm = trained(toy_folder, tmp_path, "soft_bce", values, epochs=40, judges="history")
    exact = np.array([TABLE.v(state) for state in TOY])
    errors = prm.values(list(TOY.values())) - exact
    assert np.sqrt((errors**2).mean()) < 0.15 * exact.std()


def test_the_inverse_loss_likes_what_the_expert_does(toy_folder, tmp_path):
    def expert(history):
        state = toy_engine(history).state
        return max(history.admissible_commands, key=lambda command: TABLE.q(state, command))

    def play(agent, episodes):
        envs = TextVectorEnv(ToyEnv, 8, max_episode_steps=10)
        return collect(agent, envs, [TASK] * episodes)

    policy = RandomAgent(seed=1)
    demonstrations, rollouts = play(ScriptedAgent(expert), 24), play(policy, 24)
    steps = inverse_examples(demonstrations, rollouts, policy)
    prm = trained(
        toy_folder, tmp_path, "inverse", lambda prm: inverse_reward_examples(prm, steps), epochs=12, gamma=0.9
    )

    def preferred(model):
        """Share of the other commands that score below the expert's, along a demonstration."""
        verdicts = []
        for history in demonstrations[0].histories():
            others = [Action(command) for command in history.admissible_commands if command != expert(history)]
            first, *rest = model.score([history] * (1 + len(others)), [Action(expert(history)), *others])
            verdicts += [first > each for each in rest]
        return float(np.mean(verdicts))

    assert preferred(prm) > 0.8
    assert preferred(start(toy_folder, prompt=TOY_PROMPT)) < 0.7


# --- runs ---

RUN = PRMConfig(learning_rate=3e-3, epochs=3, batch_size=5, checkpoint_every=4, log_every=3, weight_decay=0.1)


class Killed(BaseException):
    pass


class Kill(TrainerCallback):
    def __init__(self, after):
        self.after = after

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.after:
            raise Killed


def weights(prm):
    return {name: value.detach().clone() for name, value in prm.model.named_parameters()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def run(model_folder, run_dir, head="scalar", config=RUN, *, groups=None, **kwargs):
    prm = start(model_folder, head)
    examples = q_examples(prm, many_groups() if groups is None else groups)
    return prm, train_prm(prm, examples, config, run_dir=run_dir, **kwargs)


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    made = {}

    def of(head, optimizer):
        if (head, optimizer) not in made:
            path = tmp_path_factory.mktemp("whole")
            made[head, optimizer] = (*run(folder, path, head, replace(RUN, optimizer=optimizer)), path)
        return made[head, optimizer]

    return of


@pytest.mark.parametrize(
    ("head", "optimizer", "killed"),
    [("scalar", "adamw", 2), ("scalar", "muon", 5), ("likelihood", "adamw", 11), ("likelihood", "muon", 13)],
)
def test_a_killed_and_resumed_run_is_an_uninterrupted_one(folder, tmp_path, uninterrupted, head, optimizer, killed):
    """Killed before the first checkpoint, in the first epoch, in the last, and a step after a checkpoint."""
    whole, report, path = uninterrupted(head, optimizer)
    config = replace(RUN, optimizer=optimizer)
    with pytest.raises(Killed):
        run(folder, tmp_path / "run", head, config, callbacks=[Kill(killed)])
    prm, again = run(folder, tmp_path / "run", head, config, resume=True)
    assert same(weights(prm), weights(whole))
    assert not same(weights(prm), weights(start(folder, head)))
    assert again == report
    assert (tmp_path / "run/metrics.jsonl").read_text() == (path / "metrics.jsonl").read_text()
    assert report.steps == 15  # 22 histories, 5 a step, 3 epochs


def test_half_written_checkpoints_and_lines_are_passed_over(folder, tmp_path, uninterrupted):
    whole, report, path = uninterrupted("scalar", "adamw")
    with pytest.raises(Killed):
        run(folder, tmp_path, callbacks=[Kill(10)])
    checkpoints = tmp_path / "checkpoints"
    assert sorted(each.name for each in checkpoints.iterdir()) == ["checkpoint-4", "checkpoint-8"]
    # As if killed while writing: the newest without its mark and with files cut off, the one before with half a mark.
    shutil.copytree(checkpoints / "checkpoint-8", checkpoints / "checkpoint-12")
    (checkpoints / "checkpoint-12/whole").unlink()
    for file in (checkpoints / "checkpoint-12").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    mark = checkpoints / "checkpoint-8/whole"
    mark.write_text(mark.read_text()[:20])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "epo')
    prm, again = run(folder, tmp_path, resume=True)
    assert same(weights(prm), weights(whole))
    assert again == report
    assert (tmp_path / "metrics.jsonl").read_text() == (path / "metrics.jsonl").read_text()


def test_a_finished_run_is_resumed_as_finished(folder, tmp_path):
    whole, report = run(folder, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    prm, again = run(folder, tmp_path, resume=True)
    assert same(weights(prm), weights(whole))
    assert again == report
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_a_run_shorter_than_a_log_interval_says_its_loss(folder, tmp_path):
    prm, report = run(folder, tmp_path, config=PRMConfig(batch_size=4, epochs=1, learning_rate=1e-9, warmup=0))
    examples = q_examples(prm, many_groups())
    (line,) = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    losses = [gradient(prm, [example], PRMConfig())[0] * len(example.targets) for example in examples]
    assert line["step"] == report.steps == 6
    assert line["prm/loss"] == report.loss
    # Nothing moves at this learning rate, so that the losses are those of the finished model; batches are unequal.
    assert report.loss == pytest.approx(sum(losses) / sum(len(each.targets) for each in examples), rel=0.1)


def test_each_epoch_sees_every_history_once_in_another_order(folder, tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, train_dataloader, **_):
            original = train_dataloader.collate_fn
            train_dataloader.base_dataloader.collate_fn = lambda batch: seen.append(list(batch)) or original(batch)

    groups = many_groups()
    prm, _ = run(folder, tmp_path, groups=groups, config=replace(RUN, epochs=2), callbacks=[Watch()])
    examples = q_examples(prm, groups)
    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 2] * 2
    first, second = ([examples.index(each) for batch in part for each in batch] for part in (seen[:5], seen[5:]))
    assert sorted(first) == sorted(second) == list(range(len(examples)))
    assert first != second


def test_a_run_is_neither_overwritten_nor_continued_as_another(folder, tmp_path):
    config = replace(RUN, epochs=1)
    run(folder, tmp_path, config=config)
    with pytest.raises(FileExistsError, match="resume"):
        run(folder, tmp_path, config=config)
    with pytest.raises(StoreError, match="was started with"):
        run(folder, tmp_path, config=replace(config, seed=1), resume=True)
    with pytest.raises(StoreError, match="was started with"):
        run(folder, tmp_path, config=config, groups=many_groups(21), resume=True)
    # As many tokens, other values; and another head.
    other = [replace(each, values=tuple(1 - value for value in each.values)) for each in many_groups()]
    with pytest.raises(StoreError, match="was started with"):
        run(folder, tmp_path, config=config, groups=other, resume=True)
    with pytest.raises(StoreError, match="was started with"):
        run(folder, tmp_path, "likelihood", config=config, resume=True)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(FileExistsError, match="resume"):
        run(folder, tmp_path, config=config)


def test_lora_trains_adapters_and_the_head_and_is_saved(folder, tmp_path):
    options = ModelConfig(str(folder), device="cpu", dtype="float32", lora_rank=2)
    prm = ProcessRewardModel.start(options, Prompt.load("bare"))
    before = weights(prm)
    groups = many_groups()
    report = train_prm(prm, q_examples(prm, groups), replace(RUN, epochs=10), run_dir=tmp_path / "run")
    after = weights(prm)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "lora_" in name or "score.modules_to_save" in name}
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert report.loss < json.loads(lines[0])["prm/loss"]
    prm.save(tmp_path / "saved")
    loaded = ProcessRewardModel.load(tmp_path / "saved", device="cpu", dtype="float32")
    pairs = [(each.history, action) for each in groups for action in each.actions]
    assert loaded.score(*zip(*pairs, strict=True)).tolist() == prm.score(*zip(*pairs, strict=True)).tolist()


def test_wrong_examples_are_refused(folder, tmp_path):
    prm, steps = start(folder), inverse_steps()
    for values in ((0.5, 1.1), (-0.1, 0.5), (0.5, float("nan"))):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
            train_prm(prm, q_examples(prm, [group("key", values)]), PRMConfig(), run_dir=tmp_path)
    with pytest.raises(ValueError, match="no examples"):
        train_prm(prm, [], PRMConfig(), run_dir=tmp_path)
    with pytest.raises(ValueError, match="does not fit"):
        train_prm(prm, q_examples(prm, many_groups(3)), PRMConfig(loss="inverse"), run_dir=tmp_path)
    with pytest.raises(ValueError, match="does not fit"):
        train_prm(prm, inverse_reward_examples(prm, steps), PRMConfig(), run_dir=tmp_path)
    value_model = start(folder, judges="history")
    with pytest.raises(ValueError, match="judges"):
        v_examples(prm, [VTarget(steps[0].history, 0.5, 1)])
    with pytest.raises(ValueError, match="judges"):
        q_examples(value_model, many_groups(3))
    assert not any(tmp_path.iterdir())


def test_wrong_settings_are_refused():
    for name, value, message in (
        ("loss", "soft_bc", "did you mean 'soft_bce'"),
        ("optimizer", "moun", "did you mean 'muon'"),
        ("precision", "bfloat", "did you mean 'bfloat16'"),
        ("contrast_loss", "listwize", "did you mean 'listwise'"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            PRMConfig(**{name: value})
    for name, value in (
        ("epochs", 0), ("batch_size", 0), ("contrast", -1.0), ("margin", -0.1), ("gamma", 1.1),
        ("temperature", 0.0), ("learning_rate", 0.0), ("max_grad_norm", 0.0), ("warmup", 1.5),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            PRMConfig(**{name: value})
    with pytest.raises(ValueError, match="contrast is added to"):
        PRMConfig(loss="listwise", contrast=1.0)


# --- calibration ---


def calibrated(folder, values_of, monkeypatch, count=60):
    """A model whose outputs are known numbers, calibrated to values made of them."""
    prm = start(folder, link="sigmoid")
    draws = np.random.default_rng(0)
    groups = [group(f"room {number}", (0.5, 0.5, 0.5)) for number in range(count)]
    outputs = {id(each.history): draws.normal(3.0, 2.0, 3) for each in groups}

    def forward(asked):
        del asked
        raw = [outputs[id(each.history)].tolist() for each in groups]
        if prm.settings.link == "identity":
            return raw
        return [[1 / (1 + math.exp(-prm.settings.scale * x - prm.settings.offset)) for x in row] for row in raw]

    monkeypatch.setattr(prm, "_scores", forward)
    groups = [replace(each, values=tuple(float(v) for v in values_of(outputs[id(each.history)]))) for each in groups]
    before = prm.settings
    pairs = [(each.history, action) for each in groups for action in each.actions]

    def scores():
        return prm.score(*zip(*pairs, strict=True))

    return prm, groups, scores, before


def test_calibration_recovers_a_logistic_relation(folder, monkeypatch):
    prm, groups, scores, _ = calibrated(folder, lambda x: 1 / (1 + np.exp(2.5 - 0.7 * x)), monkeypatch)
    before = scores()
    calibrate(prm, groups)
    assert prm.settings.scale == pytest.approx(0.7, abs=1e-4)
    assert prm.settings.offset == pytest.approx(-2.5, abs=1e-3)
    assert (np.argsort(scores()) == np.argsort(before)).all()
    assert scores().tolist() == pytest.approx([value for each in groups for value in each.values], abs=1e-4)
    # A second time changes nothing: it starts from the network's output.
    settings = prm.settings
    calibrate(prm, groups)
    assert prm.settings == settings


def test_calibrated_scores_have_the_mean_of_the_values(folder, monkeypatch):
    """Wins and failures that the score tells apart only roughly: at the optimum the mean error is 0."""
    draws = np.random.default_rng(1)
    values = lambda x: draws.random(len(x)) < 1 / (1 + np.exp(2 - x))  # noqa: E731
    prm, groups, scores, _ = calibrated(folder, values, monkeypatch)
    wins = np.array([value for each in groups for value in each.values])
    assert abs(scores().mean() - wins.mean()) > 0.05
    calibrate(prm, groups)
    assert scores().mean() == pytest.approx(wins.mean(), abs=1e-5)  # as far as L-BFGS goes


@pytest.mark.parametrize("kind", ["reversed", "constant", "single", "identity", "none"])
def test_calibration_of_scores_that_say_nothing_is_refused_and_changes_nothing(folder, monkeypatch, kind):
    slope = -1 if kind == "reversed" else 1
    prm, groups, _, before = calibrated(folder, lambda x: 1 / (1 + np.exp(slope * (2 - x))), monkeypatch)
    if kind == "constant":
        groups = [replace(each, values=(0.25,) * 3) for each in groups]
        monkeypatch.setattr(prm, "_scores", lambda asked: [[1.0] * 3] * len(asked))
    if kind == "single":
        groups = [replace(groups[0], actions=groups[0].actions[:1], values=(0.25,), visits=(1,))]
        monkeypatch.setattr(prm, "_scores", lambda asked: [[1.0]])
    if kind == "identity":
        before = replace(before, link="identity")
        prm.use(before)
    message = "calibration needs" if kind in ("identity", "none") else "nothing to calibrate"
    with pytest.raises(ValueError, match=message):
        calibrate(prm, [] if kind == "none" else groups)
    assert prm.settings == before


def test_calibration_on_the_network_itself(folder):
    prm = start(folder, link="sigmoid")
    groups = many_groups(6)
    pairs = list(zip(*((each.history, action) for each in groups for action in each.actions), strict=True))
    before = prm.score(*pairs)
    ranks = np.argsort(np.argsort(before)) / len(before)
    remaining = iter(ranks.tolist())
    groups = [replace(each, values=tuple(next(remaining) for _ in each.actions)) for each in groups]
    calibrate(prm, groups)
    assert (np.argsort(prm.score(*pairs)) == np.argsort(before)).all()
    assert prm.score(*pairs).mean() == pytest.approx(ranks.mean(), abs=1e-5)  # as far as L-BFGS goes
