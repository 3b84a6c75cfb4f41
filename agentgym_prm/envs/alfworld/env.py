"""ALFWorld as a Gymnasium environment: task choice, ``info`` and outcome reward around an engine.

Reward: 1.0 on the step that reaches the goal, else 0.0; the episode terminates there. Departures from the original: the
seed picks the game (there, the order of the file system does), ``put X in/on Y`` is understood beside ``move X to Y``,
and ``info`` holds the share of goal conditions, which the original's text engine lacks.
"""

from collections.abc import Sequence
from functools import partial
from os import PathLike
from typing import Any, Final

from agentgym_prm.envs.alfworld.engine import PUT_GRAMMARS, Engine, in_put_grammar
from agentgym_prm.envs.alfworld.expert import EXPERTS, Expert, make_expert
from agentgym_prm.envs.alfworld.files import GameCollection, open_games
from agentgym_prm.envs.alfworld.textworld import OriginalEngine
from agentgym_prm.envs.core import Outcome, TextEnv, TextVectorEnv
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.types import InfoKey

ENGINES: Final = ("native", "textworld")


class ALFWorldEnv(TextEnv):
    """Household games in text: find things, clean, heat or cool them, put them away.

    Args:
        data: ``"builtin"`` for generated games that need no download; ``"official"`` for the benchmark's files below
            ``$ALFWORLD_DATA``; or a path to a game file, a packed list or a folder.
        split: ``train``, ``valid_seen`` or ``valid_unseen``.
        engine: ``"native"``, or ``"textworld"`` for the original one (extra ``[alfworld]``).
        difficulty: Size of builtin games: ``"small"`` (a few receptacles) or ``"full"`` (as large as the benchmark's).
        put_grammar: Which form the admissible commands list, ``"move"`` (``move X to Y``) or ``"put"``
            (``put X in/on Y``); ``None`` follows the game file. Both are always understood.
        expert: ``"walkthrough"``, ``"planner"`` or ``"handcoded"`` fills ``info["expert_action"]`` at every step.
        render_mode: ``"ansi"`` lets ``render`` return the last observation.
    """

    def __init__(
        self,
        *,
        data: str | PathLike[str] = "builtin",
        split: str = "train",
        engine: str = "native",
        difficulty: str = "full",
        put_grammar: str | None = None,
        expert: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        for kind, name, valid in (
            ("engine", engine, ENGINES),
            ("put_grammar", put_grammar, (None, *PUT_GRAMMARS)),
            ("expert", expert, (None, *EXPERTS)),
        ):
            if name not in valid:
                raise UnknownNameError.of(kind, name, [each for each in valid if each])
        self._games = open_games(data, split, difficulty)
        self._engine = Engine(put_grammar) if engine == "native" else OriginalEngine(put_grammar)
        self._task_index = 0
        self._info: dict[str, Any] = {}
        self._expert: Expert | None = None
        if expert is not None:
            self._expert = make_expert(
                expert, self._engine if isinstance(self._engine, Engine) else None, self._walkthrough
            )

    @property
    def num_tasks(self) -> int:
        return len(self._games)

    @property
    def games(self) -> GameCollection:
        """The games of the split."""
        return self._games

    @property
    def engine(self) -> Engine | OriginalEngine:
        """The engine of the running game; a native one can be cloned to try commands out."""
        return self._engine

    def task_index(self, task_id: str) -> int:
        return self._games.index(task_id)

    def _begin(self, task_index: int) -> Outcome:
        self._task_index = task_index
        if isinstance(self._engine, Engine):
            game = self._games.game(task_index)
            observation = self._engine.reset(game)
            task, task_id, task_type = game.task, game.task_id, game.task_type
        else:
            observation = self._engine.reset(self._games.record(task_index))
            task = observation.rpartition("Your task is to: ")[2]
            task_id, task_type = self._games.task_ids[task_index], self._engine.task_type
        self._info = {InfoKey.TASK: task, InfoKey.TASK_ID: task_id, InfoKey.TASK_TYPE: task_type}
        info = self._state_info()
        if self._expert is not None:
            self._expert.begin(task, observation, info[InfoKey.ADMISSIBLE_COMMANDS])
            info[InfoKey.EXPERT_ACTION] = self._expert.choose()
        return Outcome(observation, info=info)

    def _advance(self, command: str) -> Outcome:
        observation = self._engine.step(command)
        info = self._state_info()
        if self._expert is not None:
            self._expert.observe(command, observation, info[InfoKey.ADMISSIBLE_COMMANDS])
            info[InfoKey.EXPERT_ACTION] = "" if info[InfoKey.WON] else self._expert.choose()
        return Outcome(observation, info[InfoKey.SCORE], info[InfoKey.WON], info)

    def _state_info(self) -> dict[str, Any]:
        engine = self._engine
        share = engine.goal_condition_success_rate
        won = share == 1.0
        return {
            **self._info,
            InfoKey.ADMISSIBLE_COMMANDS: engine.admissible_commands(),
            InfoKey.WON: won,
            InfoKey.SCORE: 1.0 if won else 0.0,
            InfoKey.GOAL_CONDITION_SUCCESS_RATE: share,
            InfoKey.VALID_ACTION: engine.valid,
        }

    def _walkthrough(self) -> Sequence[str]:
        if isinstance(self._engine, Engine):
            stored = self._games.walkthrough(self._task_index)
        else:
            stored = self._games.record(self._task_index).get("walkthrough") or ()
        return [in_put_grammar(command, self._engine.listed_put_grammar) for command in stored]


def make_vector_env(num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any) -> TextVectorEnv:
    """Entry point of ``gym.make_vec``: ``num_envs`` environments stepped together in this process."""
    return TextVectorEnv(partial(ALFWorldEnv, **kwargs), num_envs, max_episode_steps=max_episode_steps)
