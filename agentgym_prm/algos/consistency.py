"""Whether the trainer sees what the sampler did: the same token ids, and the same log-probabilities for them.

Both sides are built from the same transcripts, so the ids agree unless a chat format or a prompt breaks the prefix
property in a way that nobody noticed; the log-probabilities agree up to rounding (about 1e-6 in float32). A larger gap
means another model, another temperature, dropout, or a mask that is wrong.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_prm.agents.prompts import Encoder
from agentgym_prm.errors import needs_extra
from agentgym_prm.transcript import Transcript
from agentgym_prm.types import Action, Trajectory

with needs_extra("train"):
    import torch


@dataclass(frozen=True, slots=True)
class GapReport:
    """How far sampler and trainer are apart.

    Attributes:
        trajectories: How many were compared.
        action_tokens: Sampled tokens in them.
        max_gap: Largest difference of the log-probabilities of a sampled token.
        mean_gap: Mean difference, sign dropped.
        identical_ids: Whether every prompt with its reply, as the sampler had them, is the beginning of a transcript
            that is trained on.
    """

    trajectories: int
    action_tokens: int
    max_gap: float
    mean_gap: float
    identical_ids: bool


def sampler_trainer_gap(
    model: Any, encoder: Encoder, trajectories: Iterable[Trajectory], *, batch_size: int = 8, pad_id: int = 0
) -> GapReport:
    """Compare what was recorded when trajectories were sampled with what a trainer computes for them.

    Args:
        model: The causal LM that sampled them.
        encoder: What it was shown them by, e.g. ``LocalAgent.encoder``.
        trajectories: Sampled ones, with token ids and log-probabilities.
        batch_size: Transcripts of one forward pass.
        pad_id: Id that fills shorter transcripts.

    Raises:
        ValueError: A reply has no token ids, or none has log-probabilities.
    """
    count, identical = 0, True
    expected: list[tuple[Transcript, list[float]]] = []
    for trajectory in trajectories:
        count += 1
        transcripts = encoder.trajectory(trajectory)
        identical = identical and _same_ids(encoder, trajectory, transcripts)
        actions = [step.action for step in trajectory.steps]
        expected += [(transcript, _temperatures(transcript, actions)) for transcript in transcripts]
    # Similar lengths together, so that little is padding.
    expected.sort(key=lambda pair: len(pair[0]))
    gaps: list[float] = []
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(expected), batch_size):
            gaps += _gaps(model, expected[start : start + batch_size], pad_id)
    finally:
        model.train(was_training)
    if not gaps:
        raise ValueError(f"{count} trajectories hold no sampled token: there is nothing to compare")
    return GapReport(count, len(gaps), max(gaps), sum(gaps) / len(gaps), identical)


def _same_ids(encoder: Encoder, trajectory: Trajectory, transcripts: Sequence[Transcript]) -> bool:
    """Whether each turn's prompt and reply begin the transcript that holds the turn's reply."""
    owners = {
        turn: transcript
        for transcript in transcripts
        for turn, is_action in zip(transcript.turn_index, transcript.action_mask, strict=True)
        if is_action
    }
    for turn, step in enumerate(trajectory.steps):
        sampled = (*encoder.history(trajectory.history(turn)).token_ids, *step.action.token_ids)
        if owners[turn].token_ids[: len(sampled)] != sampled:
            return False
    return True


def _temperatures(transcript: Transcript, actions: Sequence[Action]) -> list[float]:
    """For each token what the logits were divided by when its log-probability was recorded."""
    by_turn = [_temperature(action) for action in actions]
    return [by_turn[turn] for turn in transcript.turn_index]


def _temperature(action: Action) -> float:
    # Commands that were chosen among the admissible ones carry the model's own log-probabilities.
    if "choice_logprob" in action.scores:
        return 1.0
    return float(action.usage.get("temperature", 1.0)) or 1.0


def _gaps(model: Any, batch: Sequence[tuple[Transcript, list[float]]], pad_id: int) -> list[float]:
    longest = max(len(transcript) for transcript, _ in batch)
    ids = torch.full((len(batch), longest), pad_id)
    attention = torch.zeros((len(batch), longest), dtype=torch.long)
    rows, places, recorded, divisors = [], [], [], []
    for row, (transcript, temperatures) in enumerate(batch):
        ids[row, : len(transcript)] = torch.tensor(transcript.token_ids)
        attention[row, : len(transcript)] = 1
        for place, is_action in enumerate(transcript.action_mask):
            if is_action:
                rows.append(row)
                places.append(place)
                recorded.append(transcript.logprobs[place])
                divisors.append(temperatures[place])
    # The head is applied only where a sampled token is predicted: with a large vocabulary it is most of the memory.
    keep = sorted({place - 1 for place in places})
    column_of = {place: column for column, place in enumerate(keep)}
    columns = [column_of[place - 1] for place in places]
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=attention.to(model.device),
            use_cache=False,
            logits_to_keep=torch.tensor(keep, device=model.device),
        ).logits[rows, columns]
        scaled = logits.float().cpu() / torch.tensor(divisors)[:, None]
        trained = torch.log_softmax(scaled, -1)[range(len(rows)), ids[rows, places]]
    gaps: list[float] = (trained.double() - torch.tensor(recorded, dtype=torch.float64)).abs().tolist()
    return gaps
