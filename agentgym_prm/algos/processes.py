"""Several processes that train one model, as ``accelerate launch`` starts them.

Every process does the same, except that each plays its own share of the episodes and reads its own share of the rows.
Episodes and readings are exchanged and gradients are summed, so that all processes hold the same weights, and the
result is that of one process up to the order in which floating-point numbers are added.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agentgym_prm.errors import needs_extra

with needs_extra("train"):
    import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes there are, and which one this is; ``rank`` counts from 0."""

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> "Processes":
        """The processes that a launcher started (it sets ``WORLD_SIZE``), connected; else this one alone.

        To be called before a model is loaded: only then does ``cuda`` mean this process's own GPU.

        Raises:
            RuntimeError: They could not be connected: each would train for itself, and write the same files.
        """
        expected = int(os.environ.get("WORLD_SIZE", "1"))
        if expected == 1:
            return cls()
        with needs_extra("train"):
            from accelerate import PartialState
            from accelerate.utils import parse_flag_from_env
        # It has to be told: it looks neither for a missing GPU nor for what ``accelerate launch --cpu`` sets.
        state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
        if state.num_processes != expected:
            raise RuntimeError(
                f"a launcher started {expected} processes, but {state.num_processes} are connected: LOCAL_RANK, RANK, "
                "MASTER_ADDR and MASTER_PORT must be set, as accelerate launch and torchrun do"
            )
        return cls(int(state.process_index), int(state.num_processes))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of what all are to do together."""
        return items[self.rank :: self.count]

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, those of the first one first."""
        if self.count == 1:
            return list(items)
        gathered: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(gathered, list(items))
        return [item for part in gathered for item in part]

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; one that is missing counts as 0."""
        if self.count == 1:
            return
        # One exchange for each type: a value head may have another one than the model.
        by_type: dict[torch.dtype, list[torch.nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            by_type.setdefault(parameter.dtype, []).append(parameter)
        for alike in by_type.values():
            flat = torch.cat([parameter.grad.reshape(-1) for parameter in alike if parameter.grad is not None])
            torch.distributed.all_reduce(flat)
            sizes = [parameter.numel() for parameter in alike]
            for parameter, part in zip(alike, torch.split(flat, sizes), strict=True):
                parameter.grad = part.view_as(parameter)

    def share_weights(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the weights of the first: new adapters or heads may have been drawn by each."""
        if self.count == 1:
            return
        for parameter in parameters:
            torch.distributed.broadcast(parameter.data, src=0)
