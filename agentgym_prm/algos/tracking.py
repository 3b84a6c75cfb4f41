"""Metrics to TensorBoard or Weights & Biases, for those who ask; ``metrics.jsonl`` is written in any case."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from agentgym_prm.errors import UnknownNameError, needs_extra

TRACKERS: Final = ("tensorboard", "wandb")


class Tracker(Protocol):
    """Gets the metrics of each update."""

    def log(self, metrics: Mapping[str, float], update: int) -> None:
        """Record them."""

    def close(self) -> None:
        """Write what is left."""


def open_tracker(kind: str, folder: str | Path, settings: Mapping[str, Any] | None = None) -> Tracker:
    """A tracker that writes below ``folder``.

    Args:
        kind: One of ``TRACKERS``.
        folder: The run's folder; its name is the run's.
        settings: What the run was started with.

    Raises:
        MissingDependencyError: Its library is not installed.
    """
    if kind not in TRACKERS:
        raise UnknownNameError.of("tracker", kind, TRACKERS)
    return _TensorBoard(Path(folder)) if kind == "tensorboard" else _Wandb(Path(folder), settings or {})


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        with needs_extra("track"):
            from torch.utils.tensorboard import SummaryWriter
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def log(self, metrics: Mapping[str, float], update: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        with needs_extra("track"):
            import wandb
        self._run: Any = wandb.init(name=folder.name, dir=str(folder), config=dict(settings), resume="allow")

    def log(self, metrics: Mapping[str, float], update: int) -> None:
        self._run.log(dict(metrics), step=update)

    def close(self) -> None:
        self._run.finish()
