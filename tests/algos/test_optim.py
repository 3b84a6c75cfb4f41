import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from agentgym_prm.algos.optim import make_optimizer, warm_cosine
from agentgym_prm.errors import UnknownNameError
from tests.chat_models import chat_model

OUTER = {"model.embed_tokens.weight", "lm_head.weight"}


def fresh_model():
    return chat_model.__wrapped__(seed=1)


def names_of(model, groups):
    """Names of a model's parameters by group."""
    names = {id(value): name for name, value in model.named_parameters()}
    return [{names[id(each)] for each in group["params"]} for group in groups]


def matrices_and_vectors(model):
    inner = {name for name, value in model.named_parameters() if value.ndim == 2} - OUTER
    return inner, {name for name, value in model.named_parameters() if value.ndim == 1}


def test_muon_takes_the_matrices_inside_the_layers_and_adamw_the_rest():
    model = fresh_model()
    inner, vectors = matrices_and_vectors(model)
    assert len(inner) == 2 * 7  # four of attention and three of the feed-forward part in each of two layers
    assert len(vectors) == 2 * 2 + 1  # norms
    optimizer = make_optimizer(model.named_parameters(), "muon", 1e-2, weight_decay=0.1)
    assert names_of(model, optimizer.param_groups) == [inner, OUTER, vectors]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0]


def test_adamw_takes_everything_and_vectors_do_not_decay():
    model = fresh_model()
    inner, vectors = matrices_and_vectors(model)
    optimizer = make_optimizer(model.named_parameters(), "adamw", 1e-2, weight_decay=0.1)
    assert type(optimizer) is torch.optim.AdamW
    assert names_of(model, optimizer.param_groups) == [inner | OUTER, vectors]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_frozen_parameters_are_left_alone():
    model = fresh_model()
    for name, value in model.named_parameters():
        value.requires_grad_("layers.1." in name)
    for kind in ("adamw", "muon"):
        taken = set().union(*names_of(model, make_optimizer(model.named_parameters(), kind, 1e-2).param_groups))
        assert taken == {name for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_matrices_alone_or_vectors_alone_are_no_problem(kind):
    """As with LoRA adapters, of which muon takes all."""
    matrix, vector = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,)))
    for name, parameter in (("layer.lora_A", matrix), ("norm", vector)):
        optimizer = make_optimizer([(name, parameter)], kind, 0.1)
        assert [group["params"] for group in optimizer.param_groups] == [[parameter]]
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        assert (parameter < 1).all()


def test_the_first_step_of_adamw_by_hand():
    """At first the update is lr * g / (|g| + eps); a matrix first shrinks by lr * decay."""
    matrix, vector = (torch.nn.Parameter(torch.tensor(value)) for value in ([[2.0, -1.0]], [3.0, 0.5]))
    optimizer = make_optimizer([("w", matrix), ("b", vector)], "adamw", 0.1, weight_decay=0.5)
    matrix.grad, vector.grad = torch.tensor([[4.0, -0.01]]), torch.tensor([-2.0, 0.0])
    optimizer.step()
    assert matrix.flatten().tolist() == pytest.approx([2 * 0.95 - 0.1, -1 * 0.95 + 0.1])
    assert vector.tolist() == pytest.approx([3 + 0.1, 0.5])


def train(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        ids = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(step))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()])


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_saved_optimiser_continues_bit_by_bit(kind, tmp_path):
    whole = fresh_model()
    train(whole, optimizer := make_optimizer(whole.named_parameters(), kind, 1e-2, 0.1), 3)
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "saved")
    train(whole, optimizer, 2, first=3)
    saved = torch.load(tmp_path / "saved", weights_only=True)
    resumed = fresh_model()
    resumed.load_state_dict(saved["model"])
    again = make_optimizer(resumed.named_parameters(), kind, 1e-2, 0.1)
    again.load_state_dict(saved["optimizer"])
    train(resumed, again, 2, first=3)
    assert torch.equal(weights(resumed), weights(whole))
    # Without the optimiser's state it goes another way.
    forgetful = fresh_model()
    forgetful.load_state_dict(saved["model"])
    train(forgetful, make_optimizer(forgetful.named_parameters(), kind, 1e-2, 0.1), 2, first=3)
    assert not torch.equal(weights(forgetful), weights(whole))


@pytest.mark.parametrize("restored", [False, True])
def test_a_schedule_reaches_both_parts(restored):
    model = fresh_model()
    optimizer = make_optimizer(model.named_parameters(), "muon", 1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step == 0 else 0.0)
    train(model, optimizer, 1)
    if restored:
        optimizer.load_state_dict(optimizer.state_dict())
    schedule.step()
    before = weights(model)
    train(model, optimizer, 1, first=1)
    assert torch.equal(weights(model), before)  # a learning rate of 0 moves nothing
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    moved = {name: value.detach().clone() for name, value in model.named_parameters()}
    train(model, optimizer, 1, first=2)
    assert all(not torch.equal(value, moved[name]) for name, value in model.named_parameters())


def test_the_closure_is_called_once_and_its_loss_returned():
    model = fresh_model()
    optimizer = make_optimizer(model.named_parameters(), "muon", 1e-2)
    calls = SimpleNamespace(count=0)

    def closure():
        calls.count += 1
        return 1.5

    assert optimizer.step(closure) == 1.5
    assert calls.count == 1


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'muon'"):
        make_optimizer([], "moun", 0.1)


def test_the_schedule_rises_in_a_line_and_falls_like_half_a_cosine():
    shares = [warm_cosine(step, 14, 0.25, 0.2) for step in range(15)]
    # ceil(0.25 * 14) = 4 steps of warm-up, then 10 of cosine; half way between 1 and 0.2 after 5 of them.
    assert shares[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert shares[9] == pytest.approx(0.6)
    assert shares[14] == pytest.approx(0.2)
    assert shares[13] == pytest.approx(0.2 + 0.8 * (1 + math.cos(0.9 * math.pi)) / 2)
    assert all(before > after for before, after in pairwise(shares[4:]))
    assert warm_cosine(0, 5, 0.0, 0.0) == 1.0
    assert warm_cosine(0, 1, 0.03, 0.0) == 1.0
