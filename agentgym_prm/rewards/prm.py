"""The process reward model: a language model with one number as output judges each action after its history.

Source: arXiv:2502.10325. The text judged is what the policy is shown and what it replied, end token included; the
score is read where that last token has been seen. A *value* model reads the prompt alone. How it is trained:
``algos/prm.py``.

Two heads. ``"scalar"`` is the paper's: a linear layer on the last token of a sequence classifier. ``"likelihood"``
takes the log-probability that a causal model gives to the reply, as implicit process rewards do (arXiv:2412.01981; here
without a reference model); it starts from what imitation has taught the model, and a tiny model learns to rank with it
in a fraction of the steps (benchmarks/README.md).

All actions after one history are scored in one forward pass (``packing.py``) where the model's attention allows it, so
a turn of Best-of-N costs little more than reading each prompt once.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.errors import UnknownNameError, needs_extra
from agentgym_prm.models import (
    LoadedModel,
    ModelConfig,
    evaluating,
    load_model,
    load_reward_model,
    load_tokenizer,
    output_logits,
    turn_dropout_off,
    unwrapped,
)
from agentgym_prm.packing import ReplyTree, batches_by_length, pack, places_at_once, takes_any_mask
from agentgym_prm.rewards.folders import read_settings, write_model_folder
from agentgym_prm.transcript import Chat
from agentgym_prm.types import Action, History

with needs_extra("train"):
    import torch

JUDGES: Final = ("action", "history")
HEADS: Final = ("scalar", "likelihood")
READS: Final = ("reply", "command")
LINKS: Final = ("sigmoid", "identity")
_SETTINGS_FILE: Final = "prm.json"
_SETTINGS_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class PRMSettings:
    """What a reward model's folder holds besides weights and tokenizer."""

    judges: str = "action"
    """action: Q of a reply after its history; history: V of the prompt alone."""
    head: str = "scalar"
    """scalar: a linear layer on the last token; likelihood: the log-probability that the model gives the reply."""
    reads: str = "reply"
    """reply: all that the policy wrote; command: the reply that gives the command without reasons."""
    link: str = "sigmoid"
    """sigmoid: scores are in (0, 1); identity: they are the network's output."""
    scale: float = 1.0
    """The network's output is multiplied by this before the sigmoid; ``algos.prm.calibrate`` fits it."""
    offset: float = 0.0
    """Added to that."""
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
        if self.head not in HEADS:
            raise UnknownNameError.of("head", self.head, HEADS)
        if self.reads not in READS:
            raise UnknownNameError.of("part of a reply", self.reads, READS)
        if self.head == "likelihood" and self.judges != "action":
            raise ValueError("the head 'likelihood' judges actions: a value model needs the head 'scalar'")
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, or better actions would score lower, got {self.scale}")
        if self.link not in LINKS:
            raise UnknownNameError.of("link", self.link, LINKS)


class RewardNet(torch.nn.Module):
    """Reads the scores of replies off a network.

    Args:
        model: As ``models.load_reward_model`` gives it for the head ``"scalar"``, ``models.load_model`` for
            ``"likelihood"``.
        head: One of ``HEADS``.
    """

    def __init__(self, model: Any, head: str) -> None:
        super().__init__()
        self.model, self.head = model, head
        # Trainer asks for these two: weights that share their memory with others are not saved twice.
        firsts = {id(weight): name for name, weight in reversed(list(self.named_parameters(remove_duplicate=False)))}
        kept = set(firsts.values())
        everything = [name for name, _ in self.named_parameters(remove_duplicate=False)]
        self._keys_to_ignore_on_save = [name for name in everything if name not in kept]

    def tie_weights(self) -> None:
        """Nothing to do: tied weights are one tensor, and stay it when weights are loaded."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        rows: torch.Tensor,
        places: torch.Tensor,
        tokens: torch.Tensor,
        owners: torch.Tensor,
    ) -> torch.Tensor:
        """The network's output for each reply, shape ``(N,)``, float32; inputs as ``collate`` makes them."""
        hidden = last_hidden(self.model, input_ids, attention_mask, position_ids)[rows, places]
        model = unwrapped(self.model)
        if self.head == "scalar":
            return scalar_outputs(model, hidden)
        logprobs = torch.log_softmax(output_logits(model, hidden).float(), -1)
        picked = logprobs.gather(1, tokens[:, None])[:, 0]
        count = int(owners.max()) + 1
        return torch.zeros(count, device=picked.device).index_add(0, owners, picked)


def last_hidden(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor
) -> torch.Tensor:
    """Last hidden states of a model's body, shape ``(B, places, width)``."""
    model = unwrapped(model)
    body = getattr(model, model.base_model_prefix)
    output = body(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def scalar_outputs(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What the linear head of ``models.load_reward_model`` makes of hidden states ``(N, width)``: ``(N,)``, float32."""
    score = unwrapped(model).score
    # Not in bfloat16, which has so few digits that different actions would tie.
    with torch.autocast(hidden.device.type, enabled=False):
        scores: torch.Tensor = score(hidden.to(next(score.parameters()).dtype))
    return scores[:, 0].float()


class Asked(NamedTuple):
    """A prompt and the replies to be judged after it; an empty reply asks for the value of the prompt."""

    prompt: tuple[int, ...]
    replies: tuple[tuple[int, ...], ...]


def collate(asked: Sequence[Asked], model: Any, pad_id: int, head: str) -> dict[str, torch.Tensor]:
    """Inputs of ``RewardNet`` for all replies, in their order.

    ``rows`` and ``places`` say where the network is read: for a scalar once a reply, after its last token; for a
    likelihood before each of its tokens. ``owners`` numbers the reply, ``tokens`` are what is predicted there.
    """
    if takes_any_mask(unwrapped(model)):
        sequences, paths = _packed(asked, pad_id, unwrapped(model).dtype)
    else:
        sequences, paths = _plain(asked, pad_id)
    replies = [reply for each in asked for reply in each.replies]
    if head == "scalar":
        reads = [(row, path[-1], 0, number) for number, (row, path) in enumerate(paths)]
    else:
        reads = [
            (row, place, token, number)
            for number, ((row, path), reply) in enumerate(zip(paths, replies, strict=True))
            for place, token in zip(path, reply, strict=False)
        ]
    rows, places, tokens, owners = torch.tensor(reads).T
    return {**sequences, "rows": rows, "places": places, "tokens": tokens, "owners": owners}


_Paths = list[tuple[int, list[int]]]
"""For each reply its row, and the places from the prompt's end to its last token."""


def _packed(asked: Sequence[Asked], pad_id: int, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], _Paths]:
    trees = [ReplyTree.of(each.replies) for each in asked]
    packed = pack([each.prompt for each in asked], trees, pad_id=pad_id, dtype=dtype)
    end = packed.input_ids.shape[1] - packed.tree_width - 1
    paths = [(row, [end + place for place in path]) for row, tree in enumerate(trees) for path in tree.paths]
    return {name: getattr(packed, name) for name in ("input_ids", "attention_mask", "position_ids")}, paths


def _plain(asked: Sequence[Asked], pad_id: int) -> tuple[dict[str, torch.Tensor], _Paths]:
    """Each reply with a prompt of its own."""
    sequences = [((*each.prompt, *reply), len(each.prompt)) for each in asked for reply in each.replies]
    paths = [(row, list(range(start - 1, len(sequence)))) for row, (sequence, start) in enumerate(sequences)]
    return pad_right([sequence for sequence, _ in sequences], pad_id), paths


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Ids, attention mask and positions of sequences, each of shape ``(B, longest)``: for any model."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": torch.arange(longest).expand_as(ids)}


class PRMReader:
    """What a reward model reads, without the network: it may be elsewhere.

    Args:
        tokenizer: The model's.
        settings: What it judges and what it is shown.
        prompt: The prompt, with its ``max_turns``; by default the one that the settings tell.
    """

    def __init__(self, tokenizer: Any, settings: PRMSettings, *, prompt: Prompt | None = None) -> None:
        if prompt is None and settings.prompt_source:
            prompt = Prompt(settings.prompt, settings.prompt_source, settings.max_turns)
        self.prompt = prompt or Prompt.load(settings.prompt, max_turns=settings.max_turns)
        self.settings = replace(
            settings, prompt=self.prompt.name, prompt_source=self.prompt.source, max_turns=self.prompt.max_turns
        )
        self.encoder = Encoder(self.prompt, Chat(tokenizer), settings.max_tokens)

    @classmethod
    def load(cls, folder: str | Path) -> "PRMReader":
        """That of a saved reward model; weights are not read.

        Raises:
            StoreError: There is none, or it is of another version.
        """
        return cls(load_tokenizer(folder), read_prm_settings(folder))

    def asked(self, history: History, actions: Sequence[Action] | None = None) -> Asked:
        """The token ids that the network reads; without actions the value of the history is asked for."""
        prompt = self.encoder.history(self._in_own_tokens(history)).token_ids
        return Asked(prompt, ((),) if actions is None else tuple(self._reply_ids(action) for action in actions))

    def texts(self, history: History, action: Action) -> tuple[str, str]:
        """Prompt and reply as texts, for servers that take no token ids; these may cut them into other tokens."""
        dropped = self.encoder.history(self._in_own_tokens(history)).dropped
        chat = self.encoder.chat
        end = str(chat.tokenizer.decode([chat.stop_ids[0]]))
        return chat.render(self.prompt.messages(history, dropped)), self.prompt.render_reply(self._read(action)) + end

    def scores(self, outputs_N: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores from the network's outputs, shape ``(N,)``."""
        outputs_N = np.asarray(outputs_N, dtype=np.float64)
        if self.settings.link == "identity":
            return outputs_N
        logits_N = self.settings.scale * outputs_N + self.settings.offset
        exponentials_N = np.exp(-np.abs(logits_N))  # of either sign it would overflow
        return np.where(logits_N >= 0, 1.0, exponentials_N) / (1.0 + exponentials_N)

    def _reply_ids(self, action: Action) -> tuple[int, ...]:
        # A reply is judged by its text: a generator with another tokenizer has other ids for it.
        return self._text_ids(self._read(action))

    def _read(self, action: Action) -> Action:
        return Action(action.command) if self.settings.reads == "command" else action

    def _text_ids(self, action: Action) -> tuple[int, ...]:
        return self.encoder.chat.reply_ids(self.prompt.render_reply(action))

    def _in_own_tokens(self, history: History) -> History:
        """So are the earlier replies, where the prompt shows them."""
        if self.prompt.style == "state":
            return history
        actions = [replace(each.action, token_ids=self._text_ids(each.action), logprobs=()) for each in history.steps]
        steps = zip(history.steps, actions, strict=True)
        return replace(history, steps=tuple(replace(step, action=action) for step, action in steps))


def read_prm_settings(folder: str | Path) -> PRMSettings:
    """The settings of a saved reward model.

    Raises:
        StoreError: There is none, or it is of another version.
    """
    return PRMSettings(**read_settings(folder, _SETTINGS_FILE, _SETTINGS_VERSION, "process reward model"))


class ProcessRewardModel:
    """A trained judge, as a ``StepScorer``; with ``judges="history"`` a value model.

    Scores do not depend on the batch, up to rounding in float32 (about 1e-6).

    Args:
        model: As ``models.load_reward_model`` gives it.
        tokenizer: Its tokenizer.
        settings: What it judges and what it is shown.
        prompt: The prompt, with its ``max_turns``; by default the one that the settings tell.
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
        self.reader = PRMReader(tokenizer, settings, prompt=prompt)
        self.prompt, self.settings, self.encoder = self.reader.prompt, self.reader.settings, self.reader.encoder
        self.model, self.tokenizer = model, tokenizer
        self.net = RewardNet(model, settings.head)
        self._batch_tokens = batch_tokens

    @classmethod
    def start(
        cls, config: ModelConfig, prompt: Prompt, settings: PRMSettings | None = None, *, seed: int = 0
    ) -> "ProcessRewardModel":
        """An untrained one on the body of a language model; the head is drawn from ``seed``."""
        settings = settings or PRMSettings()
        return cls(*_load(config, settings.head, seed), settings, prompt=prompt)

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> "ProcessRewardModel":
        """What ``save`` wrote.

        Args:
            folder: Where it is.
            **options: Further fields of ``ModelConfig``, e.g. ``device="cuda"``.

        Raises:
            StoreError: There is none, or it is of another version.
        """
        settings = read_prm_settings(folder)
        return cls(*_load(ModelConfig(str(folder), **options), settings.head), settings)

    def save(self, folder: str | Path, card: str = "") -> None:
        """Write a Hugging Face directory, with ``card`` as its README."""
        card = card or "A process reward model.\n"
        write_model_folder(folder, self.model, self.tokenizer, card, _SETTINGS_FILE, asdict(self.settings))

    def use(self, settings: PRMSettings) -> None:
        """Score with other settings of the link from now on."""
        self.settings = self.reader.settings = settings

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
        return self.reader.asked(history, actions)

    def _scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        whole, asked = asked, list(dict.fromkeys(asked))  # rollouts of one task meet the same states
        scores: list[list[float]] = [[] for _ in asked]
        pad_id = int(self.tokenizer.pad_token_id)
        most = places_at_once(self._batch_tokens, self.model.device)
        with evaluating(self.model):
            for batch in batches_by_length([_places(each) for each in asked], most):
                inputs = collate([asked[index] for index in batch], self.model, pad_id, self.settings.head)
                outputs = self.net(**{name: tensor.to(self.model.device) for name, tensor in inputs.items()})
                if self.settings.link == "sigmoid":
                    outputs = torch.sigmoid(self.settings.scale * outputs.double() + self.settings.offset)
                remaining = iter(outputs.tolist())
                for index in batch:
                    scores[index] = [next(remaining) for _ in asked[index].replies]
        known = dict(zip(asked, scores, strict=True))
        return [known[each] for each in whole]


def _places(asked: Asked) -> int:
    return len(asked.prompt) + sum(map(len, asked.replies))


def _load(config: ModelConfig, head: str, seed: int = 0) -> LoadedModel:
    if head == "scalar":
        return load_reward_model(config, seed=seed)
    loaded = load_model(config)
    turn_dropout_off(loaded.model)
    return loaded
