"""Several continuations of one prompt in one forward pass: the prompt once, behind it the tree of its replies.

Replies that begin alike share their tokens, and each token sees the prompt and the tokens before it in its own reply,
by an attention mask. What comes out is what the sequences would give one by one, for a fraction of the work: a prompt
of 100 tokens with 12 commands of 4 tokens takes 120 places instead of 1,250.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
    start, width = ids.shape[1], max(len(tree.tokens) for tree in trees)
    nodes = torch.full((len(trees), width), pad_id)
    depths = torch.zeros_like(nodes)
    sees = torch.zeros((len(trees), start + width, start + width), dtype=torch.bool)
    sees[:, :, :start] = mask[:, None, :].bool()
    sees[:, :start, :start] &= torch.ones((start, start), dtype=torch.bool).tril()
    for row, tree in enumerate(trees):
        count = len(tree.tokens)
        nodes[row, :count] = torch.tensor(tree.tokens, dtype=torch.long)
        depths[row, :count] = torch.tensor(tree.depths, dtype=torch.long)
        sees[row, start : start + count, start : start + count] = torch.from_numpy(tree.ancestors())
    lengths = mask.sum(1, keepdim=True)
    positions = torch.cat([(mask.cumsum(1) - 1).clamp(min=0), lengths + depths], 1)
    # The least number rather than minus infinity: rows of padding see nothing, and would be NaN.
    hidden = torch.where(sees, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]
    return PackedBatch(torch.cat([ids, nodes], 1), hidden, positions, width)


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both of shape ``(B, longest)``."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_id)
    mask = torch.zeros_like(ids)
    for place, prompt in enumerate(prompts):
        ids[place, longest - len(prompt) :] = torch.tensor(prompt)
        mask[place, longest - len(prompt) :] = 1
    return ids, mask


def takes_any_mask(model: Any) -> bool:
    """Whether a model's attention follows a mask of any form: not in flash attention, sliding windows or recurrence."""
    config = model.config
    windowed = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    recurrent = getattr(config, "sliding_window", None) is not None or hasattr(config, "state_size")
    return config._attn_implementation in ("eager", "sdpa") and not windowed and not recurrent


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
