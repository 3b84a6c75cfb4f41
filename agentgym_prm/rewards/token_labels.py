"""A causal language model that judges steps with two of its tokens: P(``+``) after each step, all in one forward pass.

A sequence is the problem and its steps, each followed by a *marker* token; where the marker has been read, the softmax
over the logits of ``+`` and ``-`` alone is the score of the step before it. No label is ever in the text, so what a
model is trained on (``algos/step_labels.py``) is what it reads when it scores. What an agent saw before a step stands
before it, with a marker that is not judged.

Pieces are encoded one by one and joined as ids: a marker's place is known, whatever the steps hold, and a step has the
same tokens wherever its attempt goes on. Source: arXiv:2312.08935 (two tokens), https://github.com/sdiehl/prm (its form
of data; there labels are inverted against the logits, and no example holds a marker).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.errors import UnknownNameError, needs_extra
from agentgym_prm.models import ModelConfig, evaluating, load_model, output_logits, turn_dropout_off, unwrapped
from agentgym_prm.packing import batches_by_length, places_at_once
from agentgym_prm.rewards.folders import read_settings, write_model_folder
from agentgym_prm.rewards.prm import READS, Asked, collate, last_hidden, pad_right
from agentgym_prm.rewards.step_labels import StepLabels
from agentgym_prm.rewards.step_quality import AGGREGATES, aggregate
from agentgym_prm.types import Action, History

with needs_extra("train"):
    import torch

PLUS, MINUS = "+", "-"
SETTINGS_FILE: Final = "step_labels.json"
_SETTINGS_VERSION: Final = 1
_KEPT: Final = 8192
"""Texts whose ids are kept."""


@dataclass(frozen=True, slots=True)
class TokenLabelSettings:
    """What the folder of such a model holds besides weights and tokenizer."""

    marker: str = "\n"
    """Follows the problem and each step; one token."""
    max_tokens: int | None = None
    """Longest sequence; by default the model's own."""
    aggregate: str = "last"
    """What an action is worth: the score of its step (last), or the min, mean or product over all steps so far."""
    reads: str = "reply"
    """What of an agent's action is the step: all that was written (reply), or the command."""
    settings_version: int = _SETTINGS_VERSION

    def __post_init__(self) -> None:
        if self.aggregate not in AGGREGATES:
            raise UnknownNameError.of("aggregate", self.aggregate, AGGREGATES)
        if self.reads not in READS:
            raise UnknownNameError.of("part of a reply", self.reads, READS)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def write(self, folder: str | Path) -> None:
        """Write them into a model's folder."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        (Path(folder) / SETTINGS_FILE).write_text(text, encoding="utf-8")


def single_token(tokenizer: Any, text: str) -> int:
    """The id of the one token that is ``text``: of a word-level, byte-pair or SentencePiece vocabulary.

    A token for the text alone is preferred to one for a space with the text.

    Raises:
        ValueError: It is no token, or several.
    """
    known = tokenizer.get_vocab().get(text)
    if known is not None:
        return int(known)
    ids = tokenizer.encode(text, add_special_tokens=False)
    # SentencePiece begins with a space of its own, which may be a token apart.
    while len(ids) > 1 and not tokenizer.decode(ids[:1]).strip(" "):
        ids = ids[1:]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ValueError(
            f"{text!r} is not one token of this tokenizer, it becomes {tokenizer.convert_ids_to_tokens(ids)}: take "
            "another text for the marker, or add the token (tokenizer.add_tokens, model.resize_token_embeddings)"
        )
    return int(ids[0])


class EncodedSteps(NamedTuple):
    """An attempt as token ids; ``starts`` are the indices where its steps begin, ``places`` those of their markers."""

    token_ids: tuple[int, ...]
    starts: tuple[int, ...]
    places: tuple[int, ...]


class StepEncoder:
    """Turns attempts into token ids.

    Args:
        tokenizer: In which ``+``, ``-`` and the marker are one token each.
        marker: Follows the problem and each step.

    Raises:
        ValueError: One of the three is not one token.
    """

    def __init__(self, tokenizer: Any, marker: str = "\n") -> None:
        self.label_ids = (single_token(tokenizer, PLUS), single_token(tokenizer, MINUS))
        self.marker_id = single_token(tokenizer, marker)
        self._tokenizer, self._known = tokenizer, dict[str, tuple[int, ...]]()
        begin = tokenizer.bos_token_id
        begins = begin is not None and tokenizer.encode(PLUS)[:1] == [begin]
        self._begin: tuple[int, ...] = (begin,) if begins else ()

    def encode(self, attempt: StepLabels) -> EncodedSteps:
        """The ids of the problem and all steps."""
        ids = [*self._begin, *self._encode(attempt.input), self.marker_id]
        starts, places = [], []
        for observation, step in zip(attempt.observations, attempt.steps, strict=True):
            if observation:
                ids += [*self._encode(observation), self.marker_id]
            starts.append(len(ids))
            ids += [*self._encode(step), self.marker_id]
            places.append(len(ids) - 1)
        return EncodedSteps(tuple(ids), tuple(starts), tuple(places))

    def _encode(self, text: str) -> tuple[int, ...]:
        """Kept, because searches and agents ask for the same steps again and again."""
        if text not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[text] = tuple(self._tokenizer.encode(text, add_special_tokens=False))
        return self._known[text]


def padding_id(tokenizer: Any) -> int:
    """What fills places that nothing sees: any token will do."""
    return int(next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None))


def context_length(model: Any) -> int | None:
    """The longest sequence that a model was made for, in tokens; ``None`` where it does not say."""
    length = getattr(unwrapped(model).config.get_text_config(), "max_position_embeddings", None)
    return None if length is None else int(length)


class TokenLabelScorer:
    """Scores steps of attempts (``StepTextScorer``) and actions of agents (``StepScorer``) with P(``+``).

    Scores are in (0, 1) and do not depend on the batch, up to rounding in float32 (about 1e-6).

    Args:
        model: A causal language model, as ``models.load_model`` gives it.
        tokenizer: Its tokenizer.
        settings: What it reads.
        batch_tokens: Most tokens of one forward pass, padding included: bounds memory.
        name: What the scores are called.

    Raises:
        ValueError: ``+``, ``-`` or the marker are not one token each.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: TokenLabelSettings | None = None,
        *,
        batch_tokens: int = 16384,
        name: str = "step_labels",
    ) -> None:
        self.name = name
        self.settings = settings or TokenLabelSettings()
        self.model, self.tokenizer = model, tokenizer
        self.encoder = StepEncoder(tokenizer, self.settings.marker)
        self._max_tokens = self.settings.max_tokens or context_length(model)
        self._pad_id = padding_id(tokenizer)
        self._places_at_once = places_at_once(batch_tokens, model.device)

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> "TokenLabelScorer":
        """What ``save`` or the trainer's ``save_model`` wrote.

        Args:
            folder: Where it is.
            **options: Further fields of ``ModelConfig``, e.g. ``device="cuda"``.

        Raises:
            StoreError: There is none, or it is of another version.
        """
        settings = TokenLabelSettings(**read_settings(folder, SETTINGS_FILE, _SETTINGS_VERSION, "step-label model"))
        loaded = load_model(ModelConfig(str(folder), **options))
        turn_dropout_off(loaded.model)
        return cls(loaded.model, loaded.tokenizer, settings)

    def save(self, folder: str | Path, card: str = "A process reward model: P(`+`) after each step.\n") -> None:
        """Write a Hugging Face directory, with ``card`` as its README."""
        write_model_folder(folder, self.model, self.tokenizer, card, SETTINGS_FILE, asdict(self.settings))

    def step_scores(self, attempts: Sequence[StepLabels]) -> list[NDArray[np.float64]]:
        """P(``+``) of each step, one array of shape ``(S,)`` for each attempt.

        Raises:
            ValueError: An attempt is longer than the model reads.
        """
        encoded = [self.encoder.encode(attempt) for attempt in attempts]
        for each in encoded:
            self._check_length(len(each.token_ids))
        scores: list[NDArray[np.float64]] = [np.empty(0) for _ in attempts]
        lengths = [len(each.token_ids) for each in encoded]
        with evaluating(self.model):
            for batch in batches_by_length(lengths, self._places_at_once):
                chosen = [encoded[index] for index in batch]
                reads = [(row, place) for row, each in enumerate(chosen) for place in each.places]
                if reads:
                    inputs = pad_right([each.token_ids for each in chosen], self._pad_id)
                    rows, places = torch.tensor(reads).T
                    found = iter(self._probabilities(inputs, rows, places))
                    for index, each in zip(batch, chosen, strict=True):
                        scores[index] = np.array([next(found) for _ in each.places])
        return scores

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        """What each action after the history at the same place is worth, shape ``(N,)``; see ``settings.aggregate``.

        The oldest turns are left out where all are too long. With ``"last"``, histories that are the same object are
        read once.

        Raises:
            ValueError: One turn alone is longer than the model reads.
        """
        pairs = zip(histories, actions, strict=True)
        attempts = [self._fitting(StepLabels.of_turn(h, a, reads=self.settings.reads)) for h, a in pairs]
        if self.settings.aggregate != "last":
            return np.array([aggregate(each, self.settings.aggregate) for each in self.step_scores(attempts)])
        groups: dict[tuple[int, ...], list[int]] = {}
        turns = []
        for number, attempt in enumerate(attempts):
            ids, starts, _ = self.encoder.encode(attempt)
            turns.append(ids[starts[-1] :])
            groups.setdefault(ids[: starts[-1]], []).append(number)
        asked = [Asked(before, tuple(turns[number] for number in numbers)) for before, numbers in groups.items()]
        scores_N = np.empty(len(actions))
        for numbers, scores in zip(groups.values(), self._last_scores(asked), strict=True):
            scores_N[numbers] = scores
        return scores_N

    def _fitting(self, attempt: StepLabels) -> StepLabels:
        """The attempt without its oldest steps, as many as it takes."""
        while (length := len(self.encoder.encode(attempt).token_ids)) > (self._max_tokens or length):
            if len(attempt.steps) == 1:
                self._check_length(length)
            attempt = replace(
                attempt, steps=attempt.steps[1:], labels=attempt.labels[1:], observations=attempt.observations[1:]
            )
        return attempt

    def _check_length(self, length: int) -> None:
        if self._max_tokens is not None and length > self._max_tokens:
            raise ValueError(f"{self.name!r} reads at most {self._max_tokens} tokens, an attempt has {length}")

    def _last_scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        """The score of each reply, whose last token is a marker."""
        scores: list[list[float]] = [[] for _ in asked]
        lengths = [len(each.prompt) + sum(map(len, each.replies)) for each in asked]
        with evaluating(self.model):
            for batch in batches_by_length(lengths, self._places_at_once):
                inputs = collate([asked[index] for index in batch], self.model, self._pad_id, "scalar")
                found = iter(self._probabilities(inputs, inputs["rows"], inputs["places"]))
                for index in batch:
                    scores[index] = [next(found) for _ in asked[index].replies]
        return scores

    def _probabilities(self, inputs: dict[str, torch.Tensor], rows: torch.Tensor, places: torch.Tensor) -> list[float]:
        """P(``+``) at some places of a batch."""
        ids, mask, positions = (
            inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask", "position_ids")
        )
        hidden = last_hidden(self.model, ids, mask, positions)[rows, places]
        logits = output_logits(unwrapped(self.model), hidden)[:, list(self.encoder.label_ids)]
        found: list[float] = torch.softmax(logits.double(), -1)[:, 0].tolist()
        return found
