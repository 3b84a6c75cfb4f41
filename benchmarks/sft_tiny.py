"""Claim: a tiny model learns the small builtin games by imitation in minutes on one core, and acts on unseen ones.

    python benchmarks/sft_tiny.py [--games 3000] [--seeds 0 1 2] [--output runs/sft_tiny]

Train games only: demonstrations of the handcoded expert with 25 % random commands executed and not imitated; a
Llama-shaped model from scratch, prompt "brief", Muon, mimetic start; each of the three can be changed. Judged on 200
valid_unseen games (cap 50 commands) by choice among the admissible commands at temperature 0 and 1, and by greedy free
generation; random agent and expert are the baselines. The curve is judged on other games of the same split than the
final figure. Single-threaded; times are wall-clock seconds.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch

from agentgym_prm import HandcodedAgent, RandomAgent, evaluate
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.algos.demonstrations import demonstrate
from agentgym_prm.algos.sft import SFTConfig, make_examples, sft
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.evaluate import EvalReport
from agentgym_prm.models import ModelConfig, TinyConfig, load_model, resolve_model
from agentgym_prm.transcript import Chat

CURVE_GAMES, FINAL_GAMES = range(1000, 1100), range(200)


def judged(agent: object, seeds: range) -> EvalReport:
    return evaluate(agent, ALFWORLD, seeds, split="valid_unseen", difficulty="small")  # type: ignore[arg-type]


def line(name: str, report: EvalReport, seconds: float) -> str:
    all_games = report.overall
    return (
        f"{name:<34}{all_games.success:>8.1%}  [{all_games.success_low:.1%}, {all_games.success_high:.1%}]"
        f"  within 16: {report.success_within(16):.1%}  steps {all_games.mean_steps:.1f}"
        f"  grounding {all_games.grounding:.1%}  {seconds:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.25)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--joint-names", action="store_true", help="a name and its number as one token")
    parser.add_argument("--prompt", default="brief")
    parser.add_argument("--optimizer", default="muon", help="muon or adamw")
    parser.add_argument("--no-mimetic", action="store_true", help="start attention at random")
    parser.add_argument("--curve-points", type=int, default=6)
    parser.add_argument("--output", type=Path, default=Path("runs/sft_tiny"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, agent in (("random", RandomAgent()), ("handcoded expert", HandcodedAgent())):
        started = time.perf_counter()
        print(line(name, judged(agent, FINAL_GAMES), time.perf_counter() - started), flush=True)
    for seed in options.seeds:
        run(options, seed)


def run(options: argparse.Namespace, seed: int) -> None:
    folder = options.output / f"seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    prompt = Prompt.load(options.prompt)
    started = time.perf_counter()
    order = random.Random(seed).sample(range(10_000), options.games)
    trajectories = list(
        demonstrate(ALFWORLD, order, noise=options.noise, noise_seed=seed, split="train", difficulty="small")
    )
    texts = (
        text
        for trajectory in trajectories
        for history, step in zip(trajectory.histories(), trajectory.steps, strict=True)
        for text in (*(m.content for m in prompt.messages(history)), prompt.render_reply(step.action))
    )
    shape = TinyConfig(
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 8 // 3,
        num_layers=options.layers,
        joint_names=options.joint_names,
        mimetic=not options.no_mimetic,
        seed=seed,
    )
    model_path = resolve_model("tiny", texts=texts, folder=folder / "model", config=shape)
    model, tokenizer = load_model(ModelConfig(model_path, device="cpu", dtype="float32"))
    examples = make_examples(trajectories, Encoder(prompt, Chat(tokenizer)))
    lengths = [len(each.token_ids) for each in examples]
    print(
        f"seed {seed}: {len(trajectories)} demonstrations, {len(examples)} examples of"
        f" {sum(lengths) / len(lengths):.0f} tokens (longest {max(lengths)}), {len(tokenizer)} words,"
        f" {model.num_parameters():,} parameters; prepared in {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    config = SFTConfig(
        learning_rate=options.learning_rate,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        seed=seed,
    )
    total = -(-len(examples) // config.batch_size) * config.epochs
    every = max(1, total // options.curve_points)
    chooser = LocalAgent(model, tokenizer, prompt, mode="choose", temperature=0, seed=seed, name="choose")
    began, judging = time.perf_counter(), 0.0

    def watch(step: int) -> None:
        nonlocal judging
        if step % every and step != total:
            return
        now = time.perf_counter()
        report = judged(chooser, CURVE_GAMES)
        judging += time.perf_counter() - now
        print(
            line(f"  step {step}, {now - began - judging + (time.perf_counter() - now):.0f} s", report, 0), flush=True
        )

    result = sft(model, examples, config, pad_id=tokenizer.pad_token_id, run_dir=folder / "sft", after_step=watch)
    print(f"  loss {result.loss:.3f} after {result.steps} steps, {result.seconds:.0f} s", flush=True)
    model.save_pretrained(folder / "trained")
    tokenizer.save_pretrained(folder / "trained")
    rows = []
    for name, agent in (
        ("choose, temperature 0", chooser),
        ("choose, temperature 1", LocalAgent(model, tokenizer, prompt, mode="choose", temperature=1, seed=seed)),
        ("generate, temperature 0", LocalAgent(model, tokenizer, prompt, temperature=0, max_new_tokens=12, seed=seed)),
    ):
        now = time.perf_counter()
        report = judged(agent, FINAL_GAMES)
        print(line(f"  {name}", report, time.perf_counter() - now), flush=True)
        rows.append({"agent": name, "success": report.overall.success, "won": report.overall.won})
    settings = {key: str(value) for key, value in vars(options).items()}
    (folder / "result.json").write_text(json.dumps({"settings": settings, "seed": seed, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
