"""Optimisers and the learning-rate schedule that the training loops share."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from agentgym_prm.errors import UnknownNameError, needs_extra

with needs_extra("train"):
    import torch

OPTIMIZERS: Final = ("adamw", "muon")


def make_optimizer(
    parameters: Iterable[tuple[str, torch.nn.Parameter]], kind: str, learning_rate: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """An optimiser of the parameters that take gradients.

    Args:
        parameters: As ``model.named_parameters()`` gives them.
        kind: ``"adamw"``, or ``"muon"``: orthogonalised momentum for the weight matrices inside the layers, AdamW for
            embeddings, heads and vectors. It takes several times fewer steps to train a model from scratch
            (benchmarks/sft_tiny.py); for fine-tuning a pretrained model AdamW is the usual choice.
        learning_rate: Highest learning rate; Muon's updates are scaled to the size of AdamW's, so one serves both.
        weight_decay: Decay of matrices; vectors (norms, biases) have none.

    Source of Muon: K. Jordan et al., 2024; scale as in arXiv:2502.16982.
    """
    if kind not in OPTIMIZERS:
        raise UnknownNameError.of("optimizer", kind, OPTIMIZERS)
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    hidden = [p for name, p in named if kind == "muon" and p.ndim == 2 and not _is_outer(name)]
    taken = {id(p) for p in hidden}
    matrices = [p for _, p in named if p.ndim > 1 and id(p) not in taken]
    vectors = [p for _, p in named if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    filled = [group for group in groups if group["params"]]
    if not hidden:
        return torch.optim.AdamW(filled, lr=learning_rate)
    muon = torch.optim.Muon(hidden, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    # LoRA adapters are all Muon's, and an optimiser of nothing is an error.
    return _Both(muon, torch.optim.AdamW(filled, lr=learning_rate)) if filled else muon


def warm_cosine(step: int, total: int, warmup: float, final: float) -> float:
    """Share of the highest learning rate at a step (from 0): linear warm-up, then half a cosine down to ``final``.

    >>> [round(warm_cosine(step, 10, 0.2, 0.0), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    warm = math.ceil(warmup * total)
    if step < warm:
        return (step + 1) / warm
    share = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
    return final + (1 - final) * share


def _is_outer(name: str) -> bool:
    parts = name.split(".")
    # ``value`` on top is a policy's value head; inside a layer it may be a part of attention.
    return parts[0] == "value" or any(part in ("embed_tokens", "wte", "wpe", "lm_head", "score") for part in parts)


class _Both(torch.optim.Optimizer):
    """Two optimisers stepped as one; learning rates are set through the shared ``param_groups``."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self._optimizers = optimizers
        super().__init__([group for each in optimizers for group in each.param_groups], {})
        self._share_groups()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for optimizer in self._optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [each.state_dict() for each in self._optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self._optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """The very dictionaries of the parts, so that a schedule that writes into them reaches the parts."""
        self.param_groups = [group for each in self._optimizers for group in each.param_groups]
