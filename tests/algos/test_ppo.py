import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.policy_gradient import Recorded
from agentgym_prm.algos.ppo import PPOConfig, PPOTrainer
from agentgym_prm.errors import UnknownNameError
from tests.algos.episodes import SETUPS, agent_of, fresh_model, play, with_rewards
from tests.algos.test_policy_gradient import Fresh, gradients_of, tracked, weights

PLAIN = {"epochs": 1, "minibatches": 1, "whiten_advantages": False}


def trainer_of(config, trajectories, agent, *, head=0.5):
    policy = Policy(agent, value_head=True)
    with torch.no_grad():
        policy.net.value.weight.normal_(std=head, generator=torch.Generator().manual_seed(0))
    trainer = PPOTrainer(policy, config, Fresh(trajectories))
    trainer.policy.net.train()
    return trainer


def paid(agent, seeds=(0, 1, 0, 1)):
    """Episodes with an outcome at the end and a process reward at each turn."""
    return [
        with_rewards(each, 1.0 - 0.5 * number, [0.1 * (turn + 1) - 0.05 * number for turn in range(len(each.steps))])
        for number, each in enumerate(play(agent, seeds))
    ]


def slow_gae(rewards, values, ends, gamma, lam, bootstrap):
    """Sums written out: ``A_n = sum_k (product of gamma lam up to k) delta_k``, factors only where a turn ends."""
    count = len(rewards)
    following = [*values[1:], bootstrap]
    deltas = [rewards[n] + (gamma if ends[n] else 1.0) * following[n] - values[n] for n in range(count)]
    advantages = []
    for n in range(count):
        total, factor = 0.0, 1.0
        for k in range(n, count):
            total += factor * deltas[k]
            factor *= gamma * lam if ends[k] else 1.0
        advantages.append(total)
    return advantages


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("discount", ["turn", "token"])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_advantages_are_those_of_a_slow_loop_over_an_episodes_action_tokens(setup, discount, bootstrap):
    agent = agent_of(setup)
    trajectories = paid(agent)
    assert any(each.steps[-1].truncated for each in trajectories)
    config = PPOConfig(**PLAIN, kl_coef=0.2, gamma=0.8, lam=0.6, discount=discount, bootstrap_truncated=bootstrap)
    trainer = trainer_of(config, trajectories, agent)
    trainer.policy._reference = [each.detach().clone() for each in fresh_model(1).parameters()]
    rows = trainer.policy.rows(trajectories)
    recorded = trainer._record(rows, [list(range(len(rows)))])
    targets = trainer.targets(trajectories, rows, recorded, [])
    for number, episode in enumerate(trajectories):
        own = [index for index, row in enumerate(rows) if row.episode == number]
        turns = [turn for index in own for turn in rows[index].turns]
        values = [value for index in own for value in recorded[index].values]
        rewards = []
        gaps = [a - b for i in own for a, b in zip(recorded[i].logprobs, recorded[i].reference, strict=True)]
        for place, (turn, gap) in enumerate(zip(turns, gaps, strict=True)):
            last = place + 1 == len(turns) or turns[place + 1] != turn
            step = episode.steps[turn]
            rewards.append(-0.2 * gap + (step.outcome_reward + step.process_reward if last else 0.0))
        assert max(map(abs, gaps)) > 0.05
        ends = [discount == "token" or n + 1 == len(turns) or turns[n + 1] != turns[n] for n in range(len(turns))]
        after = 0.0
        if bootstrap and episode.steps[-1].truncated and not episode.steps[-1].terminated:
            # A game of this kind offers the same commands from beginning to end.
            end = replace(episode.final_history(), admissible_commands=episode.steps[0].admissible_commands)
            after = trainer.policy.values([end])[0]
            assert abs(after) > 0.01
        expected = slow_gae(rewards, values, ends, 0.8, 0.6, after)
        found = np.concatenate([targets.advantages[index] for index in own])
        assert found == pytest.approx(expected, abs=1e-5)  # float32 in another batch
        returns = np.concatenate([targets.returns[index] for index in own])
        assert returns == pytest.approx(np.add(expected, values), abs=1e-5)


def test_the_state_an_episode_was_cut_off_in_is_shown_with_its_commands():
    prompt = Prompt(
        "commands",
        '{% set style = "state" %}{% set reply_format = "bare" %}{% set commands = "household" %}'
        "{% block user %}{{ observation }}{% for each in admissible_commands %} {{ each }}{% endfor %}{% endblock %}",
    )
    agent = agent_of("choose", prompt=prompt)
    trajectories = paid(agent)
    trainer = trainer_of(PPOConfig(**PLAIN, bootstrap_truncated=True), trajectories, agent)
    asked = []
    values = trainer.policy.values
    trainer.policy.values = lambda histories: asked.extend(histories) or values(histories)
    found = trainer._bootstraps(trajectories)
    ends = [each.steps[-1] for each in trajectories]
    cut = [number for number, end in enumerate(ends) if end.truncated and not end.terminated]
    assert 0 < len(cut) < sum(end.truncated for end in ends)  # a win at the cap is no cut
    assert [each.admissible_commands for each in asked] == [trajectories[n].steps[-1].admissible_commands for n in cut]
    assert [each.observation for each in asked] == [trajectories[number].final_observation for number in cut]
    assert sorted(np.flatnonzero(found)) == cut


def test_whitened_advantages_have_mean_0_and_deviation_1_over_all_tokens():
    agent = agent_of("conversation")
    trajectories = paid(agent)
    plain = trainer_of(PPOConfig(**PLAIN), trajectories, agent)
    rows = plain.policy.rows(trajectories)
    recorded = plain._record(rows, [list(range(len(rows)))])
    before = np.concatenate(plain.targets(trajectories, rows, recorded, []).advantages)
    white = trainer_of(PPOConfig(), trajectories, agent).targets(trajectories, rows, recorded, [])
    after = np.concatenate(white.advantages)
    assert after == pytest.approx((before - before.mean()) / before.std(), abs=1e-9)
    assert [len(each) for each in white.advantages] == [len(row.turns) for row in rows]
    # What the values should be is not whitened.
    plain_returns = np.concatenate(plain.targets(trajectories, rows, recorded, []).returns)
    assert np.concatenate(white.returns) == pytest.approx(plain_returns)


def test_one_update_is_that_of_a_slow_independent_implementation(monkeypatch):
    agent = agent_of("choose", model=fresh_model(double=True))
    trajectories = paid(agent)
    config = PPOConfig(**PLAIN, value_coef=0.7, value_clip=None, gamma=0.8, lam=0.6, max_grad_norm=1e9)
    trainer = trainer_of(config, trajectories, agent)
    rows = trainer.policy.rows(trajectories)
    old = trainer.policy.read_all(rows)
    seen = gradients_of(trainer, monkeypatch)
    metrics = trainer.update(trajectories)
    trainer.policy.net.zero_grad()
    loss, place, count = torch.zeros((), dtype=torch.float64), 0, len(rows)
    for episode in trajectories:
        own = range(place, place + len(episode.steps))
        place += len(episode.steps)
        values = [old[index].values_N.item() for index in own]
        advantages = slow_gae([step.reward for step in episode.steps], values, [True] * len(values), 0.8, 0.6, 0.0)
        for index, advantage, value in zip(own, advantages, values, strict=True):
            reading = trainer.policy.read([rows[index]])
            ratio = (reading.logprobs_N[0] - old[index].logprobs_N[0]).exp()
            error = (reading.values_N[0] - (advantage + value)) ** 2
            loss = loss + (-ratio * advantage + 0.7 * 0.5 * error) / count
    loss.backward()
    expected = torch.cat([parameter.grad.reshape(-1) for parameter in trainer.policy.parameters])
    assert torch.allclose(seen[0], expected, atol=1e-6, rtol=0)
    assert metrics["train/loss"] == pytest.approx(loss.item(), abs=1e-6)
    assert trainer.policy.net.value.weight.grad.abs().max() > 1e-3


@pytest.mark.parametrize("setup", ["conversation", "choose"])
def test_without_rewards_values_or_divergence_nothing_moves(setup):
    agent = agent_of(setup)
    trajectories = [with_rewards(each, 0.0) for each in play(agent)]
    trainer = trainer_of(PPOConfig(learning_rate=0.1, value_coef=0.0), trajectories, agent, head=0.0)
    before = weights(trainer)
    trainer.update(trajectories)
    assert torch.equal(weights(trainer), before)
    # Rewards move them, through the policy alone and through the values.
    rewarded = [with_rewards(each, 1.0) for each in trajectories]
    for value_coef in (0.0, 0.5):
        other = trainer_of(PPOConfig(learning_rate=0.1, value_coef=value_coef), rewarded, agent_of(setup), head=0.0)
        other.update(rewarded)
        assert not torch.equal(weights(other), before)


def test_a_batch_without_any_advantage_still_teaches_values():
    """Values are 0 at first, so that whitened advantages of equal rewards are 0, but the values are wrong."""
    agent = agent_of("choose")
    trajectories = [with_rewards(each, 1.0) for each in play(agent, [0, 0, 0])]
    config = PPOConfig(epochs=1, minibatches=1, learning_rate=1e-2, gamma=1.0, lam=1.0)
    trainer = trainer_of(config, trajectories, agent, head=0.0)
    metrics = trainer.update(trajectories)
    assert metrics["rollout/trained_share"] == 1.0
    assert metrics["policy/advantage_std"] == 0.0
    assert metrics["value/loss"] == pytest.approx(0.5)  # (0 - 1)^2 / 2 everywhere
    rows = trainer.policy.rows(trajectories)
    assert min(reading.values_N.min().item() for reading in trainer.policy.read_all(rows)) > 0


def test_the_divergence_is_in_the_rewards_and_not_in_the_loss(monkeypatch):
    agent = agent_of("choose")
    trajectories = [with_rewards(each, 0.0) for each in play(agent)]
    config = PPOConfig(**PLAIN, kl_coef=0.5, value_coef=0.0, gamma=1.0, lam=1.0, learning_rate=1e-12)
    trainer = trainer_of(config, trajectories, agent, head=0.0)
    trainer.policy._reference = [each.detach().clone() for each in fresh_model(1).parameters()]
    rows = trainer.policy.rows(trajectories)
    recorded = trainer._record(rows, [list(range(len(rows)))])
    seen = tracked(trainer, monkeypatch)
    metrics = trainer.update(trajectories)
    (turns, logprobs) = seen[0]
    gaps = {(row.episode, row.turns[0]): (r.logprobs - r.reference)[0] for row, r in zip(rows, recorded, strict=True)}
    for (episode, turn), gradient in zip(turns, logprobs.grad.tolist(), strict=True):
        later = [gap for (number, place), gap in gaps.items() if number == episode and place >= turn]
        assert gradient == pytest.approx(0.5 * sum(later) / len(rows), rel=1e-4, abs=1e-9)
    estimate = np.mean([math.exp(-gap) - 1 + gap for gap in gaps.values()])
    assert metrics["policy/kl"] == pytest.approx(estimate, rel=1e-4)


def test_metrics_of_what_was_not_measured_are_left_out():
    agent = agent_of("choose")
    trajectories = paid(agent)
    assert "policy/kl" not in trainer_of(PPOConfig(), trajectories, agent).update(trajectories)


def test_rewards_sit_on_the_last_token_of_their_turn():
    agent = agent_of("conversation")
    (episode,) = [with_rewards(each, 4.0, [1.0, 2.0, 3.0, 0.5][: len(each.steps)]) for each in play(agent, [0])]
    trainer = trainer_of(PPOConfig(**PLAIN), [episode], agent)
    turn_T = np.array([0, 0, 0, 1, 2, 2, 3])
    nothing = Recorded(np.zeros(7), None, None, None)
    assert trainer._rewards(episode, turn_T, [nothing]).tolist() == [0, 0, 1, 2, 0, 3, 4.5]


def test_bad_settings_are_refused():
    agent = agent_of("choose")
    with pytest.raises(ValueError, match="value_head=True"):
        PPOTrainer(Policy(agent), PPOConfig(), Fresh(paid(agent)))
    for name in ("gamma", "lam"):
        with pytest.raises(ValueError, match=f"{name} must be in"):
            PPOConfig(**{name: 1.1})
    with pytest.raises(UnknownNameError, match="'turns'"):
        PPOConfig(discount="turns")
    for settings in ({"value_coef": -1.0}, {"value_clip": 0.0}):
        with pytest.raises(ValueError, match="value_coef must be at least 0"):
            PPOConfig(**settings)


def test_muon_leaves_the_value_head_to_adamw():
    trainer = trainer_of(PPOConfig(optimizer="muon"), paid(agent_of("choose")), agent_of("choose"))
    muon, adamw = (
        {id(parameter) for group in each.param_groups for parameter in group["params"]}
        for each in trainer.optimizer._optimizers
    )
    head = {id(parameter) for parameter in trainer.policy.net.value.parameters()}
    assert head <= adamw
    assert len(head) == 2
    assert not head & muon
    assert id(trainer.policy.agent.model.model.layers[0].mlp.up_proj.weight) in muon
