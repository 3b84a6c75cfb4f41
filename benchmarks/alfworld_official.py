"""Claim: a tiny model trained on the official ALFWorld training games alone wins 90 % of valid_seen in half an hour.

    python benchmarks/alfworld_official.py [--data official] [--seeds 0 1 2] [--limited 100 300 1000]

A Llama-shaped model of 0.26M parameters from scratch imitates the handcoded expert: first on demonstrations with 25 %
random commands, then (DAgger, arXiv:1011.0686) on the states that its own play leads to, half of it at temperature 1
and half greedy. In both, the expert's command is the label in *every* state, whoever acted there. Judged on all
valid_seen games, cap 50 commands, by choosing among the admissible commands (temperature 0 and 1) and by free
generation. No training game is played in judging and no judged game in training.

``--limited`` asks what few demonstrations give: imitation alone, then a reward model on top. Its targets are branching
estimates with the expert as the one who plays on, at states of the policy's own play on training games; so it is the
*demonstrations* that are limited, not the games or the expert.

Results are appended to ``results.jsonl`` in the output folder as they are found. A killed run is started again by the
same command: what is done is skipped, training goes on from its checkpoint. One thread; times are wall-clock and CPU
seconds of everything, without judging.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agentgym_prm import BestOfN, HandcodedAgent, evaluate
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.agents.scripted import ExpertAgent, NoisyAgent
from agentgym_prm.algos.prm import PRMConfig, q_examples, train_prm
from agentgym_prm.algos.sft import Example, SFTConfig, sft
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.envs.alfworld.files import open_games
from agentgym_prm.evaluate import EvalReport, make_envs
from agentgym_prm.models import LoadedModel, ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.rewards.branching import Branch, branch_targets
from agentgym_prm.rewards.oracle import GameReplay
from agentgym_prm.rewards.prm import PRMSettings, ProcessRewardModel
from agentgym_prm.rewards.targets import by_history
from agentgym_prm.rollout import collect
from agentgym_prm.transcript import Chat
from agentgym_prm.types import Action, History, Trajectory

CAP = 50
TRAINING_CAP = 30
"""Cap in training games: what comes later is mostly one state again and again."""
NUM_ENVS = 64
BEST_OF = 8
SFT = SFTConfig(learning_rate=3e-3, batch_size=16, optimizer="muon", checkpoint_every=500)
PRM = PRMConfig(loss="listwise", learning_rate=2e-3, batch_size=16, optimizer="muon", checkpoint_every=500)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    journal = Journal(options.output / "results.jsonl")
    total = len(open_games(options.data, "train", "full"))
    for seed in options.seeds:
        if not options.limited_only:
            games = min(options.games, total)
            Run(options, journal, seed, games, f"seed{seed}").full()
        for games in options.limited:
            Run(options, journal, seed, games, f"seed{seed}-{games}").limited()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="official", help="'official' ($ALFWORLD_DATA) or a folder with both splits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--games", type=int, default=1500, help="training games that are demonstrated")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of play and further training")
    parser.add_argument("--play", type=int, default=1500, help="training games played in each round")
    parser.add_argument("--minutes", type=float, default=30.0, help="no further round begins after so much training")
    parser.add_argument("--limited", type=int, nargs="*", default=[], help="also with so few demonstrations")
    parser.add_argument("--limited-only", action="store_true", help="leave the full runs out")
    parser.add_argument("--limited-steps", type=int, default=1500, help="about so many steps of imitation there")
    parser.add_argument("--states", type=int, default=1000, help="states that the reward model learns from")
    parser.add_argument("--prompt", default="frontier", help="name or template file")
    parser.add_argument("--output", type=Path, default=Path("runs/alfworld_official"))
    return parser.parse_args()


class Journal:
    """Results as JSON lines; what is in it is not done again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._done = {(record["run"], record["what"]): record for record in map(json.loads, lines)}

    def get(self, run: str, what: str) -> dict[str, Any] | None:
        return self._done.get((run, what))

    def add(self, run: str, what: str, **figures: Any) -> None:
        record = {"run": run, "what": what, **figures}
        self._done[run, what] = record
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{run:<12} {what:<34} " + "  ".join(f"{key} {value}" for key, value in figures.items()), flush=True)


@dataclass(frozen=True)
class Labelled:
    """What the expert would do after a history."""

    history: History
    action: Action


class Run:
    """One model: ``games`` demonstrations, one seed, one folder."""

    def __init__(self, options: argparse.Namespace, journal: Journal, seed: int, games: int, name: str) -> None:
        self.options, self.journal, self.seed, self.name = options, journal, seed, name
        self.folder = options.output / name
        self.folder.mkdir(exist_ok=True)
        self.prompt = Prompt.load(options.prompt)
        count = len(open_games(options.data, "train", "full"))
        self.order = random.Random(seed).sample(range(count), count)
        self.games = self.order[:games]
        self.examples: list[Example] = []

    def full(self) -> None:
        """Imitation, then rounds of play and training."""
        model, tokenizer = self.imitate(epochs=1)
        self.judge(model, tokenizer, "imitation")
        for number in range(1, self.options.rounds + 1):
            if self.spent() > 60 * self.options.minutes:
                return
            self.improve(model, tokenizer, number)
            self.judge(model, tokenizer, f"round {number}", final=number == self.options.rounds)

    def limited(self) -> None:
        """Imitation alone, then Best-of-N with a reward model."""
        model, tokenizer = self.imitate(epochs=None)
        self.judge(model, tokenizer, "imitation", final=True)
        what = f"reward model, best of {BEST_OF}"
        if self.journal.get(self.name, what) is None:
            policy = self.player(model, tokenizer, temperature=1.0)
            prm = self.reward_model(policy)
            self.report(what, BestOfN(policy, prm, BEST_OF))

    # --- training ---

    def imitate(self, epochs: int | None) -> LoadedModel:
        """A new model, trained on demonstrations; without ``epochs`` for about ``limited_steps`` steps."""
        with self.timed("imitation trained") as note:
            expert = NoisyAgent(ExpertAgent("handcoded"), 0.25, self.seed)
            labelled = label(self.play(expert, self.games, "demonstrations", expert="handcoded"))
            if not (self.folder / "start" / "config.json").exists():
                build_tiny(self.folder / "start", self.texts(labelled), TinyConfig(seed=self.seed))
            model, tokenizer = load_model(ModelConfig(str(self.folder / "start"), device="cpu", dtype="float32"))
            self.examples = self.encode(labelled, tokenizer)
            if epochs is None:
                epochs = max(1, round(self.options.limited_steps * SFT.batch_size / len(self.examples)))
            self.train(model, tokenizer, "imitation", epochs, note)
        return LoadedModel(model, tokenizer)

    def improve(self, model: Any, tokenizer: Any, number: int) -> None:
        """Play training games, ask the expert about every state there, and train on all states so far."""
        with self.timed(f"round {number} trained") as note:
            first = (number - 1) * self.options.play
            seeds = [self.order[-1 - place % len(self.order)] for place in range(first, first + self.options.play)]
            half = len(seeds) // 2
            sampled, greedy = (self.player(model, tokenizer, temperature) for temperature in (1.0, 0.0))
            played = self.play(sampled, seeds[:half], f"round{number}-sampled")
            played += self.play(greedy, seeds[half:], f"round{number}-greedy")
            note["won_in_training"] = round(sum(t.outcome > 0 for t in played) / len(played), 3)
            # Greedy play that goes round in circles meets the same state again and again.
            self.examples += dict.fromkeys(self.encode(label(played), tokenizer))
            self.train(model, tokenizer, f"round{number}", 1, note)

    def train(self, model: Any, tokenizer: Any, stage: str, epochs: int, note: dict[str, Any]) -> None:
        config = replace(SFT, epochs=epochs, seed=self.seed)
        result = sft(
            model, self.examples, config, pad_id=tokenizer.pad_token_id, run_dir=self.folder / stage, resume=True
        )
        model.save_pretrained(self.folder / stage / "model")
        tokenizer.save_pretrained(self.folder / stage / "model")
        tokens = sum(len(each.token_ids) for each in self.examples) / len(self.examples)
        note |= {"examples": len(self.examples), "tokens": round(tokens), "steps": result.steps}
        note |= {"loss": round(result.loss, 3), "parameters": model.num_parameters()}

    def reward_model(self, policy: LocalAgent) -> ProcessRewardModel:
        """Starts from the policy; learns which of the commands that the policy draws is better."""
        with self.timed("reward model trained") as note:
            draws = random.Random(f"states {self.seed}")
            seeds = self.order[-self.options.states // 4 :]
            states = [history for t in self.play(policy, seeds, "own") for history in t.histories()]
            chosen = draws.sample(states, min(self.options.states, len(states)))
            replay = GameReplay(data=self.options.data)
            branches = [
                Branch(history, replay(history), tried(history, actions, draws))
                for history, actions in zip(chosen, policy.sample(chosen, BEST_OF), strict=True)
            ]
            targets = branch_targets(branches, HandcodedAgent(), n=1, max_episode_steps=CAP, signed=False)
            config = ModelConfig(str(self.folder / "imitation" / "model"), device="cpu", dtype="float32")
            prm = ProcessRewardModel.start(config, self.prompt, PRMSettings(head="likelihood"), seed=self.seed)
            examples = q_examples(prm, by_history(targets))
            result = train_prm(
                prm, examples, replace(PRM, epochs=2, seed=self.seed), run_dir=self.folder / "prm", resume=True
            )
            note |= {"states": len(branches), "targets": len(targets), "steps": result.steps}
        prm.save(self.folder / "prm" / "model")
        return prm

    # --- play ---

    def play(self, agent: Agent, seeds: Sequence[int], name: str, **env: Any) -> list[Trajectory]:
        settings = {"data": self.options.data, "split": "train", "max_episode_steps": TRAINING_CAP, **env}
        envs = make_envs(ALFWORLD, min(NUM_ENVS, len(seeds)), **settings)
        try:
            return collect(agent, envs, seeds, path=self.folder / f"{name}.jsonl", resume=True)
        finally:
            envs.close()

    def player(self, model: Any, tokenizer: Any, temperature: float, mode: str = "choose") -> LocalAgent:
        return LocalAgent(
            model, tokenizer, self.prompt, mode=mode, temperature=temperature, max_new_tokens=16, seed=self.seed
        )

    def texts(self, labelled: Iterable[Labelled]) -> Iterator[str]:
        for each in labelled:
            yield from (message.content for message in self.prompt.messages(each.history))
            yield self.prompt.render_reply(each.action)

    def encode(self, labelled: Sequence[Labelled], tokenizer: Any) -> list[Example]:
        """One example a state: the prompt, and the expert's command as the reply."""
        encoder = Encoder(self.prompt, Chat(tokenizer))
        encoded = encoder.histories([each.history for each in labelled])
        examples = []
        for each, prompt in zip(labelled, encoded, strict=True):
            shown, reply = prompt.token_ids, encoder.chat.reply_ids(self.prompt.render_reply(each.action))
            examples.append(Example((*shown, *reply), (False,) * len(shown) + (True,) * len(reply)))
        return examples

    # --- figures ---

    def judge(self, model: Any, tokenizer: Any, stage: str, *, final: bool = False) -> None:
        for temperature in (0.0, 1.0):
            self.report(f"{stage}, choose, T={temperature:g}", self.player(model, tokenizer, temperature))
        if final:
            self.report(f"{stage}, generate, T=0", self.player(model, tokenizer, 0.0, "generate"))

    def report(self, what: str, agent: Agent) -> None:
        if self.journal.get(self.name, what) is not None:
            return
        started = time.perf_counter()
        report = evaluate(agent, ALFWORLD, data=self.options.data, split="valid_seen", num_envs=NUM_ENVS)
        self.journal.add(self.name, what, **figures(report), seconds=round(time.perf_counter() - started))

    def spent(self) -> float:
        """Wall-clock seconds of training so far, an earlier process's included."""
        names = ["imitation trained", *(f"round {number} trained" for number in range(1, self.options.rounds + 1))]
        records = (self.journal.get(self.name, name) for name in names)
        return sum(record["seconds"] for record in records if record)

    def timed(self, what: str) -> "Timed":
        return Timed(lambda **found: self.journal.get(self.name, what) or self.journal.add(self.name, what, **found))


class Timed:
    """Adds the time that its block took to what the block notes, and passes both on."""

    def __init__(self, done: Callable[..., object]) -> None:
        self._done = done

    def __enter__(self) -> dict[str, Any]:
        self._started, self._note = (time.perf_counter(), time.process_time()), {}
        return self._note

    def __exit__(self, kind: object, *_: object) -> None:
        wall, cpu = time.perf_counter() - self._started[0], time.process_time() - self._started[1]
        if kind is None:
            self._done(**self._note, seconds=round(wall), cpu_seconds=round(cpu))


def label(trajectories: Iterable[Trajectory]) -> list[Labelled]:
    """Every state of the trajectories with the expert's command there."""
    expert = HandcodedAgent()
    labelled = []
    for trajectory in trajectories:
        histories = trajectory.histories()
        labelled += map(Labelled, histories, expert.act(histories))
    return labelled


def tried(history: History, drawn: Sequence[Action], draws: random.Random, others: int = 4) -> tuple[str, ...]:
    """What the policy drew, and a few commands that it did not."""
    commands = dict.fromkeys(action.command for action in drawn)
    rest = [command for command in history.admissible_commands if command not in commands]
    return (*commands, *draws.sample(rest, min(others, len(rest))))


def figures(report: EvalReport) -> dict[str, Any]:
    everything = report.overall
    return {
        "won": everything.won,
        "games": everything.episodes,
        "success": round(everything.success, 4),
        "low": round(everything.success_low, 4),
        "high": round(everything.success_high, 4),
        "steps": round(everything.mean_steps, 1),
        "types": {row.task_type: f"{row.won}/{row.episodes}" for row in report.rows()[:-1]},
    }


if __name__ == "__main__":
    main()
