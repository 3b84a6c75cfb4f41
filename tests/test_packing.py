import random

import numpy as np
import pytest
import torch

from agentgym_prm.packing import ReplyTree, pack, pad_left


def sees(start: int, lengths: list[int], trees: list[ReplyTree], width: int) -> np.ndarray:
    """Which place sees which, place by place."""
    table = np.zeros((len(trees), start + width, start + width), dtype=bool)
    for row, (length, tree) in enumerate(zip(lengths, trees, strict=True)):
        prompt = range(start - length, start)
        for place in range(start + width):
            for other in prompt:
                # What fills up a tree sees the prompt; what fills up a prompt sees nothing.
                table[row, place, other] = other <= place
        for node in range(len(tree.tokens)):
            ancestor = node + 1
            while ancestor:
                table[row, start + node, start + ancestor - 1] = True
                ancestor = tree.parents[ancestor - 1]
    return table


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_place_sees_its_prompt_and_what_lies_before_it_in_its_own_reply(dtype):
    draws = random.Random(0)
    for _ in range(60):
        count = draws.randint(1, 5)
        prompts = [[draws.randrange(50) for _ in range(draws.randint(1, 8))] for _ in range(count)]
        # Three different tokens, so that many replies begin alike; some are empty.
        trees = [
            ReplyTree.of([[draws.randrange(3) for _ in range(draws.randint(0, 4))] for _ in range(draws.randint(1, 6))])
            for _ in range(count)
        ]
        packed = pack(prompts, trees, pad_id=99, dtype=dtype)
        start, width = max(map(len, prompts)), packed.tree_width
        assert width == max(len(tree.tokens) for tree in trees)
        expected = sees(start, [len(prompt) for prompt in prompts], trees, width)
        assert packed.attention_mask.dtype == dtype
        least = torch.finfo(dtype).min
        assert packed.attention_mask[:, 0].double().tolist() == np.where(expected, 0.0, float(least)).tolist()
        for row, (prompt, tree) in enumerate(zip(prompts, trees, strict=True)):
            filled = start - len(prompt)
            ids = [*[99] * filled, *prompt, *tree.tokens, *[99] * (width - len(tree.tokens))]
            assert packed.input_ids[row].tolist() == ids
            positions = [*range(len(prompt)), *(len(prompt) + depth for depth in tree.depths)]
            assert packed.position_ids[row, filled : start + len(tree.tokens)].tolist() == positions


def test_prompts_are_padded_on_the_left():
    ids, mask = pad_left([(1, 2, 3), (4,)], 0)
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.int64)
