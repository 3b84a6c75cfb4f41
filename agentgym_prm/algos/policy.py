"""The policy that is trained: what it sampled, read again with gradients.

What the algorithms call an *action token* is what the policy decided at once. A policy that generates decides token by
token, and an action token is a token of its reply, its end token included. A policy that chooses among the admissible
commands (``LocalAgent`` with ``mode="choose"``) decides once a turn, and the choice is the turn's only action token:
its log-probability is that among the commands, ``softmax(sum of token log-probabilities / temperature)``. Either way
the distribution is the one that was sampled from, temperature included, so that the ratio of a fresh batch is 1.

A ``Row`` is what one row of a forward pass reads: a transcript, which in conversation style is a whole episode, or a
prompt with the tree of its commands. Rows hold the ids as sampled; nothing is encoded again but what the environment
wrote.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.algos.losses import group_log_softmax
from agentgym_prm.errors import needs_extra
from agentgym_prm.models import output_logits, unwrapped
from agentgym_prm.packing import ReplyTree, batches_by_length, pack, places_at_once, takes_any_mask
from agentgym_prm.types import Action, History, Trajectory

with needs_extra("train"):
    import torch
    from torch.utils.checkpoint import checkpoint

_LOGITS: Final = 2**25
"""Most logits that are held at once: above, they are computed part by part, and anew in the backward pass."""
_FOREIGN: Final = "with another tokenizer: its token ids mean something else here; train on rollouts of this model"
Entropies = Literal["none", "values", "gradients"]


@dataclass(frozen=True, slots=True)
class Row:
    """What a forward pass reads of an episode, and the action tokens that it gives.

    Attributes:
        episode: Place of the trajectory in the batch.
        turns: Turn of each action token, rising.
        token_ids: The transcript up to its last action token, or the prompt of a choice.
        sampled: Log-probability of each action token under the sampler.
        places: Where in ``token_ids`` each action token stands; empty for a choice.
        replies: What was chosen from, as token ids; empty for a transcript.
        chosen: Which reply was chosen.
    """

    episode: int
    turns: tuple[int, ...]
    token_ids: tuple[int, ...]
    sampled: tuple[float, ...]
    places: tuple[int, ...] = ()
    replies: tuple[tuple[int, ...], ...] = ()
    chosen: int = 0

    def __len__(self) -> int:
        """Its tokens, those of the replies included."""
        return len(self.token_ids) + sum(map(len, self.replies))


class Reading(NamedTuple):
    """What the policy says about N action tokens: log-probabilities, entropies in nats, and values where it has any."""

    logprobs_N: torch.Tensor
    entropies_N: torch.Tensor
    values_N: torch.Tensor | None = None


class Asked(NamedTuple):
    """What is to be read off last hidden states: log-probabilities of N tokens at P places, and values at B places.

    ``where_N`` says at which of the P places each token is asked for; it never falls. Of entropies, whose gradients
    take more memory than those of the log-probabilities, only what is used is computed.
    """

    read_P: tuple[torch.Tensor, torch.Tensor]
    where_N: torch.Tensor
    tokens_N: torch.Tensor
    valued_B: tuple[torch.Tensor, torch.Tensor]
    temperature: float = 1.0
    entropies: Entropies = "values"


class PolicyNet(torch.nn.Module):
    """A causal LM, with a linear value head on its last hidden states if asked for.

    The head starts at zero, so that the first values are 0 and change nothing but themselves.
    """

    def __init__(self, model: Any, *, value_head: bool = False) -> None:
        super().__init__()
        self.model = model
        self.value: torch.nn.Linear | None = None
        if value_head:
            body = unwrapped(model)
            width, dtype = body.config.get_text_config().hidden_size, _at_least_float32(body.dtype)
            self.value = torch.nn.Linear(width, 1, device=body.device, dtype=dtype)
            torch.nn.init.zeros_(self.value.weight)
            torch.nn.init.zeros_(self.value.bias)

    def forward(self, inputs: dict[str, torch.Tensor], asked: Asked) -> Reading:
        """Log-probabilities ``(N,)``, entropies ``(P,)`` or none, and values ``(B,)``, all at least float32."""
        model = unwrapped(self.model)
        hidden = getattr(model, model.base_model_prefix)(**inputs, use_cache=False).last_hidden_state
        logprobs_N, entropies_P = self._judged(hidden[asked.read_P], asked)
        if self.value is None:
            return Reading(logprobs_N, entropies_P)
        with torch.autocast(hidden.device.type, enabled=False):
            values_B = self.value(hidden[asked.valued_B].to(self.value.weight.dtype))[:, 0]
        return Reading(logprobs_N, entropies_P, values_B)

    def _judged(self, hidden_P: torch.Tensor, asked: Asked) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies; with a large vocabulary never for all places at once."""
        size = max(1, _LOGITS // unwrapped(self.model).config.get_text_config().vocab_size)
        if len(hidden_P) <= size:
            return self._head(hidden_P, asked.where_N, asked.tokens_N, asked)
        starts = torch.arange(0, len(hidden_P), size, device=hidden_P.device)
        bounds = [*torch.searchsorted(asked.where_N, starts).tolist(), len(asked.where_N)]
        parts = [
            checkpoint(
                self._head,
                hidden_P[start : start + size],
                asked.where_N[first:end] - start,
                asked.tokens_N[first:end],
                asked,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing is drawn in there
            )
            for start, first, end in zip(starts.tolist(), bounds, bounds[1:], strict=False)
        ]
        return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropies for _, entropies in parts])

    def _head(
        self, hidden_P: torch.Tensor, where_N: torch.Tensor, tokens_N: torch.Tensor, asked: Asked
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = output_logits(unwrapped(self.model), hidden_P)
        logits = logits.to(_at_least_float32(logits.dtype))
        if asked.temperature != 1:  # one copy of them less
            logits = logits / asked.temperature
        logprobs = torch.log_softmax(logits, -1)
        picked_N = logprobs[where_N, tokens_N]
        if asked.entropies == "none":
            return picked_N, picked_N.new_empty(0)
        with torch.set_grad_enabled(torch.is_grad_enabled() and asked.entropies == "gradients"):
            return picked_N, -(logprobs.exp() * logprobs).sum(-1)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class Policy:
    """The model of an agent, as the thing that is trained.

    Args:
        agent: The sampler; its model is trained in place, so that it always samples from the present weights.
        value_head: Whether it also gives values.
        batch_tokens: Most places of one forward pass, padding included: bounds memory; changes only rounding. A trainer
            puts its own setting here.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast in the forward pass. As ``batch_tokens``.

    Raises:
        ValueError: The agent's temperature is 0: what it does has no log-probability.
    """

    def __init__(
        self, agent: LocalAgent, *, value_head: bool = False, batch_tokens: int = 8192, precision: str = "float32"
    ) -> None:
        if agent.temperature <= 0:
            raise ValueError("a policy is trained on what it samples: its temperature must be above 0, got 0")
        self.agent = agent
        self.net = PolicyNet(agent.model, value_head=value_head)
        self.batch_tokens, self.precision = batch_tokens, precision
        self.entropy_gradients = True
        """Whether gradients flow from the entropies of tokens, which takes time and memory; a trainer decides."""
        self._reference: list[torch.Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = unwrapped(self.agent.model).device
        return device

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The trainable parameters."""
        return [each for each in self.net.parameters() if each.requires_grad]

    # --- the reference ---

    @property
    def has_reference(self) -> bool:
        """Whether a reference was kept."""
        return self._reference is not None

    def keep_reference(self) -> None:
        """Keep a copy of the present weights, of the trainable ones alone, as the reference."""
        self._reference = [each.detach().clone() for each in self._body()]

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Read with the weights of the reference inside the block; nothing is to be trained in there.

        Raises:
            RuntimeError: No reference was kept.
        """
        if self._reference is None:
            raise RuntimeError("no reference was kept: call keep_reference before training")
        own = [each.data for each in self._body()]
        self._put(self._reference)
        try:
            yield
        finally:
            self._put(own)

    def _body(self) -> list[torch.nn.Parameter]:
        return [each for each in self.agent.model.parameters() if each.requires_grad]

    def _put(self, weights: Sequence[torch.Tensor]) -> None:
        for parameter, weight in zip(self._body(), weights, strict=True):
            parameter.data = weight

    # --- rows ---

    def rows(self, trajectories: Sequence[Trajectory]) -> list[Row]:
        """What is read of trajectories, in their order; every sampled action token is in exactly one row.

        Raises:
            ValueError: An action has no token ids or log-probabilities, or not this policy's: sampled in another mode,
                at another temperature or with another tokenizer, or chosen among candidates.
        """
        self.check(trajectories)
        if self.agent.mode == "generate":
            return [row for number, each in enumerate(trajectories) for row in self._transcript_rows(number, each)]
        turns = [(number, turn) for number, each in enumerate(trajectories) for turn in range(len(each.steps))]
        histories = [history for each in trajectories for history in each.histories()]
        actions = [step.action for each in trajectories for step in each.steps]
        rows = self.choices(histories, actions)
        return [_placed(row, number, turn) for row, (number, turn) in zip(rows, turns, strict=True)]

    def check(self, trajectories: Sequence[Trajectory]) -> None:
        """Refuse trajectories that this policy did not sample.

        Raises:
            ValueError: As ``rows``.
        """
        for number, trajectory in enumerate(trajectories):
            for turn, step in enumerate(trajectory.steps):
                self._check(step.action, f"turn {turn} of trajectory {number}")

    def _check(self, action: Action, where: str) -> None:
        choosing = self.agent.mode == "choose"
        if not action.token_ids or not action.logprobs:
            raise ValueError(f"{where} has no token ids with log-probabilities: train on what a model sampled")
        if choosing != ("choice_logprob" in action.scores):
            raise ValueError(f"{where} was not sampled in the policy's mode {self.agent.mode!r}")
        if action.candidates:
            raise ValueError(
                f"{where} was chosen among {len(action.candidates) + 1} candidates, so its log-probability is not that "
                "of the choice: train on rollouts of the model alone"
            )
        if not choosing and action.reply != self.agent.encoder.chat.decode(action.token_ids):
            raise ValueError(f"{where} was sampled {_FOREIGN}")
        temperature = action.usage.get("temperature", self.agent.temperature)
        if temperature != self.agent.temperature:
            raise ValueError(
                f"{where} was sampled at temperature {temperature}, the policy's is {self.agent.temperature}: make the "
                "policy with that temperature"
            )

    def _transcript_rows(self, number: int, trajectory: Trajectory) -> Iterator[Row]:
        for transcript in self.agent.encoder.trajectory(trajectory):
            places = [place for place, is_action in enumerate(transcript.action_mask) if is_action]
            if places:
                yield Row(
                    episode=number,
                    turns=tuple(transcript.turn_index[place] for place in places),
                    token_ids=transcript.token_ids[: places[-1] + 1],
                    sampled=tuple(transcript.logprobs[place] for place in places),
                    places=tuple(places),
                )

    def choices(self, histories: Sequence[History], actions: Sequence[Action]) -> list[Row]:
        """A row for each action that was chosen after the history at the same place; episodes are numbered 0, 1, ….

        Raises:
            ValueError: An action's command is not among the admissible ones, or its token ids are another tokenizer's.
        """
        rows = []
        encoded = self.agent.encoder.histories(histories)
        for number, (history, action, shown) in enumerate(zip(histories, actions, encoded, strict=True)):
            if action.command not in history.admissible_commands:
                raise ValueError(f"{action.command!r} is not among the commands that could be chosen")
            replies = self.agent.replies(history)
            chosen = history.admissible_commands.index(action.command)
            if action.token_ids and action.token_ids != replies[chosen]:
                raise ValueError(f"{action.command!r} was sampled {_FOREIGN}")
            rows.append(
                Row(
                    episode=number,
                    turns=(len(history.steps),),
                    token_ids=shown.token_ids,
                    sampled=(action.scores.get("choice_logprob", float("nan")),),
                    replies=replies,
                    chosen=chosen,
                )
            )
        return rows

    def replies(self, histories: Sequence[History], actions: Sequence[Action]) -> list[Row]:
        """A row for each reply to the history at the same place; episodes are numbered 0, 1, ….

        Its action tokens are those of the reply alone, or the choice of its command. A command may be one that was not
        sampled: its log-probability under the sampler is nan.

        Raises:
            ValueError: As ``choices`` if the policy chooses, else as ``rows``.
        """
        if self.agent.mode == "choose":
            return self.choices(histories, actions)
        for number, action in enumerate(actions):
            self._check(action, f"reply {number}")
        rows = []
        encoded = self.agent.encoder.histories(histories)
        for number, (history, action, shown) in enumerate(zip(histories, actions, encoded, strict=True)):
            token_ids = (*shown.token_ids, *action.token_ids)
            places = tuple(range(len(shown.token_ids), len(token_ids)))
            rows.append(Row(number, (len(history.steps),) * len(places), token_ids, action.logprobs, places))
        return rows

    # --- reading ---

    def batches(self, rows: Sequence[Row], *, together: int = 1) -> list[list[int]]:
        """The rows, as indices, in forward passes of similar length; those that read the same stand together.

        So do, in their order, the first ``together`` rows, the next ``together`` ones, and so on: pairs, for 2.
        """
        alike: dict[tuple[Any, ...], list[int]] = {}
        for first in range(0, len(rows), together):
            indices = range(first, first + together)
            # What is read twice is computed once.
            read = dict.fromkeys((rows[i].token_ids, rows[i].replies) if rows[i].replies else i for i in indices)
            alike.setdefault(tuple(read), []).extend(indices)
        groups = list(alike.values())
        lengths = [len(read) * max(self._places(rows[index]) for index in group) for read, group in alike.items()]
        return [
            [index for number in batch for index in groups[number]]
            for batch in batches_by_length(lengths, places_at_once(self.batch_tokens, self.device))
        ]

    def _places(self, row: Row) -> int:
        """Places that a row takes in a forward pass, at most."""
        if row.replies and not takes_any_mask(unwrapped(self.agent.model)):
            return len(row.replies) * (len(row.token_ids) + max(map(len, row.replies)))
        return len(row)

    def read(self, rows: Sequence[Row]) -> Reading:
        """Read rows in one forward pass, action tokens in their order; gradients flow unless they are switched off."""
        with self._autocast():
            return self._read_transcripts(rows) if rows[0].places else self._read_choices(rows)

    def _autocast(self) -> AbstractContextManager[Any]:
        mixed = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()

    def read_all(self, rows: Sequence[Row]) -> list[Reading]:
        """Read any number of rows without gradients; one reading for each."""
        readings: list[Reading | None] = [None] * len(rows)
        with torch.no_grad():
            for batch in self.batches(rows):
                reading = self.read([rows[index] for index in batch])
                sizes = [len(rows[index].turns) for index in batch]
                logprobs, entropies = (torch.split(part.cpu(), sizes) for part in reading[:2])
                values = torch.split(reading.values_N.cpu(), sizes) if reading.values_N is not None else None
                for place, index in enumerate(batch):
                    readings[index] = Reading(logprobs[place], entropies[place], values[place] if values else None)
        return [reading for reading in readings if reading is not None]

    def _read_transcripts(self, rows: Sequence[Row]) -> Reading:
        longest = max(len(row.token_ids) for row in rows)
        ids = torch.full((len(rows), longest), self.agent.pad_id)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row.token_ids)] = torch.tensor(row.token_ids)
            mask[number, : len(row.token_ids)] = 1
        numbers = torch.tensor([number for number, row in enumerate(rows) for _ in row.places])
        places = torch.tensor([place for row in rows for place in row.places])
        inputs = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        read = (numbers.to(self.device), (places - 1).to(self.device))  # a token is predicted at the place before it
        where, tokens = torch.arange(len(places), device=self.device), ids[numbers, places].to(self.device)
        entropies: Entropies = "gradients" if self.entropy_gradients else "values"
        reading: Reading = self.net(inputs, Asked(read, where, tokens, read, self.agent.temperature, entropies))
        return reading

    def _read_choices(self, rows: Sequence[Row]) -> Reading:
        # Rollouts of one task meet the same states: each is computed once.
        asked: dict[tuple[Any, ...], int] = {}
        owners = [asked.setdefault((row.token_ids, row.replies), len(asked)) for row in rows]
        prompts = [prompt for prompt, _ in asked]
        groups = [replies for _, replies in asked]
        inputs, ends, paths = self._choice_inputs(prompts, groups)
        replies = [reply for group in groups for reply in group]
        numbers = [number for (number, _), reply in zip(paths, replies, strict=True) for _ in reply]
        places = [place for (_, path), reply in zip(paths, replies, strict=True) for place in path[: len(reply)]]
        read, inverse = np.unique(np.array([numbers, places]), axis=1, return_inverse=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        tokens = np.fromiter(chain.from_iterable(replies), dtype=np.int64, count=len(order))
        of_reply = np.repeat(np.arange(len(replies)), [len(reply) for reply in replies])
        reading: Reading = self.net(
            {name: tensor.to(self.device) for name, tensor in inputs.items()},
            Asked(
                self._places_at(read),
                self._tensor(inverse.reshape(-1)[order]),
                self._tensor(tokens[order]),
                self._places_at(np.array(ends).T),
                entropies="none",  # those of the choices are wanted
            ),
        )
        sizes = [len(group) for group in groups]
        logprobs = reading.logprobs_N
        totals = logprobs.new_zeros(len(replies)).index_add(0, self._tensor(of_reply[order]), logprobs)
        of_group = self._tensor(np.repeat(np.arange(len(groups)), sizes))
        choices = group_log_softmax(totals / self.agent.temperature, of_group)
        entropies = logprobs.new_zeros(len(groups)).index_add(0, of_group, -choices.exp() * choices)
        starts = np.cumsum([0, *sizes[:-1]])
        picked = self._tensor(starts[owners] + np.array([row.chosen for row in rows]))
        owner = self._tensor(np.array(owners))
        values = reading.values_N[owner] if reading.values_N is not None else None
        return Reading(choices[picked], entropies[owner], values)

    def _places_at(self, index: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        rows, places = index
        return self._tensor(rows), self._tensor(places)

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _choice_inputs(
        self, prompts: Sequence[tuple[int, ...]], groups: Sequence[tuple[tuple[int, ...], ...]]
    ) -> tuple[dict[str, torch.Tensor], list[tuple[int, int]], list[tuple[int, list[int]]]]:
        """Inputs of the model, (row, place) of each prompt's end, and for each reply its row and its path of places.

        A reply's token ``k`` is predicted at place ``k`` of its path.
        """
        model = unwrapped(self.agent.model)
        if takes_any_mask(model):
            trees = [ReplyTree.of([reply[:-1] for reply in group]) for group in groups]  # nothing follows a last token
            # In the type that attention computes in: the least float32 is minus infinity in bfloat16.
            dtype = torch.bfloat16 if self.precision == "bfloat16" else model.dtype
            packed = pack(prompts, trees, pad_id=self.agent.pad_id, dtype=dtype)
            end = packed.input_ids.shape[1] - packed.tree_width - 1
            paths = [(row, [end + place for place in path]) for row, tree in enumerate(trees) for path in tree.paths]
            inputs = {name: getattr(packed, name) for name in ("input_ids", "attention_mask", "position_ids")}
            return inputs, [(row, end) for row in range(len(prompts))], paths
        # Attention that follows no mask of ours: each reply with a prompt of its own.
        sequences = [
            (len(prompt), (*prompt, *reply)) for prompt, group in zip(prompts, groups, strict=True) for reply in group
        ]
        longest = max(len(sequence) for _, sequence in sequences)
        ids = torch.full((len(sequences), longest), self.agent.pad_id)
        mask = torch.zeros_like(ids)
        for row, (_, sequence) in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        firsts = np.cumsum([0, *(len(group) for group in groups[:-1])]).tolist()
        ends = [(first, len(prompt) - 1) for first, prompt in zip(firsts, prompts, strict=True)]
        paths = [(row, list(range(start - 1, len(sequence)))) for row, (start, sequence) in enumerate(sequences)]
        return {"input_ids": ids, "attention_mask": mask}, ends, paths

    def values(self, histories: Sequence[History]) -> NDArray[np.float64]:
        """Values of histories, read where the reply begins; shape ``(N,)``.

        Raises:
            ValueError: The policy has no value head.
        """
        if self.net.value is None:
            raise ValueError("the policy has no value head: make it with value_head=True")
        values = np.empty(len(histories))
        encoded = [each.token_ids for each in self.agent.encoder.histories(histories)]
        with torch.no_grad():
            for batch in batches_by_length([len(ids) for ids in encoded], self.batch_tokens):
                prompts = [encoded[index] for index in batch]
                inputs, ends, _ = self._choice_inputs(prompts, [((self.agent.pad_id,),)] * len(prompts))
                last = self._places_at(np.array(ends).T)
                moved = {name: tensor.to(self.device) for name, tensor in inputs.items()}
                none = self._tensor(np.empty(0, dtype=np.int64))
                with self._autocast():
                    reading = self.net(moved, Asked((none, none), none, none, last))
                values[batch] = reading.values_N.cpu().numpy()
        return values


def _placed(row: Row, episode: int, turn: int) -> Row:
    return Row(episode, (turn,), row.token_ids, row.sampled, row.places, row.replies, row.chosen)
