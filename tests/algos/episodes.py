"""Episodes of small chat models in a scripted game, for tests of what is trained on them."""

from dataclasses import replace

import torch

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.rollout import collect
from agentgym_prm.testing import ScriptedEnv
from tests.chat_models import CHATML, FORGETFUL, chat_model, chat_tokenizer

TASKS = (("open door", "open lamp", "take key"), ("take lamp", "take key"))
STATE = Prompt(
    "state",
    '{% set style = "state" %}{% set reply_format = "bare" %}{% set commands = "household" %}'
    "{% block user %}observation : {{ observation }} {{ steps | length }}{% endblock %}",
)
SETUPS = {
    "conversation": {"prompt": "bare", "mode": "generate"},
    "rewritten": {"prompt": "reason_action", "mode": "generate", "template": FORGETFUL},
    "state": {"prompt": STATE, "mode": "generate"},
    "choose": {"prompt": STATE, "mode": "choose"},
    "choose in a conversation": {"prompt": "bare", "mode": "choose"},
}


def fresh_model(seed=0, *, double=False):
    model = chat_model.__wrapped__(seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.3)  # so that it likes no command much more than others
    return model.double() if double else model


def agent_of(setup, *, model=None, temperature=1.0, **settings):
    chosen = dict(SETUPS[setup])
    tokenizer = chat_tokenizer(chosen.pop("template", CHATML))
    return LocalAgent(
        model if model is not None else fresh_model(),
        tokenizer,
        temperature=temperature,
        **{"max_new_tokens": 4, **chosen, **settings},
    )


def play(agent, seeds=(0, 1, 0, 1, 0), max_episode_steps=4, first=0):
    envs = TextVectorEnv(lambda: ScriptedEnv(TASKS), 3, max_episode_steps=max_episode_steps)
    return collect(agent, envs, list(seeds), numbers=range(first, first + len(seeds)))


def with_rewards(trajectory, outcome, process=()):
    """The same episode with these rewards: the outcome at its end, a process reward for each turn."""
    process = list(process) or [0.0] * len(trajectory.steps)
    steps = [
        replace(step, outcome_reward=outcome if step is trajectory.steps[-1] else 0.0, process_reward=paid)
        for step, paid in zip(trajectory.steps, process, strict=True)
    ]
    return replace(trajectory, steps=tuple(steps))
