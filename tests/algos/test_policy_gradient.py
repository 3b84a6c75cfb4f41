import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from agentgym_prm.algos.core import Logged
from agentgym_prm.algos.gigpo import GiGPOConfig, GiGPOTrainer
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.ms_po import MSPOConfig, MSPOTrainer
from agentgym_prm.algos.mt_grpo import MTGRPOConfig, MTGRPOTrainer
from agentgym_prm.algos.policy import Policy
from agentgym_prm.algos.policy_gradient import PolicyGradientConfig
from agentgym_prm.algos.rloo import RLOOConfig, RLOOTrainer
from agentgym_prm.errors import UnknownNameError
from tests.algos.episodes import SETUPS, agent_of, fresh_model, play, with_rewards

DOUBLE = 1e-6  # sums in float64, but the norms of Llama are computed in float32 all the same
OUTCOMES = (1.0, 0.0, 0.5, 0.0, 1.0, 0.25)


class Fresh(Logged):
    """Given trajectories that count as just sampled."""

    fresh = True


def batch_of(agent, outcomes=OUTCOMES):
    """Two groups, by turns, with these outcomes."""
    played = play(agent, [0, 1] * (len(outcomes) // 2))
    return [with_rewards(*pair) for pair in zip(played, outcomes, strict=True)]


def trainer_of(kind, config, agent, trajectories=(), source=Fresh, **options):
    trajectories = trajectories or batch_of(agent)
    trainer = kind(Policy(agent), config, source(trajectories), **options)
    trainer.policy.net.train()
    return trainer


def weights(trainer):
    return torch.cat([parameter.detach().reshape(-1).clone() for parameter in trainer.policy.parameters])


def gradients_of(trainer, monkeypatch):
    """The gradients before each step of the optimiser, which takes none; filled by ``trainer.update``."""
    seen = []

    def remember():
        seen.append(torch.cat([parameter.grad.reshape(-1).clone() for parameter in trainer.policy.parameters]))

    monkeypatch.setattr(trainer.optimizer, "step", remember)
    return seen


def tracked(trainer, monkeypatch):
    """Log-probabilities of every forward pass with gradients, by (episode, turn), with the gradients they get."""
    seen = []
    read = trainer.policy.read

    def reading(rows):
        result = read(rows)
        if torch.is_grad_enabled():
            result.logprobs_N.retain_grad()
            seen.append(([(row.episode, turn) for row in rows for turn in row.turns], result.logprobs_N))
        return result

    monkeypatch.setattr(trainer.policy, "read", reading)
    return seen


# --- every turn contributes ---


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("minibatches", [1, 3])
def test_each_action_token_gets_minus_its_advantage_times_its_weight(setup, level, minibatches, monkeypatch):
    """At ratio 1 the gradient of -w min(r A, clip(r) A) with respect to log p is -w A."""
    agent = agent_of(setup)
    trajectories = [
        with_rewards(episode, outcome, [0.1 * (turn + 1) * (number + 1) for turn in range(len(episode.steps))])
        for number, (episode, outcome) in enumerate(zip(play(agent, [0, 1] * 3), OUTCOMES, strict=True))
    ]
    config = MSPOConfig(loss_level=level, minibatches=minibatches, max_grad_norm=1e9, learning_rate=1e-12)
    trainer = trainer_of(MSPOTrainer, config, agent, trajectories)
    seen = tracked(trainer, monkeypatch)
    trainer.update(trajectories)
    advantages = trainer.advantages(trajectories)
    counts = {}
    for turns, _ in seen:
        for place in turns:
            counts[place] = counts.get(place, 0) + 1
    of_episode = [sum(count for (number, _), count in counts.items() if number == n) for n in range(6)]
    assert set(counts) == {(n, turn) for n, each in enumerate(trajectories) for turn in range(len(each.steps))}
    for turns, logprobs in seen:
        for (episode, turn), gradient in zip(turns, logprobs.grad.tolist(), strict=True):
            weight = 1 / sum(of_episode) if level == "token" else 1 / (6 * of_episode[episode])
            expected = -advantages[episode][turn] * weight * minibatches
            assert gradient == pytest.approx(expected, rel=1e-5)
            # Turn 0 is its group's mean nowhere; each turn that is compared with another has a gradient.
            assert (gradient != 0) == (advantages[episode][turn] != 0)
    assert sum(np.any(each) for each in advantages) == 6


# --- ratios ---


@pytest.mark.parametrize("setup", ["conversation", "choose"])
@pytest.mark.parametrize("minibatches", [1, 3])
@pytest.mark.parametrize("batch_tokens", [60, 8192])
def test_the_ratio_of_the_first_minibatch_is_exactly_one(setup, minibatches, batch_tokens, monkeypatch):
    agent = agent_of(setup, temperature=0.7)
    config = GRPOConfig(minibatches=minibatches, batch_tokens=batch_tokens, epochs=2, learning_rate=1e-2)
    trainer = trainer_of(GRPOTrainer, config, agent)
    steps = []
    step = trainer.step
    monkeypatch.setattr(trainer, "step", lambda losses: steps.append(step(losses)) or steps[-1])
    trainer.update(trainer.source.batch(agent, 0, config, trainer.processes))
    assert len(steps) == 2 * minibatches
    assert steps[0]["policy/ratio_max"] == 1.0
    assert steps[0]["policy/clip_fraction"] == 0.0
    assert steps[0]["policy/approx_kl"] == 0.0
    assert all(later["policy/ratio_max"] != 1.0 for later in steps[1:])


def test_old_log_probabilities_are_read_in_the_very_forward_passes_of_the_first_epoch(monkeypatch):
    """Else the ratio is 1 up to rounding only: other rows beside it change the last bits of a row in larger models."""
    agent = agent_of("choose")
    config = GRPOConfig(minibatches=3, epochs=2, batch_tokens=150, learning_rate=1e-12)
    trainer = trainer_of(GRPOTrainer, config, agent)
    passes = {True: [], False: []}
    read = trainer.policy.read

    def reading(rows):
        passes[torch.is_grad_enabled()].append([(row.episode, row.turns) for row in rows])
        return read(rows)

    monkeypatch.setattr(trainer.policy, "read", reading)
    trainer.update(batch_of(agent))
    before, trained = passes[False], passes[True]
    # The first minibatch is read when it is learned from; the others of the first epoch come next, in the same passes.
    first = trained.index(before[0])
    assert first > 0
    assert before == trained[first : first + len(before)]
    assert len(before) > 2
    epoch = [row for each in trained[: first + len(before)] for row in each]
    assert len(epoch) == len(set(epoch)) == sum(map(len, trained)) / 2


def test_logged_trajectories_keep_the_log_probabilities_of_whoever_sampled_them():
    agent = agent_of("choose", temperature=0.7)
    trajectories = batch_of(agent)
    other = agent_of("choose", temperature=0.7, model=fresh_model(1))
    config = GRPOConfig(learning_rate=1e-12, skip_uniform=False)
    trainer = trainer_of(GRPOTrainer, config, other, trajectories, source=Logged)
    rows = trainer.policy.rows(trajectories)
    read = np.concatenate([reading.logprobs_N.double().numpy() for reading in trainer.policy.read_all(rows)])
    sampled = np.array([each for row in rows for each in row.sampled])
    metrics = trainer.update(trajectories)
    assert metrics["policy/ratio_max"] == pytest.approx(math.exp(max(read - sampled)), rel=1e-4)
    assert metrics["policy/ratio_max"] > 1.2
    fresh = trainer_of(GRPOTrainer, config, other, trajectories).update(trajectories)
    assert fresh["policy/ratio_max"] == 1.0
    assert fresh["sampler/logprob_gap"] == pytest.approx(np.abs(read - sampled).mean(), rel=1e-4)
    assert fresh["sampler/logprob_gap_max"] == pytest.approx(np.abs(read - sampled).max(), rel=1e-4)
    # Nothing was read before the update, so there is no gap to tell.
    assert "sampler/logprob_gap" not in metrics


def test_logged_groups_come_whole_and_in_turn():
    agent = agent_of("choose")
    episodes = play(agent, [0, 0, 1, 1, 1, 0])
    source = Logged(episodes)
    config = GRPOConfig(tasks=2, group_size=2)
    batches = [[each.episode for each in source.batch(agent, update, config, None)] for update in range(3)]
    assert batches == [[0, 1, 2, 3, 4], [5, 0, 1], [2, 3, 4, 5]]
    many = source.batch(agent, 1, GRPOConfig(tasks=5), None)
    assert sorted(each.episode for each in many) == [0, 1, 2, 3, 4, 5]  # none twice
    with pytest.raises(ValueError, match="no trajectories"):
        Logged([])


def test_logged_trajectories_of_another_temperature_are_refused_before_anything_is_learned():
    episodes = play(agent_of("choose", temperature=0.7), [0, 0])
    with pytest.raises(ValueError, match=r"turn 0 of trajectory 0 was sampled at temperature 0\.7"):
        trainer_of(GRPOTrainer, GRPOConfig(group_size=2), agent_of("choose"), episodes, source=Logged)


# --- one update by hand ---


def slow_logprob(agent, history, action):
    """Log-probability of a choice, each command alone, with gradients."""
    totals = []
    prompt = agent.encoder.history(history).token_ids
    for command in history.admissible_commands:
        reply = agent.encoder.chat.reply_ids(command)
        logits = agent.model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
        rows = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
        totals.append(sum(row[token] for row, token in zip(rows, reply, strict=True)))
    return torch.log_softmax(torch.stack(totals), 0)[history.admissible_commands.index(action.command)]


# Group 0: outcomes 1, 0.5, 1: mean 5/6, deviations 1/6, -1/3, 1/6, sample variance (1/36 + 1/9 + 1/36) / 2 = 1/12.
# Group 1: outcomes 0, 0, 0.25: mean 1/12, deviations -1/12, -1/12, 1/6, variance (1/144 + 1/144 + 1/36) / 2 = 1/48.
HAND = [
    (1 / 6) * math.sqrt(12), (-1 / 12) * math.sqrt(48), (-1 / 3) * math.sqrt(12),
    (-1 / 12) * math.sqrt(48), (1 / 6) * math.sqrt(12), (1 / 6) * math.sqrt(48),
]  # fmt: skip


def test_a_divergence_that_teaches_nothing_is_refused():
    agent = agent_of("choose", model=fresh_model())
    with pytest.raises(ValueError, match="k1 has no gradient in expectation"):
        trainer_of(GRPOTrainer, GRPOConfig(kl_coef=0.1, kl_estimator="k1"), agent, batch_of(agent))


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("kl", [None, "k2", "k3"])
def test_one_update_of_grpo_is_that_of_a_slow_independent_implementation(level, kl, monkeypatch):
    reference = agent_of("choose", model=fresh_model(1, double=True))
    agent = agent_of("choose", model=fresh_model(double=True))
    trajectories = batch_of(agent)
    assert len({len(each.steps) for each in trajectories}) > 1  # or the levels would be the same
    config = GRPOConfig(
        loss_level=level, max_grad_norm=1e9, kl_coef=0.0 if kl is None else 0.3, kl_estimator=kl or "k3"
    )
    trainer = trainer_of(GRPOTrainer, config, agent, trajectories)
    if kl is not None:
        trainer.policy._reference = [each.detach().clone() for each in reference.model.parameters()]
    (seen, metrics) = gradients_of(trainer, monkeypatch), trainer.update(trajectories)

    trainer.policy.net.zero_grad()
    turns = sum(len(each.steps) for each in trajectories)
    loss = torch.zeros((), dtype=torch.float64)
    for episode, advantage in zip(trajectories, HAND, strict=True):
        for turn, step in enumerate(episode.steps):
            logprob = slow_logprob(agent, episode.history(turn), step.action)
            term = -advantage * (logprob - logprob.detach()).exp()
            if kl is not None:
                with torch.no_grad():
                    gap = slow_logprob(reference, episode.history(turn), step.action)
                d = logprob - gap
                term = term + 0.3 * {"k2": d**2 / 2, "k3": (-d).exp() - 1 + d}[kl]
            loss = loss + term / (turns if level == "token" else 6 * len(episode.steps))
    loss.backward()
    expected = torch.cat([parameter.grad.reshape(-1) for parameter in trainer.policy.parameters])
    assert metrics["train/loss"] == pytest.approx(loss.item(), abs=DOUBLE)
    assert torch.allclose(seen[0], expected, atol=DOUBLE, rtol=0)
    assert metrics["train/grad_norm"] == pytest.approx(expected.norm().item(), rel=1e-4)
    assert expected.abs().max() > 0.01
    assert metrics["policy/advantage_std"] == pytest.approx(
        np.repeat(HAND, [len(each.steps) for each in trajectories]).std(), rel=1e-6
    )


def test_an_entropy_bonus_is_the_weighted_mean_entropy(monkeypatch):
    agent = agent_of("choose")
    trajectories = [with_rewards(each, 1.0) for each in play(agent, [0, 1])]  # no advantages: only the bonus is left
    config = GRPOConfig(entropy_coef=0.5, skip_uniform=False, loss_level="token")
    trainer = trainer_of(GRPOTrainer, config, agent, trajectories)
    rows = trainer.policy.rows(trajectories)
    mean = np.mean([each for reading in trainer.policy.read_all(rows) for each in reading.entropies_N.tolist()])
    metrics = trainer.update(trajectories)
    assert metrics["policy/entropy"] == pytest.approx(mean, rel=1e-5)
    assert metrics["train/loss"] == pytest.approx(-0.5 * mean, rel=1e-5)


@pytest.mark.parametrize("setup", ["conversation", "choose"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_minibatches_add_up_to_the_gradient_of_the_batch(setup, level, monkeypatch):
    agent = agent_of(setup, model=fresh_model(double=True))
    trajectories = batch_of(agent)

    def gradients(**settings):
        config = GRPOConfig(loss_level=level, max_grad_norm=1e9, **settings)
        trainer = trainer_of(GRPOTrainer, config, agent, trajectories)
        seen = gradients_of(trainer, monkeypatch)
        metrics = trainer.update(trajectories)
        return torch.stack(seen), metrics

    whole, metrics = gradients()
    for settings in ({"batch_tokens": 1}, {"batch_tokens": 70}, {"batch_tokens": 100_000}):
        again, _ = gradients(**settings)
        assert torch.allclose(again, whole, atol=DOUBLE, rtol=0)
    parts, of_parts = gradients(minibatches=3)
    assert len(parts) == 3
    assert torch.allclose(parts.mean(0), whole[0], atol=DOUBLE, rtol=0)
    assert not torch.allclose(parts[0], whole[0], atol=1e-3, rtol=0)
    # Metrics are means, too: those of the policy before the update do not depend on how it was cut.
    for name in ("train/loss", "policy/entropy", "policy/advantage_std", "train/action_tokens"):
        assert of_parts[name] == pytest.approx(metrics[name], abs=DOUBLE)


def test_all_rows_are_in_each_epoch_once_and_in_another_order():
    agent = agent_of("choose")
    trainer = trainer_of(GRPOTrainer, GRPOConfig(epochs=2, minibatches=3), agent)
    rows = trainer.policy.rows(batch_of(agent))
    first, second = trainer.plan(rows)
    for epoch in (first, second):
        assert sorted(index for minibatch in epoch for index in minibatch) == list(range(len(rows)))
        assert max(map(len, epoch)) - min(map(len, epoch)) <= 1
    assert first != second
    assert trainer.plan(rows) == [first, second]
    trainer.done = 1
    assert trainer.plan(rows) != [first, second]
    assert [len(minibatch) for minibatch in trainer.plan(rows[:2])[0]] == [1, 1]


# --- what is left out ---


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_leaving_out_trajectories_changes_no_advantage_of_the_others(scale, monkeypatch):
    """The third of a group is its mean; without it, the deviation of the others would be another one."""
    agent = agent_of("choose")
    outcomes = (1.0, 1.0, 0.5, 1.0, 0.0, 1.0)  # group 0: 1, 0.5, 0; group 1: all the same
    trajectories = batch_of(agent, outcomes)
    trainer = trainer_of(GRPOTrainer, GRPOConfig(scale=scale, learning_rate=1e-12), agent, trajectories)
    seen = tracked(trainer, monkeypatch)
    metrics = trainer.update(trajectories)
    assert metrics["rollout/trained_share"] == pytest.approx(2 / 6)
    (turns, logprobs) = seen[0]
    # Group 0 has deviation 0.5. All outcomes: mean 0.75, squares 4/16 + 1/16 + 9/16 = 14/16, over 5.
    unit = {"group": 0.5, "batch": math.sqrt(14 / 16 / 5), "none": 1.0}[scale]
    sizes = [len(trajectories[0].steps), len(trajectories[4].steps)]
    for (episode, _), gradient in zip(turns, logprobs.grad.tolist(), strict=True):
        sign = (1, -1)[episode]
        assert gradient == pytest.approx(-sign * 0.5 / unit / (2 * sizes[episode]), rel=1e-5)


def test_without_any_advantage_nothing_is_trained():
    agent = agent_of("choose")
    trajectories = [with_rewards(each, 1.0) for each in play(agent, [0, 0, 1])]
    trainer = trainer_of(GRPOTrainer, GRPOConfig(learning_rate=1.0), agent, trajectories)
    before = weights(trainer)
    assert trainer.update(trajectories) == {"rollout/trained_share": 0.0}
    assert torch.equal(weights(trainer), before)
    kept = trainer_of(GRPOTrainer, GRPOConfig(skip_uniform=False), agent, trajectories)
    assert kept.update(trajectories)["rollout/trained_share"] == 1.0


# --- limits ---


def after_an_update(kind, config, trajectories):
    agent = agent_of("choose")
    trainer = trainer_of(kind, config, agent, trajectories)
    before = weights(trainer)
    trainer.update(trajectories)
    assert not torch.equal(weights(trainer), before)
    return weights(trainer)


def test_algorithms_agree_exactly_where_they_are_the_same():
    trajectories = batch_of(agent_of("choose"))
    paid = [
        with_rewards(each, each.outcome, [0.3 * turn - 0.1 * number for turn in range(len(each.steps))])
        for number, each in enumerate(trajectories)
    ]
    settings = {"learning_rate": 1e-2, "minibatches": 2, "epochs": 2}
    grpo = after_an_update(GRPOTrainer, GRPOConfig(**settings), paid)
    assert torch.equal(after_an_update(MTGRPOTrainer, MTGRPOConfig(turn_coef=0.0, **settings), paid), grpo)
    assert torch.equal(after_an_update(GRPOTrainer, GRPOConfig(rewards="merged", **settings), trajectories), grpo)
    assert torch.equal(after_an_update(GiGPOTrainer, GiGPOConfig(omega=0.0, **settings), trajectories), grpo)
    # Where they are not, they are not.
    merged = after_an_update(GRPOTrainer, GRPOConfig(rewards="merged", **settings), paid)
    for other in (
        merged,
        after_an_update(MTGRPOTrainer, MTGRPOConfig(**settings), paid),
        after_an_update(RLOOTrainer, RLOOConfig(**settings), paid),
        after_an_update(MSPOTrainer, MSPOConfig(**settings), paid),
        after_an_update(GiGPOTrainer, GiGPOConfig(**settings), trajectories),
    ):
        assert not torch.equal(other, grpo)


def test_rloo_compares_with_the_others_of_the_group():
    """Group 0: 1, 0.5, 1; group 1: 0, 0, 0.25."""
    agent = agent_of("choose")
    trajectories = batch_of(agent)
    trainer = trainer_of(RLOOTrainer, RLOOConfig(), agent, trajectories)
    expected = [1 - 0.75, 0 - 0.125, 0.5 - 1, 0 - 0.125, 1 - 0.75, 0.25 - 0]
    for advantages, value, each in zip(trainer.advantages(trajectories), expected, trajectories, strict=True):
        assert advantages == pytest.approx([value] * len(each.steps))


def test_gigpo_compares_what_was_done_with_the_same_observation_and_commands():
    agent = agent_of("choose")
    trajectories = batch_of(agent)
    trainer = trainer_of(GiGPOTrainer, GiGPOConfig(scale="none", gamma=1.0), agent, trajectories)
    advantages = trainer.advantages(trajectories)
    # The opening of a task is the same state for its whole group, and the return of all its turns the outcome: so the
    # comparison there is that of the episodes, twice.
    deviations = [1 / 6, -1 / 12, -1 / 3, -1 / 12, 1 / 6, 1 / 6]
    assert [each[0] for each in advantages] != pytest.approx(deviations)
    openings = [with_first_only(each) for each in trajectories]
    firsts = trainer.advantages(openings)
    assert [each[0] for each in firsts] == pytest.approx([2 * each for each in deviations])
    apart = [
        replace(each, steps=(replace(each.steps[0], admissible_commands=(str(number),)),))
        for number, each in enumerate(openings)
    ]
    assert [each[0] for each in trainer.advantages(apart)] == pytest.approx(deviations)


def with_first_only(trajectory):
    return replace(trajectory, steps=(replace(trajectory.steps[0], outcome_reward=trajectory.outcome),))


# --- settings ---


def test_bad_settings_are_refused():
    for name, value in [("epochs", 0), ("minibatches", 0), ("kl_coef", -1.0), ("entropy_coef", -0.1)]:
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            PolicyGradientConfig(**{name: value})
    for settings in ({"clip_low": 0.0}, {"clip_low": 1.5}, {"clip_high": 0.0}):
        with pytest.raises(ValueError, match="clip_low must be in"):
            PolicyGradientConfig(**settings)
    for name, value in [("kl_estimator", "k4"), ("loss_level", "turn")]:
        with pytest.raises(UnknownNameError, match=value):
            PolicyGradientConfig(**{name: value})
    with pytest.raises(UnknownNameError, match="did you mean 'merged'"):
        GRPOConfig(rewards="merge")
    with pytest.raises(UnknownNameError, match="did you mean 'group'"):
        MTGRPOConfig(scale="groups")
    for kind in (GRPOConfig, MTGRPOConfig, MSPOConfig, GiGPOConfig, RLOOConfig):
        with pytest.raises(ValueError, match="group_size must be at least 2"):
            kind(group_size=1)
    for kind in (MSPOConfig, GiGPOConfig):
        with pytest.raises(ValueError, match="gamma must be in"):
            kind(gamma=1.5)
