"""Plain values that every other module passes around: actions, steps, histories, trajectories.

All are frozen: what happened in an episode is never edited afterwards. ``Trajectory.to_json`` and ``from_json`` are
exact inverses; ``SCHEMA_VERSION`` changes whenever the JSON form does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

SCHEMA_VERSION: Final = 1
INJECTED: Final = "injected"
"""Key of ``Action.scores``, value 1.0: the command was injected as noise and is not to be imitated."""
PARSE_ERROR: Final = "parse_error"
"""Key of ``Action.scores``, value 1.0: the reply held no command in the format asked for; ``command`` is empty then."""


class InfoKey:
    """Keys of the ``info`` dict that text environments return from ``reset`` and ``step``."""

    TASK: Final = "task"
    """The instruction, ``str``."""
    TASK_ID: Final = "task_id"
    """Which task of the data set this is, ``str``; stable across machines."""
    TASK_TYPE: Final = "task_type"
    """The task's kind, ``str``, by which results are broken down."""
    ADMISSIBLE_COMMANDS: Final = "admissible_commands"
    """What the environment would execute now, ``tuple[str, ...]``, sorted."""
    WON: Final = "won"
    """Whether the goal holds, ``bool``."""
    SCORE: Final = "score"
    """The benchmark's own score of the state reached, ``float`` in [0, 1]."""
    GOAL_CONDITION_SUCCESS_RATE: Final = "goal_condition_success_rate"
    """Share of the goal's conditions that hold, ``float`` in [0, 1]; 1.0 exactly when won."""
    VALID_ACTION: Final = "valid_action"
    """Whether the environment executed the last command (grounding), ``bool``; ``True`` after ``reset``."""
    ERROR: Final = "error"
    """Why the last command was not executed, in the simulator's words, ``str``; only where it says."""
    STEPS: Final = "steps"
    """Commands given since ``reset``, ``int``."""
    EXPERT_ACTION: Final = "expert_action"
    """What the expert asked for with ``expert=`` would do now, ``str``; ``""`` when it has no answer."""
    REWARD_TERMS: Final = "reward_terms"
    """What the step's reward is the sum of, ``dict[str, float]``; only behind reward wrappers."""
    ANSWERS: Final = "answers"
    """Every accepted form of a question's answer, list of ``str``; only where a task is a question."""
    ANSWER: Final = "answer"
    """The final answer that was given, ``str``, ``""`` before; only where a task is a question."""
    SEARCH_RESULT: Final = "search_result"
    """What the tool that the last command called brought, ``str``; ``""`` if none ran. Only where there are tools."""
    MALFORMED_CALLS: Final = "malformed_calls"
    """Commands since ``reset`` that were no call, answer or search, ``int``; only where these have a form."""


@dataclass(frozen=True, slots=True)
class Action:
    """What an agent decided at one turn.

    ``command`` goes to ``env.step``; ``reply`` is everything the model wrote. ``token_ids`` and ``logprobs`` are as
    sampled, and empty for agents that expose none: training on an empty one is an error, never a re-encode.
    ``candidates`` are the actions that were considered for this turn and not taken, in the order they were proposed.
    """

    command: str
    reply: str = ""
    reasoning: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    stop_reason: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple["Action", ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, as JSON values."""
        record: dict[str, Any] = {"command": self.command}
        for name in ("reply", "reasoning", "stop_reason"):
            if text := getattr(self, name):
                record[name] = text
        for name in ("token_ids", "logprobs"):
            if numbers := getattr(self, name):
                record[name] = list(numbers)
        for name in ("usage", "scores"):
            if mapping := getattr(self, name):
                record[name] = dict(mapping)
        if self.candidates:
            record["candidates"] = [candidate.to_json() for candidate in self.candidates]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Action":
        """Inverse of ``to_json``."""
        fields = dict(record)
        for name in ("token_ids", "logprobs"):
            if name in fields:
                fields[name] = tuple(fields[name])
        if "candidates" in fields:
            fields["candidates"] = tuple(cls.from_json(candidate) for candidate in fields["candidates"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Step:
    """One turn: what the agent saw, what it did, and what that brought.

    ``outcome_reward`` is the environment's own; ``process_reward`` is the sum of what wrappers added, already
    multiplied by their coefficients. ``info`` describes the state *after* the action.
    """

    observation: str
    admissible_commands: tuple[str, ...]
    action: Action
    outcome_reward: float = 0.0
    process_reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reward(self) -> float:
        """What the environment, with its wrappers, returned for this step."""
        return self.outcome_reward + self.process_reward

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {
            "observation": self.observation,
            "admissible_commands": list(self.admissible_commands),
            "action": self.action.to_json(),
            "outcome_reward": self.outcome_reward,
            "process_reward": self.process_reward,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "info": dict(self.info),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Step":
        """Inverse of ``to_json``."""
        fields = dict(record)
        fields["admissible_commands"] = tuple(fields["admissible_commands"])
        fields["action"] = Action.from_json(fields["action"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class History:
    """All that an agent may know when it chooses: the task, the turns so far, and what it sees now.

    ``seed`` and ``episode`` identify the episode, so that a sampling agent can draw the same actions again whichever
    slot of a vectorised environment the episode lands in. ``expert_action`` is filled only if the environment was
    made with ``expert=``; an agent that is being judged does not read it.
    """

    task: str
    observation: str
    admissible_commands: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    task_id: str = ""
    task_type: str = ""
    seed: int = 0
    episode: int = 0
    expert_action: str | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands given so far."""
        return tuple(step.action.command for step in self.steps)

    def after(self, step: Step, observation: str, info: Mapping[str, Any]) -> "History":
        """The history one turn later, given the finished ``step`` and what the environment answered."""
        return replace(
            self,
            observation=observation,
            admissible_commands=tuple(info.get(InfoKey.ADMISSIBLE_COMMANDS, ())),
            steps=(*self.steps, step),
            expert_action=info.get(InfoKey.EXPERT_ACTION),
        )


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A finished episode. ``episode`` is its number within the run that collected it."""

    task: str
    seed: int
    steps: tuple[Step, ...]
    final_observation: str
    task_id: str = ""
    task_type: str = ""
    episode: int = 0

    @property
    def outcome(self) -> float:
        """Sum of the environment's own rewards."""
        return sum(step.outcome_reward for step in self.steps)

    @property
    def won(self) -> bool:
        """Whether the goal holds at the end; where the environment does not say, whether there was any reward."""
        return bool(self.steps[-1].info.get(InfoKey.WON, self.outcome > 0)) if self.steps else False

    def history(self, turn: int) -> History:
        """What the agent knew when it chose ``steps[turn].action``; an expert's advice is not kept.

        Raises:
            IndexError: ``turn`` is not in ``[0, len(steps))``.
        """
        if not 0 <= turn < len(self.steps):
            raise IndexError(f"turn must be in [0, {len(self.steps)}), got {turn}")
        now = self.steps[turn]
        return History(
            task=self.task,
            observation=now.observation,
            admissible_commands=now.admissible_commands,
            steps=self.steps[:turn],
            task_id=self.task_id,
            task_type=self.task_type,
            seed=self.seed,
            episode=self.episode,
        )

    def final_history(self) -> History:
        """What an agent would know after the last step, admissible commands excepted: they are not recorded."""
        return History(
            task=self.task,
            observation=self.final_observation,
            steps=self.steps,
            task_id=self.task_id,
            task_type=self.task_type,
            seed=self.seed,
            episode=self.episode,
        )

    def histories(self) -> tuple[History, ...]:
        """What the agent knew at each step: one history a step, without ``expert_action``."""
        return tuple(self.history(turn) for turn in range(len(self.steps)))

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values, with the schema version."""
        return {
            "schema_version": SCHEMA_VERSION,
            "episode": self.episode,
            "seed": self.seed,
            "task_id": self.task_id,
            "task_type": self.task_type,
            "task": self.task,
            "steps": [step.to_json() for step in self.steps],
            "final_observation": self.final_observation,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Trajectory":
        """Inverse of ``to_json``.

        Raises:
            ValueError: The record was written with another schema version.
        """
        fields = dict(record)
        version = fields.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ValueError(f"trajectory schema_version must be {SCHEMA_VERSION}, got {version!r}")
        fields["steps"] = tuple(Step.from_json(step) for step in fields["steps"])
        return cls(**fields)
