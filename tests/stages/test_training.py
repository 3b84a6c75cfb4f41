import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from agentgym_prm import RandomAgent, collect
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.algos.core import Trainer
from agentgym_prm.algos.grpo import GRPOConfig
from agentgym_prm.algos.presets import ALGORITHMS, is_tiny
from agentgym_prm.envs import ALFWORLD, TOY
from agentgym_prm.errors import UsageError
from agentgym_prm.evaluate import make_envs
from agentgym_prm.models import ModelConfig, TinyConfig, build_tiny, load_model
from agentgym_prm.rewards.core import AdvantageScorer, FunctionScorer
from agentgym_prm.rewards.prm import PRMSettings, ProcessRewardModel
from agentgym_prm.rewards.specification import RewardSpecification
from agentgym_prm.stages.config import DevelopmentConfig, GamesConfig, PolicyConfig, RolloutConfig
from agentgym_prm.stages.policy import collect_rollouts
from agentgym_prm.stages.training import _outcome, _together, mean_scores, train_policy
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import Action, Step, Trajectory

POLICY = PolicyConfig(prompt="bare", temperature=20.0)
"""So hot that an untrained model, which likes short commands, does not always do the same."""
GAMES = {
    TOY: GamesConfig(env=TOY, num_envs=4, max_episode_steps=5),
    ALFWORLD: GamesConfig(num_envs=4, max_episode_steps=4),
}
DEVELOPMENT = DevelopmentConfig(episodes=3, judged_turns=2)
SMALL = {"updates": 2, "tasks": 2, "learning_rate": 1e-2, "optimizer": "muon", "eval_every": 0, "checkpoint_every": 1}


def settings(name, **changes):
    """The tiny preset of an algorithm, made so small that it takes no time."""
    config = ALGORITHMS[name].preset(tiny=True)
    return replace(config, **SMALL, **({} if name == "ppo" else {"group_size": 2}), **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Untrained models: a policy that knows the words of both environments, and a reward model on its body."""
    folder = tmp_path_factory.mktemp("models")
    texts = []
    for env, games in GAMES.items():
        envs = make_envs(env, 2, **games.kwargs("train"))
        seen = collect(RandomAgent(0), envs, range(2))
        envs.close()
        texts += [
            text for each in seen for step in each.steps for text in (step.observation, *step.admissible_commands)
        ]
    tiny = TinyConfig(hidden_size=16, num_heads=2, num_layers=1, intermediate_size=32)
    build_tiny(folder / "policy" / "model", texts, tiny)
    model = ModelConfig(str(folder / "policy" / "model"), device="cpu")
    prm = ProcessRewardModel.start(model, Prompt.load("bare"), PRMSettings(reads="command"))
    prm.save(folder / "prm" / "model")
    return folder


def train(folder, out, name="grpo", env=TOY, rewards=None, config=None, **options):
    model = options.pop("model", ModelConfig(str(folder / "policy" / "model"), device="cpu"))
    texts = (f"prm:{folder}/prm@0.5", "rubric:step_price@0.1") if rewards is None else rewards
    if ALGORITHMS[name].judged:
        texts = [text.removesuffix("@0.5") for text in texts[:1]]
    return train_policy(
        out,
        model,
        name,
        config or settings(name),
        POLICY,
        GAMES[env],
        development=options.pop("development", DEVELOPMENT),
        rewards=[RewardSpecification.parse(text) for text in texts],
        **options,
    )


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("env", [TOY, ALFWORLD])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_algorithm_trains_and_is_judged_before_and_after(name, env, folder, tmp_path):
    results = train(folder, tmp_path / "run", name, env)
    lines = metrics(tmp_path / "run")
    assert [line["update"] for line in lines] == [0, 1, 2]
    assert ["eval/success_rate" in line for line in lines] == [True, False, True]
    assert results["updates"] == 2
    assert results["env_steps"] == lines[-1]["rollout/env_steps"] > 0
    for when, line in (("before", lines[0]), ("after", lines[-1])):
        for figure in ("success_rate", "mean_steps", "prm", "advantage_prm"):
            assert results[f"{figure}_{when}"] == line[f"eval/{figure}"]
    assert weights(tmp_path / "run") != weights(folder / "policy")
    assert "metrics" not in json.loads((tmp_path / "run" / "done.json").read_text())["results"]
    load_model(ModelConfig(str(tmp_path / "run" / "model"), device="cpu"))


def test_what_is_paid_is_what_the_reward_model_says_of_the_rollouts(folder, tmp_path):
    train(folder, tmp_path / "run", config=settings("grpo", save_rollouts_every=1))
    prm = ProcessRewardModel.load(folder / "prm" / "model", device="cpu")
    for line, path in zip(
        metrics(tmp_path / "run")[1:], sorted((tmp_path / "run" / "rollouts").iterdir()), strict=True
    ):
        played = list(read_trajectories(path))
        assert len(played) == 4
        scores = [
            AdvantageScorer(prm, "best").score(each.histories(), [s.action for s in each.steps]).sum()
            for each in played
        ]
        steps = sum(len(each.steps) for each in played) / 4
        outcome = sum(each.outcome for each in played) / 4
        assert line["reward/regret_prm"] == pytest.approx(0.5 * np.mean(scores), abs=1e-5)
        assert line["reward/step_price"] == pytest.approx(-0.1 * steps)
        assert line["reward/outcome"] == outcome
        assert line["reward/process"] == pytest.approx(line["reward/regret_prm"] + line["reward/step_price"])


def test_a_run_that_was_interrupted_twice_ends_with_the_same_weights(folder, tmp_path, monkeypatch):
    config = replace(settings("grpo"), updates=4)
    train(folder, tmp_path / "whole", config=config)
    step = Trainer._one_update
    for stop in (0, 3):

        def interrupted(trainer, stop=stop):
            if trainer.done == stop:
                raise KeyboardInterrupt
            step(trainer)

        monkeypatch.setattr(Trainer, "_one_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(folder, tmp_path / "again", config=config)
    monkeypatch.undo()
    train(folder, tmp_path / "again", config=config)
    assert weights(tmp_path / "again") == weights(tmp_path / "whole") != weights(folder / "policy")
    whole, again = (
        [{name: value for name, value in line.items() if not name.startswith("time/")} for line in metrics(path)]
        for path in (tmp_path / "whole", tmp_path / "again")
    )
    assert again == whole
    lines = []
    train(folder, tmp_path / "again", config=config, say=lines.append)
    assert lines == ["again: complete, skipped"]


def test_logged_trajectories_are_trained_on_instead_of_games(folder, tmp_path):
    model = ModelConfig(str(folder / "policy" / "model"), device="cpu")
    collect_rollouts(tmp_path / "rollout", model, RolloutConfig(games=4, repeats=2), POLICY, GAMES[TOY])
    path = tmp_path / "rollout" / "trajectories.jsonl"
    train(folder, tmp_path / "run", trajectories=path)
    logged = sorted(read_trajectories(path), key=lambda each: each.episode)
    lines = metrics(tmp_path / "run")[1:]
    for line, batch in zip(lines, (logged[:4], logged[4:]), strict=True):
        assert line["rollout/mean_steps"] == sum(len(each.steps) for each in batch) / 4
        assert "reward/step_price" in line


def test_adapters_are_merged_into_the_model_that_is_saved(folder, tmp_path):
    pytest.importorskip("peft")
    model = ModelConfig(str(folder / "policy" / "model"), device="cpu", lora_rank=2)
    train(folder, tmp_path / "run", model=model)
    before, after = (
        load_model(ModelConfig(str(path), device="cpu")).model.state_dict()
        for path in (folder / "policy" / "model", tmp_path / "run" / "model")
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)  # not the embeddings


def test_without_development_games_nothing_is_judged(folder, tmp_path):
    results = train(folder, tmp_path / "run", development=DevelopmentConfig(episodes=0))
    assert [line["update"] for line in metrics(tmp_path / "run")] == [1, 2]
    assert set(results) == {"updates", "env_steps", "last_batch_success"}


def test_the_best_weights_are_the_ones_reported_if_they_are_kept(tmp_path):
    lines = [{"update": number, "eval/success_rate": rate} for number, rate in enumerate((0.9, 0.2, 0.5, 0.5, 0.1))]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Update 0 is before training: its weights are not among those that can be kept.
    best, last = (_outcome(path, GRPOConfig(keep_best=keep)) for keep in (True, False))
    assert (best["kept_update"], best["success_rate_before"], best["success_rate_after"]) == (2, 0.9, 0.5)
    assert (last["kept_update"], last["success_rate_after"]) == (4, 0.1)


def test_mean_scores_weigh_episodes_alike_by_hand():
    def episode(commands):
        steps = tuple(Step(f"o{n}", ("a", "b"), Action(command)) for n, command in enumerate(commands))
        return Trajectory("task", 0, steps, "end")

    scorer = FunctionScorer(lambda history, action: {"a": 1.0, "b": 0.0}[action.command], "judge")
    # Of five turns the first, third and fifth are judged: (1 + 0 + 1) / 3. The other episode has one turn: 0.
    means = mean_scores(scorer, [episode("abbba"), episode("b")], 3)
    assert means["judge"] == pytest.approx((2 / 3 + 0) / 2)
    # Among a and b the mean is 1/2: advantages are 1/2 and -1/2.
    assert means["advantage_judge"] == pytest.approx((1 / 6 - 1 / 2) / 2)


def test_rewards_that_an_algorithm_cannot_use_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match=r"online_dpo learns from one judge of actions \(prm, .*spa, judge\).*none"):
        train(folder, tmp_path / "run", "online_dpo", rewards=())
    with pytest.raises(UsageError, match="got rubric:step_price"):
        train(folder, tmp_path / "run", "online_dpo", rewards=("rubric:step_price",))
    with pytest.raises(TypeError, match="ppo takes a PPOConfig, got a GRPOConfig"):
        train(folder, tmp_path / "run", "ppo", config=settings("grpo"))
    assert not (tmp_path / "run").exists()


def test_settings_that_would_change_nothing_are_refused(folder, tmp_path):
    dpo = settings("online_dpo")
    with pytest.raises(UsageError, match=r"compares scores, so the coefficient of prm:.*@-1 would change nothing"):
        train_policy(
            tmp_path / "run", ModelConfig(str(folder / "policy" / "model")), "online_dpo", dpo, POLICY, GAMES[TOY],
            rewards=[RewardSpecification("prm", str(folder / "prm"), -1.0)],
        )  # fmt: skip
    with pytest.raises(UsageError, match="training_cap must be at least 1, got 0"):
        train(folder, tmp_path / "run", training_cap=0)
    assert not (tmp_path / "run").exists()


def test_a_policy_is_not_judged_on_the_games_that_it_is_trained_on(folder, tmp_path):
    with pytest.raises(UsageError, match="both are 'train'"):
        train(folder, tmp_path / "run", development=DevelopmentConfig(split="train", episodes=3))
    train(folder, tmp_path / "run", development=DevelopmentConfig(split="train", episodes=0))


def test_single_trajectories_cannot_be_compared_within_groups(folder, tmp_path):
    model = ModelConfig(str(folder / "policy" / "model"), device="cpu")
    collect_rollouts(tmp_path / "rollout", model, RolloutConfig(games=4), POLICY, GAMES[TOY])
    path = tmp_path / "rollout" / "trajectories.jsonl"
    with pytest.raises(UsageError, match="one trajectory of each task: grpo compares"):
        train(folder, tmp_path / "run", trajectories=path)
    train(folder, tmp_path / "ppo", "ppo", trajectories=path)


class Launched:
    """Processes whose exchange is played: what the first one says is what the others hear."""

    def __init__(self, rank, said):
        self.is_first, self.said = rank == 0, said

    def gather(self, items):
        self.said.extend(items)
        return list(self.said)


@pytest.mark.parametrize("finished", [True, False])
def test_other_processes_join_the_first_one_only_if_there_is_work(finished):
    said, done = [], []
    first = _together(Launched(0, said), lambda: done.append(0) or {"a": 1}, lambda work: {} if finished else work())
    _together(Launched(1, said), lambda: done.append(1) or {}, lambda work: pytest.fail("no stage of its own"))
    assert done == ([] if finished else [0, 1])
    assert first == ({} if finished else {"a": 1})


def test_other_processes_do_not_wait_for_a_first_one_that_failed():
    def fails(work):
        raise RuntimeError("other settings")

    said = []
    with pytest.raises(RuntimeError):
        _together(Launched(0, said), dict, fails)
    assert said == [False]


def test_what_is_tiny_is_told_by_the_width(folder, tmp_path):
    assert is_tiny("tiny")
    assert is_tiny(folder / "policy" / "model")
    assert not is_tiny("Qwen/Qwen2.5-0.5B-Instruct")
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 256}))
    assert not is_tiny(tmp_path)
