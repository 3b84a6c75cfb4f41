import json
import logging
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from agentgym_prm.algos.core import Logged, Rollouts, TrainerConfig, added, averaged, rollout_metrics
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.ppo import PPOConfig, PPOTrainer
from agentgym_prm.algos.processes import Processes
from agentgym_prm.envs.core import TextVectorEnv
from agentgym_prm.errors import StoreError, UnknownNameError
from agentgym_prm.testing import ScriptedEnv
from agentgym_prm.types import Action, InfoKey, Step, Trajectory
from tests.algos.episodes import TASKS, agent_of, fresh_model, play

SETTINGS = {"updates": 5, "tasks": 2, "group_size": 4, "learning_rate": 3e-3, "minibatches": 2, "checkpoint_every": 2}
KINDS = {
    "grpo": (GRPOTrainer, GRPOConfig(**SETTINGS, kl_coef=0.1, eval_every=1, keep_best=True)),
    "ppo": (PPOTrainer, PPOConfig(**SETTINGS, optimizer="muon", eval_every=2)),
}


def rollouts(seeds=(0, 1)):
    return Rollouts(TextVectorEnv(lambda: ScriptedEnv(TASKS), 4, max_episode_steps=6), list(seeds))


def evaluation(agent):
    """Judges by the weights, rising and falling, so that the best is not the last."""
    total = sum(each.double().abs().sum().item() for each in agent.model.parameters())
    success = total * 1000 % 1
    return SimpleNamespace(
        overall=SimpleNamespace(success=success, success_low=0.0, success_high=1.0, mean_steps=1.0, mean_score=success),
        scores={},
    )


def trainer_of(kind="grpo", folder=None, model=None, source=None, **options):
    trainer, config = KINDS[kind]
    config = options.pop("config", config)
    policy = Policy(agent_of("choose", model=model or fresh_model()), value_head=trainer is PPOTrainer)
    options.setdefault("evaluation", evaluation)
    return trainer(policy, config, source or rollouts(), run_dir=folder, **options)


def weights(trainer):
    return torch.cat([each.detach().reshape(-1).clone() for each in trainer.policy.parameters])


def logged(folder):
    """The metrics of a run, but for times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


class Killed(BaseException):
    pass


def kill_at(trainer, update):
    """Stop after an update was learned from, and before that is written down."""
    whole = trainer.update

    def stopping(trajectories):
        metrics = whole(trajectories)
        if trainer.done == update:
            raise Killed
        return metrics

    trainer.update = stopping


# --- resuming ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("killed_at", [1, 3, 4])
def test_a_killed_and_resumed_run_ends_with_the_same_parameters_bit_by_bit(tmp_path, kind, killed_at):
    whole = trainer_of(kind, tmp_path / "whole")
    report = whole.run()
    killed = trainer_of(kind, tmp_path / "killed")
    kill_at(killed, killed_at)
    with pytest.raises(Killed):
        killed.run()
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"update": 9, "rollout/succ')  # a kill in the middle of a line
    resumed = trainer_of(kind, tmp_path / "killed")
    again = resumed.run(resume=True)
    assert torch.equal(weights(resumed), weights(whole))
    assert not torch.equal(weights(whole), weights(trainer_of(kind)))
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")
    assert [line["update"] for line in logged(tmp_path / "whole")] == [1, 2, 3, 4, 5]
    assert (again.updates, again.env_steps, again.best) == (report.updates, report.env_steps, report.best)


def test_a_finished_run_that_is_resumed_is_as_it_was(tmp_path):
    whole = trainer_of("grpo", tmp_path)
    report = whole.run()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = trainer_of("grpo", tmp_path)
    assert again.run(resume=True) == report
    assert torch.equal(weights(again), weights(whole))  # the best ones, not the last
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.algos.test_trainer import trainer_of
trainer = trainer_of(sys.argv[1], Path(sys.argv[2]))
update = trainer.update
def killing(trajectories):
    metrics = update(trajectories)
    if trainer.done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return metrics
trainer.update = killing
trainer.run()
"""


def test_a_run_that_was_killed_for_good_can_be_resumed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, "grpo", str(tmp_path / "killed")]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL
    assert [line["update"] for line in logged(tmp_path / "killed")] == [1, 2, 3]  # the last checkpoint is after 2
    resumed, whole = trainer_of("grpo", tmp_path / "killed"), trainer_of("grpo", tmp_path / "whole")
    resumed.run(resume=True)
    whole.run()
    assert torch.equal(weights(resumed), weights(whole))
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


def test_a_run_directory_is_neither_overwritten_nor_continued_with_other_settings(tmp_path):
    trainer_of("grpo", tmp_path).run()
    with pytest.raises(FileExistsError, match="resume"):
        trainer_of("grpo", tmp_path).run()
    other = GRPOConfig(**SETTINGS, seed=1)
    with pytest.raises(StoreError, match="was started with"):
        trainer_of("grpo", tmp_path, config=other).run(resume=True)
    with pytest.raises(StoreError, match="was started with"):
        trainer_of("ppo", tmp_path).run(resume=True)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    killed = trainer_of("grpo", tmp_path / "killed")
    kill_at(killed, 1)
    with pytest.raises(Killed):
        killed.run()
    assert len(logged(tmp_path / "killed")) == 1
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()
    trainer_of("grpo", tmp_path / "killed").run(resume=True)
    trainer_of("grpo", tmp_path / "whole").run()
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


# --- evaluation ---


def test_the_best_weights_are_those_of_the_best_evaluation(tmp_path):
    seen = {}

    def remembering(agent):
        report = evaluation(agent)
        seen[report.overall.success] = torch.cat(
            [each.detach().reshape(-1).clone() for each in agent.model.parameters()]
        )
        return report

    trainer = trainer_of("grpo", evaluation=remembering)
    report = trainer.run()
    assert len(seen) == 5
    assert report.best == max(seen) != list(seen)[-1]
    assert torch.equal(weights(trainer), seen[max(seen)])
    last = trainer_of("grpo", evaluation=remembering, config=GRPOConfig(**SETTINGS, kl_coef=0.1, eval_every=1))
    last.run()
    assert torch.equal(weights(last), list(seen.values())[4])


def test_the_best_weights_need_an_evaluation():
    with pytest.raises(ValueError, match="keep_best needs an evaluation"):
        trainer_of("grpo", evaluation=None)


# --- collecting ---


def test_every_pass_plays_all_tasks_in_another_order_and_numbers_go_on():
    config = TrainerConfig(tasks=2, group_size=2)
    source, agent = rollouts(range(4)), agent_of("choose")
    batches = [source.batch(agent, update, config, Processes()) for update in range(4)]
    assert [[each.episode for each in batch] for batch in batches] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15],
    ]  # fmt: skip
    seeds = [[each.seed for each in batch] for batch in batches]
    assert all(first == second and third == fourth for first, second, third, fourth in seeds)
    passes = [seeds[0][::2] + seeds[1][::2], seeds[2][::2] + seeds[3][::2]]
    assert sorted(passes[0]) == sorted(passes[1]) == [0, 1, 2, 3]
    assert passes[0] != passes[1]
    again = rollouts(range(4)).batch(agent, 3, config, Processes())
    assert again == batches[3]  # whatever was played before
    # Across the border of two passes.
    wide = source._next_tasks(2, 4, seed=0)
    assert wide == passes[0][2:] + passes[1][:2]
    with pytest.raises(ValueError, match="at least one seed"):
        rollouts([])


def test_a_budget_of_steps_ends_training(tmp_path):
    config = GRPOConfig(**{**SETTINGS, "updates": 50}, env_steps=40)
    trainer = trainer_of("grpo", tmp_path, config=config)
    report = trainer.run()
    lines = logged(tmp_path)
    assert report.env_steps == lines[-1]["rollout/env_steps"] >= 40 > lines[-2]["rollout/env_steps"]
    assert (tmp_path / "checkpoint.pt").exists()
    assert "eval/success_rate" in lines[-1]
    assert trainer_of("grpo", tmp_path, config=config).run(resume=True).updates == report.updates


def test_rollouts_are_written_when_asked_for(tmp_path):
    config = GRPOConfig(**SETTINGS, save_rollouts_every=2)
    trainer_of("grpo", tmp_path, config=config).run()
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == [
        "000001.jsonl", "000003.jsonl", "000005.jsonl",
    ]  # fmt: skip


# --- steps ---


def test_learning_rate_warms_up_and_decays(tmp_path):
    config = GRPOConfig(**{**SETTINGS, "learning_rate": 0.01}, warmup=0.4, final_learning_rate=0.0, skip_uniform=False)
    trainer_of("grpo", tmp_path, config=config).run()
    rates = [line["train/learning_rate"] for line in logged(tmp_path)]
    # Two steps of five up; then half a cosine over three: 1, (1 + cos 60°) / 2, (1 + cos 120°) / 2.
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.0025])


def test_gradients_are_clipped_to_their_norm(monkeypatch):
    trainer = trainer_of("grpo", config=GRPOConfig(**SETTINGS, max_grad_norm=0.5))
    (parameter, *_) = trainer.policy.parameters
    norms = []
    monkeypatch.setattr(
        trainer.optimizer,
        "step",
        lambda: norms.append(sum(p.grad.norm() ** 2 for p in trainer.policy.parameters if p.grad is not None) ** 0.5),
    )
    metrics = trainer.step([((3.0 * parameter).sum(), {}), ((4.0 * parameter).sum(), {})])
    assert metrics["train/grad_norm"] == pytest.approx(7.0 * parameter.numel() ** 0.5, rel=1e-4)
    assert norms[0].item() == pytest.approx(0.5, rel=1e-4)
    assert all(each.grad is None for each in trainer.policy.parameters)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_training_and_leaves_the_weights(bad):
    trainer = trainer_of("grpo")
    before = weights(trainer)
    (parameter, *_) = trainer.policy.parameters
    with pytest.raises(FloatingPointError, match="the gradient of update 1 is"):
        trainer.step([((bad * parameter).sum(), {})])
    assert torch.equal(weights(trainer), before)


# --- warnings ---


class Telling(GRPOTrainer):
    """Tells metrics that were made up."""

    told: dict

    def update(self, trajectories):
        return dict(self.told)


BANDS = {
    "sampler/logprob_gap": "sampler and trainer disagree",
    "policy/approx_kl": "moves the policy far",
    "policy/clip_fraction": "most of an update is clipped",
}


@pytest.mark.parametrize("name", BANDS)
def test_metrics_outside_their_band_warn_once_a_run(name, caplog):
    trainer = Telling(Policy(agent_of("choose")), GRPOConfig(**SETTINGS), rollouts())
    trainer.told = {name: 0.5}
    with caplog.at_level(logging.WARNING, logger="agentgym_prm"):
        trainer.run()
    (record,) = caplog.records
    assert BANDS[name] in record.getMessage()
    assert f"update 1: {name} is 0.5" in record.getMessage()


def test_a_normal_run_warns_of_nothing(caplog):
    trainer = Telling(Policy(agent_of("choose")), GRPOConfig(**SETTINGS), rollouts())
    trainer.told = {"sampler/logprob_gap": 0.04, "policy/approx_kl": 0.19, "policy/clip_fraction": 0.39}
    with caplog.at_level(logging.WARNING, logger="agentgym_prm"):
        trainer.run()
        trainer_of("grpo", config=GRPOConfig(**{**SETTINGS, "learning_rate": 1e-5})).run()
    assert caplog.records == []


def test_a_sampler_that_is_not_the_policy_is_noticed_where_trajectories_are_fresh(caplog):
    foreign = play(agent_of("choose", model=fresh_model(1)), [0, 0, 0, 1, 1, 1])
    source = Logged(foreign)
    with caplog.at_level(logging.WARNING, logger="agentgym_prm.algos.core"):
        trainer_of("ppo", source=source, config=PPOConfig(**SETTINGS, warn_kl=9e9, warn_clip=1.0)).run()
        assert caplog.records == []  # logged ones may be anybody's
        source.fresh = True
        trainer_of("ppo", source=source, config=PPOConfig(**SETTINGS, warn_kl=9e9, warn_clip=1.0)).run()
    (record,) = caplog.records
    assert "sampler and trainer disagree" in record.getMessage()


# --- metrics and settings ---


def test_metrics_of_parts_are_added_and_averaged_and_maxima_kept():
    parts = [{"a": 1.0, "b_max": 3.0}, {"a": 2.0, "b_max": 5.0, "c": 4.0}]
    assert added(parts) == {"a": 3.0, "b_max": 5.0, "c": 4.0}
    assert averaged(parts) == {"a": 1.5, "b_max": 5.0, "c": 4.0}


def test_metrics_of_rollouts_are_shares_of_episodes_and_of_steps():
    def step(outcome=0.0, process=0.0, won=False, valid=True):
        info = {InfoKey.WON: won, InfoKey.VALID_ACTION: valid, "reward_terms": {"outcome": outcome, "prm": process}}
        return Step("o", (), Action("look"), outcome, process, info=info)

    first = Trajectory("t", 0, (step(process=0.25), step(1.0, 0.5, won=True)), "")
    second = Trajectory("t", 1, (step(valid=False), step(), step(process=0.5), step()), "")
    assert rollout_metrics([first, second]) == {
        "rollout/success_rate": 0.5,
        "rollout/mean_steps": 3.0,
        "rollout/grounding": pytest.approx(5 / 6),
        "reward/outcome": 0.5,
        "reward/prm": 0.625,
        "reward/process": 0.625,
    }


def test_the_trainer_brings_its_settings_to_the_policy():
    trainer = trainer_of("grpo", config=GRPOConfig(**SETTINGS, batch_tokens=77, precision="bfloat16"))
    assert (trainer.policy.batch_tokens, trainer.policy.precision) == (77, "bfloat16")


def test_bad_settings_are_refused():
    for name in ("updates", "tasks", "group_size", "batch_tokens", "checkpoint_every", "env_steps"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            TrainerConfig(**{name: 0})
    for name in ("eval_every", "save_rollouts_every"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0"):
            TrainerConfig(**{name: -1})
    for name in ("learning_rate", "max_grad_norm"):
        with pytest.raises(ValueError, match="must be above 0"):
            TrainerConfig(**{name: 0.0})
    for name in ("warmup", "final_learning_rate"):
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]"):
            TrainerConfig(**{name: 1.5})
    with pytest.raises(UnknownNameError, match="did you mean 'adamw'"):
        TrainerConfig(optimizer="adam")
    with pytest.raises(UnknownNameError, match="bfloat16"):
        TrainerConfig(precision="half")
