import json
import logging

import numpy as np
import pytest

from agentgym_prm.algos import loop
from agentgym_prm.algos.progress import ProgressConfig
from agentgym_prm.cli import main
from agentgym_prm.errors import StoreError, UsageError
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards.progress import ProgressEstimator, judge_progress
from agentgym_prm.rewards.targets import task_split
from agentgym_prm.stages.config import PolicyConfig
from agentgym_prm.stages.policy import read_episodes
from agentgym_prm.stages.progress import train_progress_estimator
from agentgym_prm.store import TrajectoryWriter
from agentgym_prm.transcript import Chat
from agentgym_prm.types import Action, Step, Trajectory
from tests.chat_models import chat_model, chat_tokenizer

POLICY = PolicyConfig(prompt="bare")
CONFIG = ProgressConfig(learning_rate=1e-3, batch_size=8, optimizer="muon", checkpoint_every=2, log_every=1)


def played(number):
    """Won by taking the key."""
    command = "take key" if number % 2 else "look"
    action = Action(command, reply=command, token_ids=Chat(chat_tokenizer()).reply_ids(command))
    steps = (Step("dark", (), Action("look")), Step("key", (), action, outcome_reward=float(number % 2)))
    return Trajectory("open door", number, steps, "", task_id=f"task {number}", episode=number)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    chat_model().save_pretrained(folder / "policy")
    chat_tokenizer().save_pretrained(folder / "policy")
    with TrajectoryWriter(folder / "rollout" / "trajectories.jsonl") as writer:
        for number in range(40):
            writer.write(played(number))
    return folder


def train(inputs, folder, say=lambda line: None, **options):
    model = ModelConfig(str(inputs / "policy"), device="cpu", dtype="float32")
    rollouts = inputs / "rollout" / "trajectories.jsonl"
    config, policy = options.pop("config", CONFIG), options.pop("policy", POLICY)
    return train_progress_estimator(folder, rollouts, model, config, policy, say=say, **options)


def run(*arguments):
    try:
        return main(list(arguments))
    except SystemExit as exit_:  # the argument parser's own errors
        return int(exit_.code or 0)


def test_the_stage_leaves_a_model_and_what_it_is_worth_on_held_out_tasks(inputs, tmp_path):
    lines = []
    results = train(inputs, tmp_path / "progress", lines.append)
    episodes = read_episodes(inputs / "rollout" / "trajectories.jsonl")
    held_out = [each for each in episodes if task_split(each.task_id) == "held_out"]
    trained = [each.outcome for each in episodes if task_split(each.task_id) == "train"]
    assert (results["train_episodes"], results["held_out_episodes"]) == (len(trained), len(held_out))
    assert len(held_out) > 1

    estimator = ProgressEstimator.load(tmp_path / "progress" / "model", device="cpu")
    outcomes = [each.outcome for each in held_out]
    quality = judge_progress(estimator.contributions(held_out), outcomes, float(np.mean(trained)))
    record = json.loads((tmp_path / "progress" / "quality.json").read_text())
    assert record["held_out"] == pytest.approx(quality.to_json())
    (verdict,) = record["gate"].values()
    assert verdict.startswith("PASS" if quality.mean_squared_error < quality.baseline else "FAIL")
    assert results["held_out_mean_squared_error"] == pytest.approx(quality.mean_squared_error)
    card = (tmp_path / "progress" / "model" / "README.md").read_text()
    assert f"{len(held_out)} episodes: squared error {quality.mean_squared_error:.4f}" in card

    assert lines[0].startswith("progress: ")
    assert train(inputs, tmp_path / "progress", lines.append) == results
    assert lines[1] == "progress: complete, skipped"
    with pytest.raises(StoreError, match="max_length = 4096, not 100"):
        train(inputs, tmp_path / "progress", max_length=100)


def test_a_killed_stage_ends_as_an_uninterrupted_one(inputs, tmp_path, monkeypatch):
    whole = train(inputs, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(self, path, save=loop.TrainingLoop._save):
        save(self, path)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_save", kill)
        with pytest.raises(Killed):
            train(inputs, tmp_path / "killed")
    assert not (tmp_path / "killed" / "done.json").exists()
    assert train(inputs, tmp_path / "killed") == whole
    for file in ("model/model.safetensors", "quality.json", "model/README.md"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_without_held_out_tasks_nothing_is_judged_and_without_training_tasks_it_is_refused(inputs, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        results = train(inputs, tmp_path / "all", train_share=1.0)
    assert "cannot be judged" in caplog.text
    assert results["held_out_episodes"] == 0
    assert "held_out_r2" not in results
    record = json.loads((tmp_path / "all" / "quality.json").read_text())
    assert record["held_out"] is None
    assert list(record["gate"].values()) == ["FAIL: nothing to judge by"]
    assert "it was not judged" in (tmp_path / "all" / "model" / "README.md").read_text()
    with pytest.raises(UsageError, match="raise --train-share"):
        train(inputs, tmp_path / "none", train_share=0.0)


def test_the_command_trains_from_a_folder_of_rollouts(inputs, tmp_path, capsys):
    arguments = [
        "train-progress", "--rollouts", str(inputs / "rollout"), "--run-dir", str(tmp_path / "out"),
        "--model", str(inputs / "policy"), "--device", "cpu", "--policy.prompt", "bare", "--progress.epochs", "2",
    ]  # fmt: skip
    assert run(*arguments) == 0
    assert capsys.readouterr().out.startswith("out: ")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["settings"]
    assert (config["progress.learning_rate"], config["progress.epochs"], config["max_length"]) == (3e-6, 2, 4096)
    assert ProgressEstimator.load(tmp_path / "out" / "model", device="cpu").prompt.name == "bare"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rollouts", "nowhere", "--model", "m"), "there are no trajectories: no file nowhere"),
        (("--rollouts", "nowhere"), "--model is missing"),
        (("--rollouts", "x", "--progress.batch-tokens", "0"), "batch_tokens must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_end_with_status_two(arguments, message, capsys, tmp_path):
    assert run("train-progress", "--run-dir", str(tmp_path / "out"), *arguments) == 2
    printed = capsys.readouterr()
    assert message in " ".join((printed.err + printed.out).replace("│", " ").split())


def test_settings_of_the_loop_are_explained_in_the_help(capsys):
    """They are inherited, with their docstrings."""
    assert run("train-progress", "--help") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Train a progress estimator and judge it on held-out tasks" in shown
    assert "Share of the steps in which the learning rate rises from 0" in shown
    assert "Most tokens, padding included" in shown
    assert "(default: 3e-06)" in shown
