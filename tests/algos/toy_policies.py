"""Tiny policies for the toy game, and what is needed to train them: enough to show that an algorithm learns.

The prompt is the exact state, in a few tokens, so that one layer is enough; the start imitates a noisy oracle for a
moment, because an untrained model likes short commands so much that it never wins.
"""

from pathlib import Path

import numpy as np

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.scripted import NoisyAgent
from agentgym_prm.algos.core import Rollouts
from agentgym_prm.algos.gigpo import GiGPOConfig, GiGPOTrainer
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.ms_po import MSPOConfig, MSPOTrainer
from agentgym_prm.algos.mt_grpo import MTGRPOConfig, MTGRPOTrainer
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.ppo import PPOConfig, PPOTrainer
from agentgym_prm.algos.rloo import RLOOConfig, RLOOTrainer
from agentgym_prm.algos.sft import SFTConfig, make_examples, sft
from agentgym_prm.envs.toy import TOY_TASKS, make_vector_env, toy_engine, toy_task_index
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.rewards.core import AdvantageScorer
from agentgym_prm.rewards.oracle import ToyOracle
from agentgym_prm.rewards.shaping import FunctionPotential, Shaping
from agentgym_prm.rewards.wrappers import VectorStepReward
from agentgym_prm.rollout import collect
from agentgym_prm.transcript import Message
from agentgym_prm.types import Action

CAP = 12
TASKS = range(len(TOY_TASKS))


class ToyPrompt(Prompt):
    """The exact state as five words, each of which says one thing; it determines all but the steps left."""

    def messages(self, history, dropped=None):
        state = toy_engine(history).state
        task = "abcdef"[toy_task_index(history.task_id)]
        target, other = state.places
        chest = "open" if state.open else "closed"
        return (Message("user", f" task{task} in{state.room} target{target} other{other} chest{chest}"),)


PROMPT = ToyPrompt(
    "toy",
    '{% set style = "state" %}{% set reply_format = "bare" %}{% set commands = "household" %}{% block user %}'
    "{% endblock %}",
)


class Greedy(Agent):
    """The best admissible command, by the exact values."""

    def __init__(self):
        self.name, self._oracle = "greedy", ToyOracle()

    def sample(self, histories, n=1):
        return [[self._best(history)] * n for history in histories]

    def _best(self, history):
        actions = [Action(command) for command in history.admissible_commands]
        return actions[int(np.argmax(self._oracle.score([history] * len(actions), actions)))]


def start_policy(folder: Path, seed: int, epochs: int = 11) -> None:
    """A folder with a tiny model that has imitated a few noisy demonstrations."""
    expert = NoisyAgent(Greedy(), 0.25, seed)
    played = collect(expert, make_vector_env(12, CAP), list(TASKS) * 8)
    texts = [PROMPT.messages(history)[0].content for each in played for history in each.histories()]
    commands = [command for each in played for step in each.steps for command in step.admissible_commands]
    shape = TinyConfig(
        hidden_size=48, num_layers=1, num_heads=2, intermediate_size=96, vocab_size=512, seed=seed, mimetic=False
    )
    build_tiny(folder, [*texts, *commands], shape)
    model, tokenizer = load_model(ModelConfig(str(folder), device="cpu"))
    encoder = LocalAgent(model, tokenizer, PROMPT).encoder
    config = SFTConfig(learning_rate=1e-2, optimizer="muon", epochs=epochs, batch_size=32, seed=seed)
    sft(model, make_examples(played, encoder), config)
    model.save_pretrained(folder)


def load(folder: Path, seed: int) -> LocalAgent:
    """The policy in a folder; it chooses among the admissible commands."""
    return LocalAgent(*load_model(ModelConfig(str(folder), device="cpu")), PROMPT, mode="choose", seed=seed)


def success(agent: LocalAgent) -> float:
    """Share of 120 episodes that are won, drawn as in training but from other numbers."""
    seeds = list(TASKS) * 20
    played = collect(agent, make_vector_env(60, CAP), seeds, numbers=range(10**6, 10**6 + len(seeds)))
    return sum(each.outcome for each in played) / len(played)


COMMON = {
    "updates": 12,
    "tasks": 6,
    "group_size": 16,
    "learning_rate": 2e-3,
    "final_learning_rate": 0.1,
    "epochs": 2,
    "optimizer": "muon",
    "minibatches": 2,
    "batch_tokens": 8192,
}
ALGORITHMS = {
    "grpo": (GRPOTrainer, GRPOConfig(**COMMON)),
    "grpo_merged": (GRPOTrainer, GRPOConfig(**COMMON, rewards="merged")),
    "rloo": (RLOOTrainer, RLOOConfig(**COMMON)),
    "mt_grpo": (MTGRPOTrainer, MTGRPOConfig(**COMMON)),
    "ms_po": (MSPOTrainer, MSPOConfig(**COMMON)),
    "gigpo": (GiGPOTrainer, GiGPOConfig(**COMMON)),
    "ppo": (PPOTrainer, PPOConfig(**COMMON)),
}


def holding(history) -> float:
    """Progress: the target in the hand or where it belongs; nothing if it is gone."""
    state = toy_engine(history).state
    return 0.5 if state.places[0] == "hand" else 0.0


def environments(kind=None, config=None):
    """The game; with the rewards that an algorithm for turns, or one on merged rewards, learns from."""
    envs = make_vector_env(48, CAP)
    if kind is MTGRPOTrainer:  # it pays for a turn alone, so that the turn is to be judged by what it leads to
        return VectorStepReward(envs, AdvantageScorer(ToyOracle()))
    return (
        VectorStepReward(envs, Shaping(FunctionPotential(holding)))
        if getattr(config, "rewards", "") == "merged"
        else envs
    )


def trainer_of(kind, config, agent, source=None, **options):
    policy = Policy(agent, value_head=kind is PPOTrainer)
    return kind(policy, config, source or Rollouts(environments(kind, config), list(TASKS)), **options)
