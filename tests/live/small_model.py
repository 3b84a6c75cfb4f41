"""A small model that engines can serve: Llama-shaped, with attention heads of 32, briefly trained on games.

Trained, because the likeliest token of a random model is hardly likelier than the next, so that rounding decides.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from agentgym_prm.agents import Agent, RandomAgent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.algos.demonstrations import demonstrate
from agentgym_prm.algos.sft import SFTConfig, make_examples, sft
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.evaluate import make_envs
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny, load_model, load_stop_ids
from agentgym_prm.rollout import collect
from agentgym_prm.transcript import Chat
from agentgym_prm.types import History, Trajectory

PROMPT = "bare"
GAMES = {"split": "train", "difficulty": "small", "max_episode_steps": 8}
SHAPE = TinyConfig(hidden_size=128, num_heads=4, num_layers=2, vocab_size=1024, max_positions=2048)


def make_model(folder: Path, *, epochs: int = 4, games: int = 96) -> Path:
    """Write the model; takes half a minute."""
    episodes = list(demonstrate(ALFWORLD, range(games), noise=0.0, **GAMES))
    prompt = Prompt.load(PROMPT)
    texts = [
        text
        for episode in episodes
        for step in episode.steps
        for text in (episode.task, step.observation, step.action.command, *step.admissible_commands)
    ]
    build_tiny(folder, texts, SHAPE)
    model, tokenizer = load_model(ModelConfig(model=str(folder)))
    examples = make_examples(episodes, Encoder(prompt, Chat(tokenizer)))
    config = SFTConfig(learning_rate=2e-3, epochs=epochs, batch_size=8, checkpoint_every=10_000)
    sft(model, examples, config, pad_id=int(tokenizer.pad_token_id))
    # On a CPU vLLM 0.32 samples from the old output layer after a reload if the embeddings are tied to it.
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path) -> Path:
    """Write a LoRA adapter with random weights, large enough to change what is said."""
    model, tokenizer = load_model(ModelConfig(model=str(base), lora_rank=4, lora_alpha=8.0))
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) / 8
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def players(folder: Path, **options: Any) -> tuple[LocalAgent, Any, list[int]]:
    """The local agent over a folder, and what a served one needs: the tokenizer and the ids that end a reply."""
    loaded = load_model(ModelConfig(model=str(folder), dtype="float32"))
    agent = LocalAgent(*loaded, PROMPT, max_new_tokens=16, **options)
    return agent, loaded.tokenizer, load_stop_ids(folder, loaded.tokenizer)


def play(agent: Agent, games: int = 4) -> list[Trajectory]:
    """Episodes in unseen games, in order."""
    envs = make_envs(ALFWORLD, games, **{**GAMES, "split": "valid_unseen"})
    try:
        return sorted(collect(agent, envs, range(games)), key=lambda episode: episode.episode)
    finally:
        envs.close()


def opening_histories(games: int = 3) -> list[History]:
    """What an agent knows at the first turn."""
    return [episode.history(0) for episode in play(RandomAgent(0), games)]


def local_logprobs(local: LocalAgent, prompt: Sequence[int], reply: Sequence[int]) -> list[float]:
    """Of a reply's tokens, from one forward pass of the model here at the agent's temperature."""
    with torch.no_grad():
        logits = local.model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1]
    logprobs = torch.log_softmax(logits.float() / local.temperature, -1)
    return [float(row[token]) for row, token in zip(logprobs, reply, strict=True)]
