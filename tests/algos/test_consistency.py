from dataclasses import replace

import pytest

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.algos.consistency import sampler_trainer_gap
from agentgym_prm.algos.sft import make_examples
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.rollout import collect
from agentgym_prm.testing import ScriptedEnv
from agentgym_prm.transcript import Chat
from tests.chat_models import FORGETFUL, chat_model, chat_tokenizer

TASK = ["look", "open door", "take key"]


def play(prompt, mode, temperature, template=None):
    tokenizer = chat_tokenizer(template) if template else chat_tokenizer()
    agent = LocalAgent(chat_model(), tokenizer, prompt, mode=mode, temperature=temperature, max_new_tokens=5)
    envs = TextVectorEnv(lambda: ScriptedEnv([TASK]), 3, max_episode_steps=4)
    return agent, collect(agent, envs, [0] * 5)


@pytest.mark.parametrize(
    ("prompt", "mode", "temperature", "template"),
    [
        ("bare", "generate", 1.0, None),
        ("bare", "generate", 0.5, None),
        ("bare", "generate", 0.0, None),
        ("bare", "choose", 0.3, None),
        ("reason_action", "generate", 1.0, FORGETFUL),
    ],
)
def test_sampler_and_trainer_agree_on_ids_and_up_to_rounding_on_logprobs(prompt, mode, temperature, template):
    agent, played = play(prompt, mode, temperature, template)
    gap = sampler_trainer_gap(agent.model, agent.encoder, played, batch_size=2)
    assert gap.identical_ids
    assert 0 <= gap.mean_gap <= gap.max_gap < 1e-4  # float32
    assert gap.trajectories == 5
    assert gap.action_tokens == sum(len(step.action.token_ids) for episode in played for step in episode.steps)


def test_what_is_sent_to_the_sampler_is_what_is_trained_on():
    agent, played = play("bare", "generate", 1.0)
    for episode in played:
        (example,) = make_examples([episode], agent.encoder)
        for turn, step in enumerate(episode.steps):
            sent = agent.encoder.history(episode.history(turn)).token_ids + step.action.token_ids
            assert example.token_ids[: len(sent)] == sent
            count = len(step.action.token_ids)
            assert example.loss_mask[len(sent) - count : len(sent)] == (True,) * count
        assert sum(example.loss_mask) == sum(len(step.action.token_ids) for step in episode.steps)


def test_another_model_or_temperature_shows_as_a_gap():
    agent, played = play("bare", "generate", 0.5)
    assert sampler_trainer_gap(chat_model(seed=1), agent.encoder, played).max_gap > 0.1
    wrong = [
        replace(
            episode,
            steps=tuple(
                replace(step, action=replace(step.action, usage={**step.action.usage, "temperature": 1.0}))
                for step in episode.steps
            ),
        )
        for episode in played
    ]
    assert sampler_trainer_gap(agent.model, agent.encoder, wrong).max_gap > 0.1


def test_a_trainer_that_encodes_replies_again_is_caught():
    class Retokenising(Encoder):
        def trajectory(self, trajectory):
            steps = [
                replace(s, action=replace(s.action, token_ids=self.chat.reply_ids(s.action.reply), logprobs=()))
                for s in trajectory.steps
            ]
            return super().trajectory(replace(trajectory, steps=tuple(steps)))

    agent, played = play("bare", "generate", 1.0)
    encoder = Retokenising(Prompt.load("bare"), Chat(chat_tokenizer()))
    assert not sampler_trainer_gap(agent.model, encoder, played).identical_ids


def test_nothing_to_compare_is_said():
    agent, _ = play("bare", "generate", 1.0)
    with pytest.raises(ValueError, match="nothing to compare"):
        sampler_trainer_gap(agent.model, agent.encoder, [])
