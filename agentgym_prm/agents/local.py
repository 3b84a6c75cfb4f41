"""A causal language model on this machine as an agent: token ids in, token ids out.

Two ways to act. ``mode="generate"`` samples a reply token by token and parses it. ``mode="choose"`` scores every
admissible command as a reply (its tokens and the end token) and draws one, so that a small model acts validly.

What is recorded in each ``Action``: the ids as sampled, end token included, and their log-probabilities *under the
distribution that they were drawn from*. In ``"generate"`` that is the softmax of the logits divided by the temperature
(by 1 if the temperature is 0). In ``"choose"``, ``logprobs`` are the model's own, at temperature 1, and
``scores["choice_logprob"]`` is that of the choice among the commands: softmax of their summed log-probabilities divided
by the temperature. A trainer that wants ratios of 1 has to use the same one; ``usage["temperature"]`` says which.

Draws depend on (seed, episode seed, episode, turn, candidate) and not on the batch. Keys and values of a prompt are
computed once and shared by its samples or its commands. In ``"choose"``, log-probabilities of the same commands after
the same prompt are computed once for as long as the weights stay as they are: rollouts of one task meet often.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.prompts import Encoded, Prompt
from agentgym_prm.agents.tokens import Sampled, TokenAgent
from agentgym_prm.draws import uniform
from agentgym_prm.envs.webshop.engine import SEARCH_PATTERN
from agentgym_prm.errors import UnknownNameError, UsageError, needs_extra
from agentgym_prm.models import evaluating, stop_ids
from agentgym_prm.packing import ReplyTree, batches_by_length, pack, places_at_once, takes_any_mask
from agentgym_prm.sampling import Sample, prefill, sample
from agentgym_prm.transcript import Chat
from agentgym_prm.types import Action, History

with needs_extra("train"):
    import torch

MODES: Final = ("generate", "choose")
SCORINGS: Final = ("packed", "cached")
_CHOICE: Final = 2**32
"""Stands for the token position in draws among commands."""
_KEPT: Final = 8192
"""Prompts whose scored commands are kept: some 20 MB with a dozen commands each."""
_COPIED: Final = 2**24
"""Most numbers of a model whose weights are copied, to see whether they changed: 64 MB, well over a tiny model's."""

_Replies = tuple[tuple[int, ...], ...]
_Asked = tuple[tuple[int, ...], _Replies]
"""The ids of a prompt, and of the replies to be scored after it."""


class LocalAgent(TokenAgent):
    """Plays with a Hugging Face causal LM.

    Args:
        model: As ``models.load_model`` gives it. Used in evaluation mode while sampling, then put back.
        tokenizer: Its tokenizer, with a chat template.
        prompt: What the model is shown: a prompt, or its name.
        mode: ``"generate"`` or ``"choose"``; the latter needs a prompt whose replies are the command alone.
        temperature: At least 0; 0 takes the most likely token or command.
        max_new_tokens: Longest reply; a longer one is cut and parsed as it stands (``stop_reason="length"``).
        stop: Texts that end a reply where they are completed; they stay in it (``stop_reason="stop"``).
        seed: Picks the draws.
        max_prompt_tokens: Longest prompt: the oldest turns go first, whole. ``None`` for no limit.
        batch_tokens: Most tokens, padding included, of one forward pass over prompts (with their commands, if packed):
            bounds memory. Packed on a CPU it is about 1024 at most, which is faster.
        scoring: How ``"choose"`` shares a prompt among its commands: ``"packed"`` puts them all, as a tree, behind the
            prompt in one forward pass (needs eager or sdpa attention without sliding window), ``"cached"`` repeats its
            keys and values. ``None`` takes the first where the model allows it.
        name: How it is called in reports.

    ``usage`` of an action: ``prompt_tokens``, ``completion_tokens``, ``temperature``, ``dropped_turns`` (turns that the
    prompt did not show) and ``transcripts`` (more than 1: what was shown before was rewritten so many times, less one).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: Prompt | str = "reason_action",
        *,
        mode: str = "generate",
        temperature: float = 1.0,
        max_new_tokens: int = 64,
        stop: Sequence[str] = (),
        seed: int = 0,
        max_prompt_tokens: int | None = None,
        batch_tokens: int = 16384,
        scoring: str | None = None,
        name: str = "local",
    ) -> None:
        if scoring not in (None, *SCORINGS):
            raise UnknownNameError.of("scoring", scoring, SCORINGS)
        if mode not in MODES:
            raise UnknownNameError.of("mode", mode, MODES)
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}")
        super().__init__(
            prompt,
            Chat(tokenizer, stop_ids(tokenizer, getattr(model, "generation_config", None))),
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            stop=stop,
            seed=seed,
            max_prompt_tokens=max_prompt_tokens,
            name=name,
        )
        if mode == "choose" and not self.prompt.reply_format.command_only:
            raise ValueError(
                f"mode 'choose' needs replies that are the command alone; prompt {self.prompt.name!r} asks for "
                f"{self.prompt.reply_format.name!r} (use 'memory' or 'bare', or mode 'generate')"
            )
        self.model, self.mode = model, mode
        self._batch_tokens = batch_tokens
        self._scoring = scoring or ("packed" if takes_any_mask(model) else "cached")
        self.pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
        self._kept: dict[_Asked, list[list[float]]] = {}
        self._kept_of: tuple[Any, list[torch.Tensor]] = (None, [])

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        encoded = self.encoder.histories(histories)
        with evaluating(self.model):
            if self.mode == "choose":
                return self._choose(histories, encoded, n)
            actions: list[list[Action]] = [[] for _ in histories]
            for batch in batches_by_length([len(each.token_ids) for each in encoded], self._batch_tokens):
                shown = [histories[index] for index in batch], [encoded[index] for index in batch]
                for index, candidates in zip(batch, self._generate(*shown, n), strict=True):
                    actions[index] = candidates
            return actions

    def score_commands(self, histories: Sequence[History]) -> list[list[float]]:
        """The model's log-probability of each admissible command as the whole reply, end token included.

        Raises:
            ValueError: A history has no admissible commands.
        """
        encoded = self.encoder.histories(histories)
        replies = [self.replies(history) for history in histories]
        with evaluating(self.model):
            scored = self._score([each.token_ids for each in encoded], replies)
        return [[sum(logprobs) for logprobs in group] for group in scored]

    # --- generate ---

    def _generate(self, histories: list[History], encoded: list[Encoded], n: int) -> list[list[Action]]:
        # Without temperature all samples are the same one.
        copies = n if self.temperature > 0 else 1
        rows = [
            Sample(index, self._draws(history, candidate))
            for index, history in enumerate(histories)
            for candidate in range(copies)
        ]
        sample(
            self.model,
            [each.token_ids for each in encoded],
            rows,
            pad_id=self.pad_id,
            temperature=self.temperature,
            max_new_tokens=self._max_new_tokens,
            ended=self._ended,
        )
        actions: list[list[Action]] = [[] for _ in histories]
        for row in rows:
            sampled = Sampled(tuple(row.ids), tuple(row.logprobs), row.stop_reason)
            action = self._action(sampled, encoded[row.prompt])
            actions[row.prompt] += [action] * (n if copies == 1 else 1)
        return actions

    def _ended(self, token_ids: list[int]) -> str:
        if token_ids[-1] in self.encoder.chat.stop_ids:
            return "end"
        is_stopped = self._stop and any(text in self.encoder.chat.decode(token_ids) for text in self._stop)
        return "stop" if is_stopped else ""

    # --- choose ---

    def _choose(self, histories: Sequence[History], encoded: list[Encoded], n: int) -> list[list[Action]]:
        replies = [self.replies(history) for history in histories]
        scored = self._score([each.token_ids for each in encoded], replies)
        actions = []
        for history, one, ids, logprobs in zip(histories, encoded, replies, scored, strict=True):
            totals = np.array([sum(each) for each in logprobs])
            choices = log_softmax(totals / (self.temperature or 1.0))
            candidates = []
            for candidate in range(n):
                chosen = int(totals.argmax())
                if self.temperature > 0:
                    draw = uniform(_CHOICE, after=self._draws(history, candidate))
                    cumulative = np.cumsum(np.exp(choices))
                    chosen = min(int(np.searchsorted(cumulative, draw * cumulative[-1], "right")), len(ids) - 1)
                candidates.append(
                    Action(
                        command=history.admissible_commands[chosen],
                        reply=self.prompt.render_reply(Action(history.admissible_commands[chosen])),
                        token_ids=ids[chosen],
                        logprobs=tuple(logprobs[chosen]),
                        stop_reason="end",
                        usage=self._usage(one, len(ids[chosen])),
                        scores={"choice_logprob": float(choices[chosen])},
                    )
                )
            actions.append(candidates)
        return actions

    def replies(self, history: History) -> tuple[tuple[int, ...], ...]:
        """Each admissible command as a reply, end token included: what is chosen from.

        Raises:
            ValueError: The history has no admissible commands.
            UsageError: One of them stands for all searches, so it is none to give.
        """
        if not history.admissible_commands:
            raise ValueError(f"mode 'choose' needs admissible commands; task {history.task_id!r} offers none")
        if SEARCH_PATTERN in history.admissible_commands:
            raise UsageError(
                f"mode 'choose' would give the command {SEARCH_PATTERN!r} as it stands, which finds nothing: make the "
                "environment with searches='suggested' (--env-args searches=suggested), or take mode 'generate'"
            )
        # As ``Prompt.render_reply`` does for an action that no model wrote.
        render, ids = self.prompt.reply_format.render, self.encoder.chat.reply_ids
        return tuple(ids(render(command, "")) for command in history.admissible_commands)

    def _score(self, prompts: Sequence[tuple[int, ...]], replies: Sequence[_Replies]) -> list[list[list[float]]]:
        """Log-probabilities of the tokens of every reply to every prompt; what is kept is not computed again."""
        asked: list[_Asked] = list(zip(prompts, replies, strict=True))
        self._forget_if_changed()
        missing = [each for each in dict.fromkeys(asked) if each not in self._kept]
        for batch in batches_by_length([self._places(each) for each in missing], self._places_at_once):
            some = [missing[index] for index in batch]
            for each, scored in zip(some, self._score_batch(some), strict=True):
                self._kept[each] = scored
        return [self._kept[each] for each in asked]

    def _forget_if_changed(self) -> None:
        """Drop what is kept unless all weights still equal a copy made when it was computed.

        A copy, because PyTorch's version counters miss what fused optimisers do, and writes to ``weight.data``. Large
        models are not copied, and adapters are switched off without a trace in the weights: nothing is kept for either.
        """
        weights = [*self.model.parameters(), *self.model.buffers()]
        can_tell = sum(map(torch.numel, weights)) <= _COPIED and not hasattr(self.model, "get_base_model")
        model, copies = self._kept_of
        is_same = can_tell and model is self.model and _all_equal(weights, copies)
        if not is_same:
            self._kept_of = (self.model, [weight.clone() for weight in weights] if can_tell else [])
        if not is_same or len(self._kept) >= _KEPT:
            self._kept.clear()

    @property
    def _places_at_once(self) -> int:
        packed = self._scoring == "packed"
        return places_at_once(self._batch_tokens, self.model.device) if packed else self._batch_tokens

    def _places(self, asked: _Asked) -> int:
        prompt, replies = asked
        return len(prompt) + (len(_tree(replies).tokens) if self._scoring == "packed" else 0)

    def _score_batch(self, asked: list[_Asked]) -> list[list[list[float]]]:
        score = self._score_packed if self._scoring == "packed" else self._score_cached
        prompts, replies = [prompt for prompt, _ in asked], [group for _, group in asked]
        flat = score(prompts, replies)
        ends = list(accumulate(len(group) for group in replies))
        return [flat[end - len(group) : end] for end, group in zip(ends, replies, strict=True)]

    def _score_packed(self, prompts: list[tuple[int, ...]], replies: list[_Replies]) -> list[list[float]]:
        """One forward pass: behind each prompt the tree of its replies; a token sees the prompt and its ancestors."""
        trees = [_tree(group) for group in replies]
        packed = pack(prompts, trees, pad_id=self.pad_id, dtype=self.model.dtype).to(self.model.device)
        output = self.model(
            input_ids=packed.input_ids,
            attention_mask=packed.attention_mask,
            position_ids=packed.position_ids,
            use_cache=False,
            logits_to_keep=packed.tree_width + 1,
        )
        logprobs = torch.log_softmax(output.logits.float(), -1)
        lengths = [len(reply) for group in replies for reply in group]
        rows = np.repeat(np.arange(len(trees)), [sum(map(len, group)) for group in replies])
        places = _flat(chain.from_iterable(tree.paths for tree in trees), len(rows))
        tokens = _flat(chain.from_iterable(replies), len(rows))
        picked = logprobs[rows, places, tokens].tolist()
        ends = list(accumulate(lengths))
        return [picked[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _score_cached(self, prompts: list[tuple[int, ...]], replies: list[_Replies]) -> list[list[float]]:
        """Keys and values of each prompt, repeated for its replies."""
        logits, cache, mask = prefill(self.model, prompts, self.pad_id)
        first = torch.log_softmax(logits.float(), -1)
        flat = [reply for group in replies for reply in group]
        longest = max(len(reply) for reply in flat)
        ids = torch.full((len(flat), longest), self.pad_id)
        for place, reply in enumerate(flat):
            ids[place, : len(reply)] = torch.tensor(reply)
        ids = ids.to(mask.device)
        owner = torch.tensor([index for index, group in enumerate(replies) for _ in group], device=mask.device)
        scored = torch.zeros(ids.shape, device=mask.device)
        scored[:, 0] = first[owner, ids[:, 0]]
        if longest > 1:
            # The last token of a reply needs no forward pass: only those before it do.
            cache.batch_select_indices(owner)
            inner = ids[:, :-1]
            output = self.model(
                input_ids=inner,
                attention_mask=torch.cat([mask[owner], torch.ones_like(inner)], 1),
                position_ids=mask[owner].sum(1, keepdim=True) + torch.arange(longest - 1, device=mask.device),
                past_key_values=cache,
                use_cache=True,
            )
            later = torch.log_softmax(output.logits.float(), -1)
            scored[:, 1:] = later.gather(2, ids[:, 1:, None])[:, :, 0]
        return [row[: len(reply)] for row, reply in zip(scored.tolist(), flat, strict=True)]

    # --- both ---


def log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the softmax of a vector."""
    shifted: NDArray[np.float64] = values - values.max()
    return shifted - float(np.log(np.exp(shifted).sum()))


@lru_cache(4096)
def _tree(replies: _Replies) -> ReplyTree:
    """The tree of replies; the last token of each needs no node, because nothing comes after it."""
    return ReplyTree.of([reply[:-1] for reply in replies])


def _all_equal(tensors: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    return len(tensors) == len(others) and all(map(torch.equal, tensors, others))


def _flat(sequences: Iterable[Sequence[int]], count: int) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=count)
