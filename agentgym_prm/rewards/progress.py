"""SPA's progress estimator: how much each turn of an episode contributed to its outcome.

Source: arXiv:2505.20732 (SPA-RL). A language model with a linear head, read at the last token of each reply, gives a
contribution for each turn; it is trained so that the contributions of an episode add up to its outcome. The model is
causal, so the contribution of a turn does not depend on what comes after it: asked online, turn by turn, the estimator
answers as it does for the finished episode, up to rounding. How it is trained: ``algos/progress.py``.

An episode is read in one forward pass where the prompt is a conversation: one transcript, one row. Where it is not
(style "state", a window of turns, a chat template that rewrites history) an episode is several transcripts, as the
policy saw them; each is a row, and the contributions are read where each reply ends all the same.

In SPA the reward of a turn is ``alpha * contribution + beta * grounding``, with alpha 1, beta 0.5 and grounding 1 where
the environment executed the command (``InfoKey.VALID_ACTION``), else 0. This is the first term; the second is a step
reward of its own, and the sum is the two stacked. Departs from the authors' release, whose data script overwrites the
contributions with the outcome minus a leave-one-out mean.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.prompts import Encoder, Prompt
from agentgym_prm.errors import needs_extra
from agentgym_prm.models import ModelConfig, evaluating, load_reward_model
from agentgym_prm.packing import batches_by_length
from agentgym_prm.rewards.folders import read_settings, write_model_folder
from agentgym_prm.rewards.prm import last_hidden, pad_right, scalar_outputs
from agentgym_prm.transcript import Chat, Transcript
from agentgym_prm.types import Action, History, Trajectory

with needs_extra("train"):
    import torch

MAX_LENGTH: Final = 4096
"""Tokens of the longest transcript (arXiv:2505.20732)."""
_SETTINGS_FILE: Final = "progress.json"
_SETTINGS_VERSION: Final = 1


class Reading(NamedTuple):
    """A row of the network's input, and the places where contributions are read: the last token of each reply."""

    token_ids: tuple[int, ...]
    places: tuple[int, ...]


def reply_ends(transcript: Transcript) -> tuple[int, ...]:
    """The place of the last token of each reply in a transcript, in order."""
    turns = [
        turn if is_action else None
        for turn, is_action in zip(transcript.turn_index, transcript.action_mask, strict=True)
    ]
    following = [*turns[1:], None]
    return tuple(
        place
        for place, (turn, after) in enumerate(zip(turns, following, strict=True))
        if turn is not None and turn != after
    )


class ProgressEstimator:
    """A trained estimator, as a ``StepScorer``: the score of an action is the contribution of its turn.

    Replies are read as they were sampled, so they have to be those of a policy with the same tokenizer; the commands of
    an expert, which have no token ids, are encoded. Results do not depend on the batch, up to rounding in float32.

    Args:
        model: As ``models.load_reward_model`` gives it.
        tokenizer: Its tokenizer.
        prompt: What the policy was shown, with its ``max_turns``.
        max_length: Most tokens of a transcript. A longer one is an error: what is cut off earns nothing.
        max_tokens: Longest prompt that the policy was shown, as in ``Encoder``; ``None`` for no limit.
        batch_tokens: Most tokens of one forward pass, padding included: bounds memory.
        name: What the scores are called.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: Prompt,
        *,
        max_length: int = MAX_LENGTH,
        max_tokens: int | None = None,
        batch_tokens: int = 16384,
        name: str = "progress",
    ) -> None:
        for argument, value in (("max_length", max_length), ("batch_tokens", batch_tokens)):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}")
        self.name = name
        self.model, self.tokenizer, self.prompt, self.max_length = model, tokenizer, prompt, max_length
        self.encoder = Encoder(prompt, Chat(tokenizer), max_tokens)
        self._batch_tokens = batch_tokens

    @classmethod
    def start(cls, config: ModelConfig, prompt: Prompt, *, seed: int = 0, **options: Any) -> "ProgressEstimator":
        """An untrained one on the body of a language model; the head is zero, and so is every contribution.

        A drawn head gives each turn a number of its own size; over an episode they add up to something far from any
        outcome, and most of the training goes into unlearning that.
        """
        estimator = cls(*load_reward_model(config, seed=seed), prompt, **options)
        with torch.no_grad():
            for name, weight in estimator.model.named_parameters():
                if "score" in name.split("."):
                    weight.zero_()
        return estimator

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> "ProgressEstimator":
        """What ``save`` wrote.

        Args:
            folder: Where it is.
            **options: Further fields of ``ModelConfig``, e.g. ``device="cuda"``.

        Raises:
            StoreError: There is none, or it is of another version.
        """
        record = read_settings(folder, _SETTINGS_FILE, _SETTINGS_VERSION, "progress estimator")
        prompt = Prompt(record["prompt"], record["prompt_source"], record["max_turns"])
        loaded = load_reward_model(ModelConfig(str(folder), **options))
        return cls(*loaded, prompt, max_length=record["max_length"], max_tokens=record["max_tokens"])

    def save(self, folder: str | Path, card: str = "") -> None:
        """Write a Hugging Face directory, with ``card`` as its README."""
        settings = {
            "prompt": self.prompt.name,
            "prompt_source": self.prompt.source,
            "max_turns": self.prompt.max_turns,
            "max_length": self.max_length,
            "max_tokens": self.encoder.max_tokens,
            "settings_version": _SETTINGS_VERSION,
        }
        card = card or "A progress estimator.\n"
        write_model_folder(folder, self.model, self.tokenizer, card, _SETTINGS_FILE, settings)

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        """The contribution of each action after the history at the same place, shape ``(N,)``.

        Raises:
            ValueError: Not as many histories as actions, a transcript is longer than ``max_length``, or a reply is one
                of another tokenizer.
        """
        if len(actions) != len(histories):
            raise ValueError(f"got {len(histories)} histories and {len(actions)} actions")
        unique = {id(history): history for history in histories}
        encoded = self.encoder.histories([self._with_token_ids(history) for history in unique.values()])
        prompts = {key: each.token_ids for key, each in zip(unique, encoded, strict=True)}
        readings = []
        for history, action in zip(histories, actions, strict=True):
            reply = action.token_ids or self.encoder.with_token_ids(action).token_ids
            token_ids = (*prompts[id(history)], *reply)
            turn = f"turn {len(history.steps)} of {history.task_id!r}"
            self._check_length(token_ids, turn)
            self._check_ids(token_ids, turn)
            readings.append(Reading(token_ids, (len(token_ids) - 1,)))
        return np.array([values[0] for values in self._values(readings)], dtype=np.float64)

    def contributions(self, trajectories: Sequence[Trajectory]) -> list[NDArray[np.float64]]:
        """The contribution of each turn of each episode, one array of shape ``(S,)`` for each.

        Raises:
            ValueError: As ``readings``.
        """
        readings_B = [self.readings(trajectory) for trajectory in trajectories]
        values = iter(self._values([reading for readings in readings_B for reading in readings]))
        # Transcripts are in the order of the turns, and each reply is in one of them.
        return [
            np.array([value for _ in readings for value in next(values)], dtype=np.float64) for readings in readings_B
        ]

    def readings(self, trajectory: Trajectory) -> tuple[Reading, ...]:
        """What the network reads of an episode: a row for each of its transcripts.

        Raises:
            ValueError: The episode has no turns, or a transcript is longer than ``max_length``.
        """
        episode = f"episode {trajectory.episode} of {trajectory.task_id!r}"
        if not trajectory.steps:
            raise ValueError(f"{episode} has no turns: nothing in it could have contributed")
        steps = self.encoder.steps_with_token_ids(trajectory.steps)
        transcripts = self.encoder.trajectory(replace(trajectory, steps=steps))
        for transcript in transcripts:
            self._check_length(transcript.token_ids, episode)
        return tuple(Reading(transcript.token_ids, reply_ends(transcript)) for transcript in transcripts)

    def outputs(self, readings: Sequence[Reading]) -> torch.Tensor:
        """The contributions of all replies in the rows, in order, shape ``(N,)``: one forward pass, with gradients."""
        sequences = pad_right([reading.token_ids for reading in readings], int(self.tokenizer.pad_token_id))
        reads = [(row, place) for row, reading in enumerate(readings) for place in reading.places]
        rows, places = torch.tensor(reads).T.to(self.model.device)
        inputs = {name: tensor.to(self.model.device) for name, tensor in sequences.items()}
        return scalar_outputs(self.model, last_hidden(self.model, **inputs)[rows, places])

    def _with_token_ids(self, history: History) -> History:
        if self.prompt.style == "state":
            return history  # earlier replies are not shown as such
        return replace(history, steps=self.encoder.steps_with_token_ids(history.steps))

    def _check_length(self, token_ids: Sequence[int], whose: str) -> None:
        positions = getattr(self.model.config, "max_position_embeddings", None) or self.max_length
        if len(token_ids) > min(self.max_length, positions):
            limit = "max_length" if self.max_length <= positions else "the model's positions,"
            raise ValueError(
                f"{whose} takes {len(token_ids)} tokens, more than {limit} {min(self.max_length, positions)}: "
                "nothing is cut off; raise it, or use a prompt that shows fewer turns"
            )

    def _check_ids(self, token_ids: Sequence[int], whose: str) -> None:
        # On a GPU an id out of range ends the process for everybody whom a server serves.
        count = self.model.get_input_embeddings().num_embeddings
        if not 0 <= min(token_ids) <= max(token_ids) < count:
            raise ValueError(
                f"{whose} holds token ids that are not in [0, {count}): replies have to be those of a policy with the "
                "estimator's tokenizer"
            )

    def _values(self, readings: Sequence[Reading]) -> list[list[float]]:
        """The contributions read off each row."""
        values: list[list[float]] = [[] for _ in readings]
        with evaluating(self.model):
            for batch in batches_by_length([len(each.token_ids) for each in readings], self._batch_tokens):
                outputs = iter(self.outputs([readings[index] for index in batch]).tolist())
                for index in batch:
                    values[index] = [next(outputs) for _ in readings[index].places]
        return values


@dataclass(frozen=True, slots=True)
class ProgressQuality:
    """How well contributions tell the outcomes of episodes that were not trained on.

    Attributes:
        episodes: How many.
        mean_squared_error: Of the sum of an episode's contributions, in squared units of the outcome.
        baseline: The same for one number for all: the mean outcome in training.
        r2: ``1 - mean_squared_error / baseline``; ``None`` if the baseline makes no error.
        correlation: Of that sum with the outcome; ``None`` if either is always the same.
        early_correlation: Of the sum over the first half of the turns, rounded up. How long an episode gets may tell
            its outcome too, and this is not taken out.
    """

    episodes: int
    mean_squared_error: float
    baseline: float
    r2: float | None
    correlation: float | None
    early_correlation: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def judge_progress(
    contributions_B_S: Sequence[NDArray[np.float64]], outcomes_B: Sequence[float], training_mean: float
) -> ProgressQuality:
    """Compare contributions with outcomes.

    Args:
        contributions_B_S: The contributions of each episode, one array of shape ``(S,)`` for each.
        outcomes_B: The outcome of each.
        training_mean: The mean outcome of the episodes that were trained on.

    Raises:
        ValueError: There are no episodes, or not as many outcomes.
    """
    if not contributions_B_S or len(contributions_B_S) != len(outcomes_B):
        raise ValueError(f"got contributions of {len(contributions_B_S)} episodes and {len(outcomes_B)} outcomes")
    outcomes = np.asarray(outcomes_B, dtype=np.float64)
    sums = np.array([each.sum() for each in contributions_B_S])
    early = np.array([each[: (len(each) + 1) // 2].sum() for each in contributions_B_S])
    error, baseline = (float(np.mean((guess - outcomes) ** 2)) for guess in (sums, training_mean))
    return ProgressQuality(
        episodes=len(outcomes),
        mean_squared_error=error,
        baseline=baseline,
        r2=1 - error / baseline if baseline else None,
        correlation=_correlation(sums, outcomes),
        early_correlation=_correlation(early, outcomes),
    )


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    if not np.ptp(one) or not np.ptp(other):
        return None
    return float(np.corrcoef(one, other)[0, 1])
