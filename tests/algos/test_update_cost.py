"""What an update computes no more often than necessary, with the same result as if it did."""

import numpy as np
import pytest
import torch

from agentgym_prm.algos.core import Logged
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.policy import Policy
from tests.algos.episodes import agent_of, fresh_model, play, with_rewards

OUTCOMES = (1.0, 0.0, 0.5, 0.0, 1.0, 0.25)


class Fresh(Logged):
    """Given trajectories that count as just sampled."""

    fresh = True


def trainer_of(agent, *, value_head=False, **settings):
    played = [with_rewards(*pair) for pair in zip(play(agent, [0, 1] * 3), OUTCOMES, strict=True)]
    config = GRPOConfig(batch_tokens=60, max_grad_norm=1e9, **settings)
    trainer = GRPOTrainer(Policy(agent, value_head=value_head), config, Fresh(played))
    return trainer, played


@pytest.mark.parametrize(("minibatches", "epochs"), [(1, 1), (1, 3), (3, 1), (3, 2)])
def test_rows_are_read_beforehand_only_after_the_first_minibatch(minibatches, epochs, monkeypatch):
    trainer, played = trainer_of(agent_of("conversation"), minibatches=minibatches, epochs=epochs)
    seen = {True: 0, False: 0}
    read = trainer.policy.read

    def counting(rows):
        seen[torch.is_grad_enabled()] += len(rows)
        return read(rows)

    monkeypatch.setattr(trainer.policy, "read", counting)
    trainer.update(played)
    # Six rows, six thirds by two: without gradients, two thirds of them if there are three minibatches.
    assert seen == {True: 6 * epochs, False: {1: 0, 3: 4}[minibatches]}


@pytest.mark.parametrize("setup", ["conversation", "choose"])
def test_old_log_probabilities_are_those_that_reading_all_rows_beforehand_gives(setup):
    """A policy with values reads all rows beforehand; GRPO has no use for the values, so all else is to be the same."""
    results = []
    for value_head in (False, True):
        agent = agent_of(setup, model=fresh_model())
        trainer, played = trainer_of(agent, value_head=value_head, minibatches=3, epochs=2, learning_rate=1e-2)
        metrics = trainer.update(played)
        results.append((metrics, [each.detach().clone() for each in agent.model.parameters()]))
    (first, weights), (second, again) = results
    assert first == second
    assert first["policy/clip_fraction"] > 0  # the ratios do matter
    assert "sampler/logprob_gap" in first
    assert all(torch.equal(*pair) for pair in zip(weights, again, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_entropies_have_gradients_exactly_if_there_is_a_bonus(temperature):
    agent = agent_of("conversation", model=fresh_model(double=True), temperature=temperature)
    values = []
    for coefficient in (0.0, 0.1):
        trainer, played = trainer_of(agent, entropy_coef=coefficient)
        row = trainer.policy.rows(played)[0]
        reading = trainer.policy.read([row])
        assert reading.logprobs_N.requires_grad
        assert reading.entropies_N.requires_grad == (coefficient > 0)
        values.append(reading.entropies_N.tolist())
    assert values[0] == values[1]
    logits = agent.model(input_ids=torch.tensor([row.token_ids])).logits[0][np.array(row.places) - 1] / temperature
    slow = torch.distributions.Categorical(logits=logits).entropy()
    assert values[0] == pytest.approx(slow.tolist(), rel=1e-5)
    expected = torch.autograd.grad(slow.sum(), list(agent.model.parameters()))
    seen = torch.autograd.grad(reading.entropies_N.sum(), list(agent.model.parameters()))
    assert all(torch.allclose(*pair, atol=1e-5, rtol=1e-5) for pair in zip(seen, expected, strict=True))
    assert max(float(each.abs().max()) for each in expected) > 0.01
