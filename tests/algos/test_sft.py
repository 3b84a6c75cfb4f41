import json
import math
from itertools import pairwise

import pytest
import torch

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.algos.demonstrations import demonstrate
from agentgym_prm.algos.sft import Example, SFTConfig, action_loss, make_examples, sft, shuffled_batches
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.errors import StoreError
from agentgym_prm.rollout import collect
from agentgym_prm.testing import ScriptedEnv
from agentgym_prm.transcript import Chat
from agentgym_prm.types import INJECTED, Action, Step, Trajectory
from tests.chat_models import FORGETFUL, chat_model, chat_tokenizer

EXAMPLES = [
    Example((1, 7, 8 + i % 9, 4, 20 + i % 5, 2), (False, False, False, False, True, True)) for i in range(12)
] + [Example((1, 7, 9, 2), (False, False, True, True))] * 3  # fmt: skip
CONFIG = SFTConfig(learning_rate=3e-3, epochs=3, batch_size=4, checkpoint_every=2, log_every=1)


def fresh_model():
    return chat_model.__wrapped__(seed=1)


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def encoder(template=None, prompt="bare"):
    return Encoder(Prompt.load(prompt), Chat(chat_tokenizer(template) if template else chat_tokenizer()))


def tokens(example):
    return chat_tokenizer().convert_ids_to_tokens(
        [token for token, wanted in zip(example.token_ids, example.loss_mask, strict=True) if wanted]
    )


def test_injected_commands_stay_in_the_history_but_out_of_the_loss():
    steps = (
        Step("dark", (), Action("look")),
        Step("light", (), Action("open door", scores={INJECTED: 1.0})),
        Step("key", (), Action("take key")),
    )
    (example,) = make_examples([Trajectory("t", 0, steps, "")], encoder())
    assert tokens(example) == ["look", "<|im_end|>", "take", " ", "key", "<|im_end|>"]
    shown = chat_tokenizer().decode(list(example.token_ids))
    assert "open door<|im_end|>" in shown


def test_a_state_prompt_makes_no_example_of_an_injected_turn():
    steps = (Step("dark", (), Action("look", scores={INJECTED: 1.0})), Step("key", (), Action("take key")))
    (example,) = make_examples([Trajectory("t", 0, steps, "")], encoder(prompt="memory"))
    assert tokens(example) == ["take", " ", "key", "<|im_end|>"]


def test_each_reply_is_imitated_once_although_history_is_rewritten():
    thought = "<think> dark </think> look"
    steps = (Step("dark", (), Action("look", reply=thought)), Step("key", (), Action("take")))
    first, second = make_examples([Trajectory("t", 0, steps, "")], encoder(FORGETFUL))
    assert tokens(first) == ["<think>", " ", "dark", " ", "</think>", " ", "look", "<|im_end|>"]
    assert tokens(second) == ["take", "<|im_end|>"]


def test_the_loss_is_that_of_a_slow_loop_whatever_the_padding():
    model = fresh_model()
    loss, count = action_loss(model, [EXAMPLES[0], EXAMPLES[-1]])
    expected = 0.0
    for example in (EXAMPLES[0], EXAMPLES[-1]):
        logprobs = torch.log_softmax(model(input_ids=torch.tensor([example.token_ids])).logits[0], -1)
        for place, wanted in enumerate(example.loss_mask):
            if wanted:
                expected -= logprobs[place - 1, example.token_ids[place]].item()
    assert count == 4
    assert loss.item() == pytest.approx(expected, abs=1e-4)  # float32


def test_every_example_is_seen_once_an_epoch_in_another_order():
    lengths = [5 + index % 40 for index in range(1003)]
    first, second = (shuffled_batches(lengths, 8, 0, epoch) for epoch in (0, 1))
    assert sorted(index for batch in first for index in batch) == list(range(1003))
    assert first != second
    assert first == shuffled_batches(lengths, 8, 0, 0)
    padding = sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in first)
    assert padding < 0.1 * sum(lengths)
    # Not sorted: neighbouring batches are of unlike length.
    means = [sum(lengths[i] for i in batch) / len(batch) for batch in first]
    assert sum(abs(a - b) for a, b in pairwise(means)) / len(means) > 5


@pytest.mark.parametrize("killed_after", [1, 2, 5, 11])
def test_a_killed_and_resumed_run_ends_with_the_same_parameters_bit_by_bit(tmp_path, killed_after):
    class Killed(BaseException):
        pass

    def kill(step):
        if step == killed_after:
            raise Killed

    whole = fresh_model()
    report = sft(whole, EXAMPLES, CONFIG, run_dir=tmp_path / "whole")
    with pytest.raises(Killed):
        sft(fresh_model(), EXAMPLES, CONFIG, run_dir=tmp_path / "killed", after_step=kill)
    resumed = fresh_model()
    again = sft(resumed, EXAMPLES, CONFIG, run_dir=tmp_path / "killed", resume=True)
    assert same(weights(whole), weights(resumed))
    assert not same(weights(whole), weights(fresh_model()))
    assert (again.steps, again.action_tokens, again.loss) == (report.steps, report.action_tokens, report.loss)

    def losses(folder):
        lines = [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        return [(line["step"], line["sft/loss"], line["sft/grad_norm"]) for line in lines]

    assert losses("killed") == losses("whole")
    assert [step for step, _, _ in losses("whole")] == list(range(1, 13))  # 15 examples, batches of 4, 3 epochs


def test_a_run_directory_is_neither_overwritten_nor_continued_with_other_settings(tmp_path):
    sft(fresh_model(), EXAMPLES, SFTConfig(), run_dir=tmp_path)
    with pytest.raises(FileExistsError, match="resume"):
        sft(fresh_model(), EXAMPLES, SFTConfig(), run_dir=tmp_path)
    with pytest.raises(StoreError, match="was started with"):
        sft(fresh_model(), EXAMPLES, SFTConfig(seed=1), run_dir=tmp_path, resume=True)


def test_it_learns_to_solve_a_task_that_the_untrained_model_does_not():
    """By free generation; an untrained model writes nothing that is understood."""
    task = ["look", "open door", "take key"]

    def success(model):
        player = LocalAgent(model, chat_tokenizer(), "bare", temperature=0, max_new_tokens=6)
        envs = TextVectorEnv(lambda: ScriptedEnv([task]), 2, max_episode_steps=5)
        return sum(trajectory.outcome for trajectory in collect(player, envs, [0, 0])) / 2

    steps = tuple(
        Step(f"task 0, step {index}", tuple(sorted(task)), Action(command)) for index, command in enumerate(task)
    )
    model = fresh_model()
    assert success(model) == 0
    examples = make_examples([Trajectory("t", 0, steps, "")] * 4, encoder())
    report = sft(model, examples, SFTConfig(learning_rate=3e-3, epochs=40, batch_size=4))
    assert report.loss < 0.1 < math.log(50)
    assert success(model) == 1


def test_demonstrations_win_mark_their_noise_and_depend_on_the_seed_only():
    kwargs = {"split": "train", "difficulty": "small", "noise": 0.25}
    played = sorted(demonstrate(ALFWORLD, range(40), num_envs=8, **kwargs), key=lambda each: each.episode)
    again = sorted(demonstrate(ALFWORLD, range(40), num_envs=3, **kwargs), key=lambda each: each.episode)
    assert played == again
    assert sum(trajectory.outcome for trajectory in played) >= 38
    actions = [step.action for trajectory in played for step in trajectory.steps]
    share = sum(bool(action.scores.get(INJECTED)) for action in actions) / len(actions)
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / len(actions)))
    assert all(action.scores in ({}, {INJECTED: 1.0}) for action in actions)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        SFTConfig(epochs=0)
    with pytest.raises(ValueError, match="bfloat16"):
        SFTConfig(precision="half")
    with pytest.raises(ValueError, match="no examples"):
        sft(fresh_model(), [], SFTConfig())
