"""Claim: the batched local agent takes many times as many turns a second as ``generate`` in a loop, same model.

    python benchmarks/local_agent.py [--model FOLDER] [--turns 64]

Histories of small builtin games, each of another game, after two commands of the expert; prompt "memory", at most
12 new tokens, temperature 1, one thread. ``generate`` is transformers' own, one history at a time, prompt encoded
already. Without --model, a tiny model with random weights, whose replies seldom end early: all write 12 tokens then.

Second claim: of a rollout's time about a tenth or less is spent outside the model's forward pass, tiny as it is. 64
slots of small train games, one episode each, cap 20; environment, prompts, encoding, masks and draws are all "outside".
So is Python's full garbage collection, 0.2 s with torch loaded, which falls into some of the rounds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import torch

from agentgym_prm import History
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.algos.demonstrations import demonstrate
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.models import ModelConfig, load_model, resolve_model
from agentgym_prm.rollout import stream


def histories(count: int) -> list[History]:
    played = demonstrate(ALFWORLD, range(count), noise=0.0, split="valid_seen", difficulty="small")
    return [trajectory.histories()[2] for trajectory in played]


def rate(call: Callable[[], object], turns: int) -> float:
    """Turns a second, the best of three rounds (others' load only slows it down)."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return turns / best


def time_outside(agent: LocalAgent, slots: int = 64, cap: int = 20) -> str:
    """Where the time of a rollout goes: the share outside ``model.forward`` in each of three rounds."""
    forward, inside, shares = agent.model.forward, 0.0, []

    def timed(*args: object, **kwargs: object) -> object:
        nonlocal inside
        started = time.perf_counter()
        output = forward(*args, **kwargs)
        inside += time.perf_counter() - started
        return output

    agent.model.forward = timed
    try:
        for games in range(3):
            inside, started = 0.0, time.perf_counter()
            envs = gym.make_vec(ALFWORLD, slots, split="train", difficulty="small", max_episode_steps=cap)
            seeds = range(games * slots, (games + 1) * slots)
            turns = sum(len(trajectory.steps) for trajectory in stream(agent, envs, seeds))
            wall = time.perf_counter() - started
            shares.append(
                f"{1 - inside / wall:.1%} ({(wall - inside) / turns * 1e3:.2f} of {wall / turns * 1e3:.2f} ms)"
            )
    finally:
        agent.model.forward = forward
    return ", ".join(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--turns", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shown = histories(options.turns)
    with tempfile.TemporaryDirectory() as folder:
        texts = [f"{h.task}\n{h.observation}\n" + "\n".join(h.admissible_commands) for h in shown]
        path = resolve_model(options.model, texts=texts, folder=Path(folder) / "tiny")
        model, tokenizer = load_model(ModelConfig(path, device="cpu", dtype="float32"))
    writer = LocalAgent(model, tokenizer, "memory", max_new_tokens=12)
    prompts = [torch.tensor([writer.encoder.history(history).token_ids]) for history in shown]

    def loop() -> None:
        with torch.inference_mode():
            for ids in prompts:
                model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0,
                    max_new_tokens=12, pad_token_id=tokenizer.pad_token_id,
                )  # fmt: skip

    rows: list[tuple[str, Callable[[], object], int]] = [
        ("generate in a loop", loop, 1),
        ("LocalAgent, one history at a time", lambda: [writer.act(history) for history in shown], 1),
        ("LocalAgent, one batch", lambda: writer.act(shown), 1),
        ("LocalAgent, one batch, 8 samples", lambda: writer.sample(shown, n=8), 8),
    ]
    for scoring in ("packed", "cached"):
        chooser = LocalAgent(model, tokenizer, "memory", mode="choose", scoring=scoring)
        rows.append((f"LocalAgent, choose, {scoring}", lambda agent=chooser: agent.act(shown), 1))
    tokens = sum(ids.shape[1] for ids in prompts) / len(prompts)
    print(f"{model.num_parameters():,} parameters, {tokens:.0f} tokens a prompt")
    base = 0.0
    for name, call, samples in rows:
        speed = rate(call, len(shown) * samples)
        base = base or speed
        print(f"{name:<36}{speed:>9.1f} replies/s{speed / base:>8.1f} times", flush=True)
    print("share of a rollout's time outside the model, and milliseconds a turn; three rounds, each of other games:")
    for mode in ("choose", "generate"):
        agent = LocalAgent(model, tokenizer, "memory", mode=mode, max_new_tokens=12)
        print(f"{mode:<10}{time_outside(agent)}", flush=True)


if __name__ == "__main__":
    main()
