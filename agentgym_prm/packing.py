"""Several continuations of one prompt in one forward pass: the prompt once, behind it the tree of its replies.

Replies that begin alike share their tokens, and each token sees the prompt and the tokens before it in its own reply,
by an attention mask. What comes out is what the sequences would give one by one, for a fraction of the work: a prompt
of 100 tokens with 12 commands of 4 tokens takes 120 places instead of 1,250.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.errors import needs_extra

with needs_extra("train"):
    import torch


@dataclass(slots=True)
class ReplyTree:
    """Token sequences that share their beginnings.

    Attributes:
        tokens: Token of each node.
        depths: How many nodes lie before it on its way from the prompt.
        parents: The place before it: 0 for the prompt's end, node index + 1 else.
        paths: For each reply the places from the prompt's end on, one more than it has tokens: place ``k`` is where
            the reply's token ``k`` is predicted, and the last is where the whole reply has been read.
    """

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, replies: Sequence[Sequence[int]]) -> "ReplyTree":
        """The tree of the replies."""
        tree = cls()
        known: dict[tuple[int, int], int] = {}
        for reply in replies:
            path = [0]
            for depth, token in enumerate(reply):
                key = (path[-1], token)
                if key not in known:
                    tree.tokens.append(token)
                    tree.depths.append(depth)
                    tree.parents.append(path[-1])
                    known[key] = len(tree.tokens)
                path.append(known[key])
            tree.paths.append(path)
        return tree

    def ancestors(self) -> NDArray[np.bool_]:
        """Which nodes each node sees, shape ``(nodes, nodes)``: itself and those on its way from the prompt."""
        sees = np.eye(len(self.tokens), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent:
                sees[node] |= sees[parent - 1]
        return sees


CPU_PLACES: Final = 1024
"""Places of a forward pass that a core's cache holds for a small model."""


class PackedBatch(NamedTuple):
    """Inputs of a model; ``tree_width`` is the number of places behind the prompts, padding included."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    tree_width: int

    def to(self, device: torch.device) -> "PackedBatch":
        """The same on a device."""
        return PackedBatch(
            self.input_ids.to(device), self.attention_mask.to(device), self.position_ids.to(device), self.tree_width
        )


def pack(
    prompts: Sequence[Sequence[int]], trees: Sequence[ReplyTree], *, pad_id: int, dtype: torch.dtype
) -> PackedBatch:
    """Prompts, padded on the left, each followed by its tree, padded on the right.

    Args:
        prompts: Token ids.
        trees: One for each prompt.
        pad_id: Fills places that nothing sees.
        dtype: Type of the model's weights, for the additive attention mask of shape ``(B, 1, places, places)``.

    Place ``k`` of a tree's paths is at ``input_ids[:, prompt_width - 1 + k]``, so with ``logits_to_keep=tree_width+1``
    it is at index ``k``.
    """
    ids, mask = pad_left(prompts, pad_id)
    lengths = mask.sum(1, keepdim=True)
    counts = np.array([len(tree.tokens) for tree in trees])
    nodes, depths, parents = (
        torch.from_numpy(_padded([getattr(tree, name) for tree in trees], counts, filler))
        for name, filler in (("tokens", pad_id), ("depths", 0), ("parents", 0))
    )
    hidden = _hidden(lengths[:, 0].numpy(), counts, parents.numpy(), ids.shape[1], dtype)
    positions = torch.cat([(mask.cumsum(1) - 1).clamp(min=0), lengths + depths], 1)
    return PackedBatch(torch.cat([ids, nodes], 1), hidden, positions, nodes.shape[1])


def _hidden(
    lengths: NDArray[np.int64], counts: NDArray[np.int64], parents: NDArray[np.int64], start: int, dtype: torch.dtype
) -> torch.Tensor:
    """The additive mask: 0 where a place sees another, the least number of ``dtype`` where it does not.

    The least number rather than minus infinity: rows of padding see nothing, and would be NaN.
    """
    batch, width = parents.shape
    least = torch.finfo(dtype).min
    # What all rows share first: a prompt's places see those before them, and a tree's places see the prompt.
    shared = np.full((start + width, start + width), least, dtype=_numpy_type(dtype))
    shared[:start, :start][np.tri(start, dtype=np.bool_)] = 0
    shared[start:, :start] = 0
    hidden = np.repeat(shared[None], batch, axis=0)
    for row, length in enumerate(lengths.tolist()):
        hidden[row, :, : start - length] = least
    rows, places = np.nonzero(np.arange(width) < counts[:, None])
    seen = places + 1
    while len(rows):
        # One step nearer to the prompt at a time: itself, its parent, the parent of that one, …
        hidden[rows, start + places, start + seen - 1] = 0
        seen = parents[rows, seen - 1]
        rows, places, seen = rows[seen > 0], places[seen > 0], seen[seen > 0]
    return torch.from_numpy(hidden).to(dtype)[:, None]


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both of shape ``(B, longest)``."""
    lengths = np.array([len(prompt) for prompt in prompts])
    ids = _padded(prompts, lengths, pad_id, left=True)
    mask = np.arange(ids.shape[1]) >= ids.shape[1] - lengths[:, None]
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def _padded(
    rows: Sequence[Sequence[int]], lengths: NDArray[np.int64], filler: int, *, left: bool = False
) -> NDArray[np.int64]:
    """Rows of different lengths as one array."""
    longest = int(lengths.max())
    places = np.arange(longest)
    padded = np.full((len(rows), longest), filler, dtype=np.int64)
    filled = places >= longest - lengths[:, None] if left else places < lengths[:, None]
    padded[filled] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return padded


def _numpy_type(dtype: torch.dtype) -> type[np.floating[Any]]:
    """NumPy has no bfloat16; float32 holds all its numbers."""
    return np.float64 if dtype == torch.float64 else np.float32


def takes_any_mask(model: Any) -> bool:
    """Whether a model's attention follows a mask of any form: not in flash attention, sliding windows or recurrence."""
    config = model.config
    windowed = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    recurrent = getattr(config, "sliding_window", None) is not None or hasattr(config, "state_size")
    return config._attn_implementation in ("eager", "sdpa") and not windowed and not recurrent


def places_at_once(batch_tokens: int, device: torch.device) -> int:
    """Most places of one packed forward pass: ``batch_tokens``, but on a CPU few enough to stay in its cache.

    There a pass over 1,024 places takes less than half the time for each that one over 8,192 takes
    (benchmarks/LOG.md).
    """
    return min(batch_tokens, CPU_PLACES) if device.type == "cpu" else batch_tokens


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, of at most ``batch_tokens`` places with padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
