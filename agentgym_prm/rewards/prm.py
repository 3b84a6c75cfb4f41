"""The process reward model: a language model with one number as output judges each action after its history.

Source: arXiv:2502.10325. The text judged is what the policy is shown and what it replied, end token included; the
score is read where that last token has been seen. A *value* model reads the prompt alone. How it is trained:
``algos/prm.py``.

All actions after one history are scored in one forward pass (``packing.py``) where the model's attention allows it, so
a turn of Best-of-N costs little more than reading each prompt once.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.errors import StoreError, UnknownNameError, needs_extra
from agentgym_prm.models import ModelConfig, load_reward_model, unwrapped
from agentgym_prm.packing import ReplyTree, batches_by_length, pack, takes_any_mask
from agentgym_prm.transcript import Chat
from agentgym_prm.types import Action, History

with needs_extra("train"):
    import torch

JUDGES: Final = ("action", "history")
LINKS: Final = ("sigmoid", "identity")
_SETTINGS_FILE: Final = "prm.json"
_SETTINGS_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class PRMSettings:
    """What a reward model's folder holds besides weights and tokenizer."""

    judges: str = "action"
    """action: Q of a reply after its history; history: V of the prompt alone."""
    link: str = "sigmoid"
    """sigmoid: scores are in (0, 1); identity: they are the network's output."""
    prompt: str = "memory"
    """Name of the prompt."""
    prompt_source: str = ""
    """Text of its template, so that the model can be used where the file is not."""
    max_turns: int | None = None
    """As in ``Prompt``."""
    max_tokens: int | None = None
    """Longest prompt, as in ``Encoder``."""
    settings_version: int = _SETTINGS_VERSION

    def __post_init__(self) -> None:
        if self.judges not in JUDGES:
            raise UnknownNameError.of("kind of judgement", self.judges, JUDGES)
        if self.link not in LINKS:
            raise UnknownNameError.of("link", self.link, LINKS)


class RewardNet(torch.nn.Module):
    """A sequence classifier read at any places of the sequence instead of at its end.

    Args:
        model: As ``models.load_reward_model`` gives it.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        rows: torch.Tensor,
        places: torch.Tensor,
    ) -> torch.Tensor:
        """The network's output at the places given, shape ``(N,)``, float32; inputs as ``collate`` makes them."""
        classifier = unwrapped(self.model)
        body = getattr(classifier, classifier.base_model_prefix)
        output = body(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False)
        scores: torch.Tensor = classifier.score(output.last_hidden_state[rows, places])
        return scores[:, 0].float()


class Asked(NamedTuple):
    """A prompt and the replies to be judged after it; an empty reply asks for the value of the prompt."""

    prompt: tuple[int, ...]
    replies: tuple[tuple[int, ...], ...]


def collate(asked: Sequence[Asked], model: Any, pad_id: int) -> dict[str, torch.Tensor]:
    """Inputs of ``RewardNet`` for all replies, in their order."""
    if takes_any_mask(unwrapped(model)):
        return _collate_packed(asked, pad_id, unwrapped(model).dtype)
    return _collate_plain(asked, pad_id)


def _collate_packed(asked: Sequence[Asked], pad_id: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    trees = [ReplyTree.of(each.replies) for each in asked]
    packed = pack([each.prompt for each in asked], trees, pad_id=pad_id, dtype=dtype)
    end_of_prompt = packed.input_ids.shape[1] - packed.tree_width - 1
    return {
        "input_ids": packed.input_ids,
        "attention_mask": packed.attention_mask,
        "position_ids": packed.position_ids,
        "rows": torch.tensor([row for row, tree in enumerate(trees) for _ in tree.paths]),
        "places": torch.tensor([end_of_prompt + path[-1] for tree in trees for path in tree.paths]),
    }


def _collate_plain(asked: Sequence[Asked], pad_id: int) -> dict[str, torch.Tensor]:
    """Each reply with a prompt of its own, padded on the right: for any model."""
    sequences = [(*each.prompt, *reply) for each in asked for reply in each.replies]
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": torch.arange(longest).expand_as(ids),
        "rows": torch.arange(len(sequences)),
        "places": mask.sum(1) - 1,
    }


class ProcessRewardModel:
    """A trained judge, as a ``StepScorer``; with ``judges="history"`` a value model.

    Scores do not depend on the batch, up to rounding in float32 (about 1e-6).

    Args:
        model: As ``models.load_reward_model`` gives it.
        tokenizer: Its tokenizer.
        settings: What it judges and what it is shown.
        prompt: The prompt; by default the one that the settings tell.
        batch_tokens: Most tokens of one forward pass, padding included: bounds memory.
        name: What the scores are called.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: PRMSettings,
        *,
        prompt: Prompt | None = None,
        batch_tokens: int = 16384,
        name: str = "prm",
    ) -> None:
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}")
        self.name = name
        self.prompt = prompt or Prompt(settings.prompt, settings.prompt_source, settings.max_turns)
        self.settings = replace(settings, prompt=self.prompt.name, prompt_source=self.prompt.source)
        self.model, self.tokenizer = model, tokenizer
        self.encoder = Encoder(self.prompt, Chat(tokenizer), settings.max_tokens)
        self.net = RewardNet(model)
        self._batch_tokens = batch_tokens

    @classmethod
    def start(
        cls, config: ModelConfig, prompt: Prompt, settings: PRMSettings | None = None, *, seed: int = 0
    ) -> "ProcessRewardModel":
        """An untrained one on the body of a language model; the head is drawn from ``seed``."""
        model, tokenizer = load_reward_model(config, seed=seed)
        return cls(model, tokenizer, settings or PRMSettings(), prompt=prompt)

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> "ProcessRewardModel":
        """What ``save`` wrote.

        Args:
            folder: Where it is.
            **options: Further fields of ``ModelConfig``, e.g. ``device="cuda"``.

        Raises:
            StoreError: There is none, or it is of another version.
        """
        path = Path(folder) / _SETTINGS_FILE
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(f"{folder} holds no process reward model: there is no {path}") from error
        if record.get("settings_version") != _SETTINGS_VERSION:
            raise StoreError(f"{path} has settings_version {record.get('settings_version')}, not {_SETTINGS_VERSION}")
        model, tokenizer = load_reward_model(ModelConfig(str(folder), **options))
        return cls(model, tokenizer, PRMSettings(**record))

    def save(self, folder: str | Path, card: str = "") -> None:
        """Write a Hugging Face directory, with ``card`` as its README."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(path)
        self.model.save_pretrained(path)
        (path / "README.md").write_text(card or "A process reward model.\n", encoding="utf-8")
        settings = json.dumps(asdict(self.settings), indent=2) + "\n"
        (path / _SETTINGS_FILE).write_text(settings, encoding="utf-8")  # last, so that a folder with it is complete

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        """Q of each action after the history at the same place, shape ``(N,)``; higher is better.

        Histories that are the same object are read once.

        Raises:
            ValueError: This is a value model.
        """
        if self.settings.judges != "action":
            raise ValueError(f"{self.name!r} judges histories, not actions: ask for values(histories)")
        places: dict[int, list[int]] = {}
        for number, history in enumerate(histories):
            places.setdefault(id(history), []).append(number)
        if len(actions) != len(histories):
            raise ValueError(f"got {len(histories)} histories and {len(actions)} actions")
        groups = list(places.values())
        asked = [self.asked(histories[group[0]], [actions[number] for number in group]) for group in groups]
        scores_N = np.empty(len(histories))
        for group, scores in zip(groups, self._scores(asked), strict=True):
            scores_N[group] = scores
        return scores_N

    def values(self, histories: Sequence[History]) -> NDArray[np.float64]:
        """V of each history, shape ``(N,)``.

        Raises:
            ValueError: This judges actions.
        """
        if self.settings.judges != "history":
            raise ValueError(f"{self.name!r} judges actions, not histories: ask for score(histories, actions)")
        scored = self._scores([self.asked(history) for history in histories])
        return np.array([scores[0] for scores in scored], dtype=np.float64)

    def asked(self, history: History, actions: Sequence[Action] | None = None) -> Asked:
        """The token ids that the network reads; without actions the value of the history is asked for."""
        prompt = self.encoder.history(history).token_ids
        return Asked(prompt, ((),) if actions is None else tuple(self._reply_ids(action) for action in actions))

    def _reply_ids(self, action: Action) -> tuple[int, ...]:
        # A reply is judged by its text: a generator with another tokenizer has other ids for it.
        return self.encoder.chat.reply_ids(self.prompt.render_reply(action))

    def _scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        scores: list[list[float]] = [[] for _ in asked]
        pad_id = int(self.tokenizer.pad_token_id)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                for batch in batches_by_length([_places(each) for each in asked], self._batch_tokens):
                    inputs = collate([asked[index] for index in batch], self.model, pad_id)
                    outputs = self.net(**{name: tensor.to(self.model.device) for name, tensor in inputs.items()})
                    if self.settings.link == "sigmoid":
                        outputs = torch.sigmoid(outputs.double())
                    remaining = iter(outputs.tolist())
                    for index in batch:
                        scores[index] = [next(remaining) for _ in asked[index].replies]
        finally:
            self.model.train(was_training)
        return scores


def _places(asked: Asked) -> int:
    return len(asked.prompt) + sum(map(len, asked.replies))
