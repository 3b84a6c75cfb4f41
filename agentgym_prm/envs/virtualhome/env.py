"""VirtualHome as a Gymnasium environment: tasks by name, ``info`` and outcome reward around an engine.

Reward: 1.0 on the step after which the goal holds, else 0.0; the episode terminates there. Departures from the source
system's text environment: the seed picks the task; what names mean is decided by rule (``naming.py``; there, partly by
chance); equivalent names are understood; actions come without ``Action:`` (replies are parsed elsewhere); a step that
makes the executor fail is refused like any other (there, the reply says that the input is malformed); ``info`` tells
what can be done, what share of the goal holds, and why a command was refused.
"""

from functools import partial
from os import PathLike
from typing import Any, Final

from agentgym_prm.envs.core import Outcome, TextEnv, TextVectorEnv
from agentgym_prm.envs.virtualhome.experts import EXPERTS, PlannerExpert, ProgramExpert
from agentgym_prm.envs.virtualhome.files import TaskCollection, open_tasks
from agentgym_prm.envs.virtualhome.homekeeper import Homekeeper
from agentgym_prm.envs.virtualhome.observation import OBSERVATIONS
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.types import InfoKey

COMMANDS: Final = ("all", "core")


class VirtualHomeEnv(TextEnv):
    """Household activities in apartments: walk, grab, open, put, switch on, sit down.

    Args:
        data: ``"builtin"`` for generated tasks that need no download; ``"official"`` for the task file in the folder
            that ``$VIRTUALHOME_DATA`` names; or a path to a task file or its folder.
        split: ``train``, ``valid_seen`` or ``valid_unseen``; of task files also ``all``.
        difficulty: Of builtin tasks: ``"small"`` (three rooms, some twenty nodes, for tiny models) or ``"full"`` (as
            large as the benchmark's).
        unseen: What is new in ``valid_unseen``: ``"activity"`` or ``"scene"``. By default the scene in builtin tasks,
            the activity in task files, which often have one scene.
        observation: ``"partial"`` as in the source system, or ``"graph"`` for what is near with ids, states and places.
        commands: Which admissible commands are listed: ``"all"``, or ``"core"`` for those of ``commands.CORE``. All are
            understood either way. By default ``core`` for small builtin tasks, else all.
        in_view: Whether only commands about what the character sees are listed. By default so for small builtin tasks.
        repaired: Whether three mistakes of the original's executors are mended (``actions.py``).
        expert: ``"program"``, ``"planner"`` or ``"homekeeper"`` fills ``info["expert_action"]`` at every step.
        render_mode: ``"ansi"`` lets ``render`` return the last observation.

    ``info`` also holds ``error``: why the last command was not executed, in the executor's words, or what the executor
    said although it was (of what is plugged out and still on); else "".
    """

    def __init__(
        self,
        *,
        data: str | PathLike[str] = "builtin",
        split: str = "train",
        difficulty: str = "full",
        unseen: str | None = None,
        observation: str = "partial",
        commands: str | None = None,
        in_view: bool | None = None,
        repaired: bool = False,
        expert: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        for kind, name, valid in (
            ("observation", observation, OBSERVATIONS),
            ("list of commands", commands, (None, *COMMANDS)),
            ("expert", expert, (None, *EXPERTS)),
        ):
            if name not in valid:
                raise UnknownNameError.of(kind, name, [each for each in valid if each])
        if expert == "homekeeper" and observation != "partial":
            raise ValueError(f"expert='homekeeper' reads observation='partial', got {observation!r}")
        if unseen is None:
            unseen = "scene" if data == "builtin" else "activity"
        self._tasks = open_tasks(data, split, difficulty, unseen)
        small = data == "builtin" and difficulty == "small"
        self._engine = TextEngine(
            observation=observation,
            in_view=small if in_view is None else in_view,
            core=small if commands is None else commands == "core",
            repaired=repaired,
        )
        self._knowing: ProgramExpert | PlannerExpert | None = None
        if expert in ("program", "planner"):
            self._knowing = (ProgramExpert if expert == "program" else PlannerExpert)(self._engine)
        self._reads_along = expert == "homekeeper"
        self._homekeeper: Homekeeper | None = None
        self._info: dict[str, Any] = {}

    @property
    def num_tasks(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> TaskCollection:
        """The tasks of the split."""
        return self._tasks

    @property
    def engine(self) -> TextEngine:
        """The running game; it can be cloned to try commands out."""
        return self._engine

    def task_index(self, task_id: str) -> int:
        return self._tasks.index(task_id)

    def _begin(self, task_index: int) -> Outcome:
        task = self._tasks.task(task_index)
        observation = self._engine.reset(task)
        self._info = {
            InfoKey.TASK: task.instruction,
            InfoKey.TASK_ID: task.task_id,
            InfoKey.TASK_TYPE: task.activity,
        }
        info = self._state_info()
        if self._knowing is not None:
            self._knowing.begin()
        if self._reads_along:
            self._homekeeper = Homekeeper.begin(task.instruction, observation, info[InfoKey.ADMISSIBLE_COMMANDS])
        return Outcome(observation, info=self._advised(info))

    def _advance(self, command: str) -> Outcome:
        observation = self._engine.step(command)
        info = self._state_info()
        if self._knowing is not None:
            self._knowing.observe(command)
        if self._homekeeper is not None:
            self._homekeeper.observe(command, observation, info[InfoKey.ADMISSIBLE_COMMANDS])
        return Outcome(observation, self._engine.outcome, self._engine.done, self._advised(info))

    def _state_info(self) -> dict[str, Any]:
        engine = self._engine
        return {
            **self._info,
            InfoKey.ADMISSIBLE_COMMANDS: engine.admissible_commands(),
            InfoKey.WON: engine.won,
            InfoKey.SCORE: engine.outcome,
            InfoKey.GOAL_CONDITION_SUCCESS_RATE: engine.goal_condition_success_rate,
            InfoKey.VALID_ACTION: engine.valid,
            InfoKey.ERROR: engine.error,
        }

    def _advised(self, info: dict[str, Any]) -> dict[str, Any]:
        if expert := self._knowing or self._homekeeper:
            info[InfoKey.EXPERT_ACTION] = "" if info[InfoKey.WON] else expert.choose()
        return info


def make_vector_env(num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any) -> TextVectorEnv:
    """Entry point of ``gym.make_vec``: ``num_envs`` environments stepped together in this process."""
    return TextVectorEnv(partial(VirtualHomeEnv, **kwargs), num_envs, max_episode_steps=max_episode_steps)
