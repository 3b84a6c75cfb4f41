"""Sampling from a causal language model: token ids in, token ids and their log-probabilities out.

Keys and values of a prompt are computed once and shared by its samples. Every draw is an argument of where it is used,
so what is sampled does not depend on what else is in the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agentgym_prm.draws import uniform
from agentgym_prm.errors import needs_extra
from agentgym_prm.packing import pad_left

with needs_extra("train"):
    import torch

LENGTH: Final = "length"
"""Why a sample ended that was cut off."""
_ALIVE: Final = 0.8
"""At this share of unfinished samples, or below it, the finished ones are taken out of the batch."""


@dataclass(slots=True)
class Sample:
    """A text that is being sampled; ``draws`` is what its random numbers start from."""

    prompt: int
    draws: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop_reason: str = ""


def prefill(model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Logits after each prompt, the keys and values, and the attention mask; padding is on the left."""
    ids, mask = pad_left(prompts, pad_id)
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1], output.past_key_values, mask


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    samples: Sequence[Sample],
    *,
    pad_id: int,
    temperature: float,
    max_new_tokens: int,
    ended: Callable[[list[int]], str],
) -> None:
    """Write all samples to their ends, side by side.

    Args:
        model: In evaluation mode, without gradients.
        prompts: Token ids.
        samples: As many for each prompt, in the order of the prompts; they are filled.
        pad_id: Fills places that nothing sees.
        temperature: At least 0; 0 takes the most likely token. ``logprobs`` are those of the logits divided by it.
        max_new_tokens: Longest sample; a longer one is cut off (``LENGTH``).
        ended: Why a sample with these ids is at its end; ``""`` if it is not.
    """
    copies = len(samples) // len(prompts)
    logits, cache, mask = prefill(model, prompts, pad_id)
    if copies > 1:
        cache.batch_repeat_interleave(copies)
        logits, mask = logits.repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0)
    positions = mask.sum(1)
    running = list(samples)
    while True:
        _extend(running, logits, temperature)
        for row in running:
            if not row.stop_reason:
                row.stop_reason = ended(row.ids) or (LENGTH if len(row.ids) >= max_new_tokens else "")
        alive = [place for place, row in enumerate(running) if not row.stop_reason]
        if not alive:
            break
        # Not whenever one ends: taking rows out copies the keys and values of all others.
        if len(alive) <= _ALIVE * len(running):
            chosen = torch.tensor(alive, device=mask.device)
            cache.batch_select_indices(chosen)
            mask, positions = mask[chosen], positions[chosen]
            running = [running[place] for place in alive]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        tokens = torch.tensor([[row.ids[-1]] for row in running], device=mask.device)
        output = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        logits, cache, positions = output.logits[:, -1], output.past_key_values, positions + 1


def _extend(rows: list[Sample], logits: torch.Tensor, temperature: float) -> None:
    """Draw the next token of each row that has not ended."""
    logprobs = torch.log_softmax(logits.float() / (temperature or 1.0), -1)
    if temperature == 0:
        drawn = logprobs.argmax(-1)
    else:
        draws = [0.0 if row.stop_reason else uniform(len(row.ids), after=row.draws) for row in rows]
        drawn = _inverse_cdf(logprobs.double().exp(), torch.tensor(draws, dtype=torch.float64, device=logits.device))
    picked = logprobs.gather(1, drawn[:, None])[:, 0]
    for row, token, logprob in zip(rows, drawn.tolist(), picked.tolist(), strict=True):
        if not row.stop_reason:
            row.ids.append(token)
            row.logprobs.append(logprob)


def _inverse_cdf(probabilities: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The token of each row at which the cumulated probability passes the draw."""
    cumulative = probabilities.cumsum(-1)
    drawn = torch.searchsorted(cumulative, (draws * cumulative[:, -1])[:, None], right=True)[:, 0]
    return drawn.clamp(max=probabilities.shape[-1] - 1)
