"""The algorithms by name, and the settings that each is started with: the paper's, or those for a tiny model.

The paper's learning rates (about 1e-6) are for pretrained models of billions of parameters; a model from scratch with a
few hundred thousand learns nothing at these. What is tiny is told by the width: see ``is_tiny``.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agentgym_prm.algos.core import Trainer, TrainerConfig
from agentgym_prm.algos.gigpo import GiGPOConfig, GiGPOTrainer
from agentgym_prm.algos.grpo import GRPOConfig, GRPOTrainer
from agentgym_prm.algos.ms_po import MSPOConfig, MSPOTrainer
from agentgym_prm.algos.mt_grpo import MTGRPOConfig, MTGRPOTrainer
from agentgym_prm.algos.online_dpo import OnlineDPOConfig, OnlineDPOTrainer
from agentgym_prm.algos.ppo import PPOConfig, PPOTrainer
from agentgym_prm.algos.rloo import RLOOConfig, RLOOTrainer
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.models import TINY

TINY_WIDTH: Final = 256
"""Models narrower than this are tiny; the narrowest pretrained chat models are more than twice as wide."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm on trajectories, with what it is started with.

    Attributes:
        trainer: Its class: a ``Trainer``, made from a policy, a scorer if ``judged``, settings and a source.
        config: The class of its settings, whose defaults are the paper's.
        paper: Settings for a pretrained model where they are not the class's defaults.
        tiny: Settings for a tiny model where they are not those of ``paper``.
        values: Whether the policy needs a value head.
        judged: Whether it learns from a scorer of actions instead of rewards.
    """

    trainer: Callable[..., Trainer]
    config: type[TrainerConfig]
    paper: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    values: bool = False
    judged: bool = False

    def preset(self, *, tiny: bool) -> Any:
        """The settings to start with, of class ``config``."""
        return self.config(**self.paper, **(self.tiny if tiny else {}))


_EVALUATED: Final = {"eval_every": 10}
_MERGED: Final = {**_EVALUATED, "rewards": "merged"}
"""Process rewards count if there are any; without them it is the outcome."""
_TINY_ANY: Final = {"learning_rate": 1e-3, "optimizer": "muon"}
_TINY: Final = {**_TINY_ANY, "minibatches": 2, "loss_level": "token", "recompute_logprobs": False}
"""Found on development games (benchmarks/LOG.md); the sampler's log-probabilities are good to 1e-5."""

ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "grpo": Algorithm(GRPOTrainer, GRPOConfig, _MERGED, _TINY),
    # Any turn may be an episode's last in a household, and none is an answer.
    "mt_grpo": Algorithm(MTGRPOTrainer, MTGRPOConfig, {**_EVALUATED, "last_turn": True}, _TINY),
    "ms_po": Algorithm(MSPOTrainer, MSPOConfig, _EVALUATED, _TINY),
    "gigpo": Algorithm(GiGPOTrainer, GiGPOConfig, _EVALUATED, _TINY),
    "rloo": Algorithm(RLOOTrainer, RLOOConfig, _MERGED, _TINY),
    "ppo": Algorithm(PPOTrainer, PPOConfig, _EVALUATED, {**_TINY, "epochs": 2}, values=True),
    "online_dpo": Algorithm(
        OnlineDPOTrainer,
        OnlineDPOConfig,
        _EVALUATED,
        {**_TINY_ANY, "histories": 512, "minibatches": 4, "samples": 4, "beta": 0.1, "updates": 40},
        judged=True,
    ),
}
"""All of them, by the names that they have on the command line."""


def algorithm(name: str) -> Algorithm:
    """The algorithm called ``name``.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in ALGORITHMS:
        raise UnknownNameError.of("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def model_width(model: str | Path) -> int | None:
    """Width of the model in a folder; ``None`` where no ``config.json`` tells it, as for a name on the hub."""
    path = Path(model) / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    width = config.get("hidden_size", config.get("text_config", {}).get("hidden_size"))
    return int(width) if width is not None else None


def is_tiny(model: str | Path) -> bool:
    """Whether a model is one from scratch: ``"tiny"``, or a folder of one narrower than ``TINY_WIDTH``."""
    if str(model) == TINY:
        return True
    width = model_width(model)
    return width is not None and width < TINY_WIDTH
