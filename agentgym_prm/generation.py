"""Language models that continue texts, on this machine or in an engine: the ``TextGenerator`` of ``decoding.py``."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

from agentgym_prm.agents.tokens import SEEDS, EngineAgent, Wanted
from agentgym_prm.decoding import END, STOP, Continuation
from agentgym_prm.draws import mix
from agentgym_prm.models import evaluating
from agentgym_prm.packing import batches_by_length
from agentgym_prm.sampling import Sample, sample

_KEPT: Final = 8192
"""Texts whose sampled ids are kept."""


class _Writer:
    """What generators share: texts they wrote are continued from the ids that were sampled."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._written: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def _continuation(
        self, prompt: str, prompt_ids: tuple[int, ...], ids: Sequence[int], logprob: float, stop_reason: str
    ) -> Continuation:
        written = ids[:-1] if stop_reason == END else ids
        # Behind the prompt, because a tokenizer may drop the space that a text begins with.
        before, whole = self._decode(prompt_ids), self._decode([*prompt_ids, *written])
        text = whole.removeprefix(before) if whole.startswith(before) else self._decode(written)
        # The first way in which a text was written: searches keep the first of equal ones, too.
        self._written.setdefault(prompt + text, (*prompt_ids, *written))
        while len(self._written) > _KEPT:
            self._written.popitem(last=False)
        return Continuation(text, logprob, len(ids), stop_reason)

    def _ids(self, prompt: str) -> tuple[int, ...]:
        return self._written.get(prompt) or tuple(self.tokenizer.encode(prompt))

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _draws(seed: int, prompt: str, copy: int) -> int:
    return mix(seed, crc32(prompt.encode("utf-8", "surrogatepass")), copy)


class LocalGenerator(_Writer):
    """Continues texts with a Hugging Face causal language model.

    A text that it wrote is continued from the ids that were sampled, whatever its tokenizer would make of the text.
    The samples of one text share its keys and values.

    Args:
        model: As ``models.load_model`` gives it.
        tokenizer: Its tokenizer.
        temperature: At least 0; 0 takes the most likely token, so that all continuations of a text are one.
        max_new_tokens: Longest continuation.
        seed: Picks the draws, which depend besides on the text and the number of the continuation.
        batch_tokens: Most tokens of the prompts of one batch, with padding: bounds memory.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 256,
        seed: int = 0,
        batch_tokens: int = 16384,
    ) -> None:
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        if max_new_tokens < 1 or batch_tokens < 1:
            raise ValueError(f"max_new_tokens and batch_tokens must be at least 1: {max_new_tokens}, {batch_tokens}")
        super().__init__(tokenizer)
        self.model, self.temperature = model, temperature
        self._max_new_tokens, self._seed, self._batch_tokens = max_new_tokens, seed, batch_tokens
        self._pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    def continuations(self, prompts: Sequence[str], n: int, *, stop: Sequence[str] = ()) -> list[list[Continuation]]:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        ids = [self._ids(prompt) for prompt in prompts]
        found: list[list[Continuation]] = [[] for _ in prompts]
        with evaluating(self.model):
            for batch in batches_by_length([n * len(each) for each in ids], self._batch_tokens):
                chosen = [prompts[index] for index in batch], [ids[index] for index in batch]
                for index, continuations in zip(batch, self._batch(*chosen, n, tuple(stop)), strict=True):
                    found[index] = continuations
        return found

    def _batch(
        self, prompts: list[str], ids: list[tuple[int, ...]], n: int, stop: tuple[str, ...]
    ) -> list[list[Continuation]]:
        # Without temperature all samples are the same one.
        copies = n if self.temperature > 0 else 1
        rows = [
            Sample(number, _draws(self._seed, prompt, copy))
            for number, prompt in enumerate(prompts)
            for copy in range(copies)
        ]
        end = self.tokenizer.eos_token_id

        def ended(token_ids: list[int]) -> str:
            if token_ids[-1] == end:
                return END
            return STOP if stop and any(text in self._decode(token_ids) for text in stop) else ""

        sample(
            self.model,
            ids,
            rows,
            pad_id=self._pad_id,
            temperature=self.temperature,
            max_new_tokens=self._max_new_tokens,
            ended=ended,
        )
        found: list[list[Continuation]] = [[] for _ in prompts]
        for row in rows:
            continuation = self._continuation(
                prompts[row.prompt], ids[row.prompt], row.ids, sum(row.logprobs), row.stop_reason
            )
            found[row.prompt] += [continuation] * (n if copies == 1 else 1)
        return found


class EngineGenerator(_Writer):
    """Continues texts with an inference engine: vLLM in this process or on a server, SGLang.

    Args:
        engine: The agent that asks it; its prompt and stop texts are not used, its other settings are.
        seed: Picks the draws, which depend besides on the text and the number of the continuation.
    """

    def __init__(self, engine: EngineAgent, *, seed: int = 0) -> None:
        super().__init__(engine.encoder.chat.tokenizer)
        self.engine, self._seed = engine, seed

    def continuations(self, prompts: Sequence[str], n: int, *, stop: Sequence[str] = ()) -> list[list[Continuation]]:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        ids = [self._ids(prompt) for prompt in prompts]
        # Without temperature all samples are the same one.
        copies = n if self.engine.temperature > 0 else 1
        wanted = [
            Wanted(token_ids, _draws(self._seed, prompt, copy) % SEEDS, tuple(stop))
            for prompt, token_ids in zip(prompts, ids, strict=True)
            for copy in range(copies)
        ]
        replies = iter(self.engine.sampled(wanted))
        found = []
        for prompt, token_ids in zip(prompts, ids, strict=True):
            some = [next(replies) for _ in range(copies)]
            written = [
                self._continuation(prompt, token_ids, each.token_ids, sum(each.logprobs), each.stop_reason)
                for each in some
            ]
            found.append(written * (n // copies))
        return found
