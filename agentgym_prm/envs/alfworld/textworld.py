"""The original engine (packages ``alfworld`` and ``textworld``) behind the interface of the native one.

Slow, and installed by the extra ``[alfworld]`` on Python 3.11 and 3.12 only. It plays any game file, also with rules or
texts that the native engine does not know, and it is what the native engine is tested against.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym_prm.envs.alfworld.engine import in_put_grammar
from agentgym_prm.envs.alfworld.goal import Goal, goal_share, parse_goal
from agentgym_prm.errors import GameFormatError, MissingDependencyError


class OriginalEngine:
    """One game in progress in the original engine; see ``Engine`` for the attributes that both share."""

    def __init__(self, put_grammar: str | None = None) -> None:
        """Raises ``MissingDependencyError`` if the original is not installed."""
        try:
            import textworld
            from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        except ImportError as error:
            raise MissingDependencyError(
                "the original ALFWorld engine is not installed: pip install 'agentgym_prm[alfworld]' "
                "(Python 3.11 or 3.12), or use engine='native'"
            ) from error
        self._textworld, self._demangler = textworld, AlfredDemangler
        self.put_grammar = put_grammar
        self._loaded: Mapping[str, Any] | None = None
        self.valid = True

    def reset(self, record: Mapping[str, Any]) -> str:
        """Start the game of a game file's JSON object and return the opening text."""
        if record != self._loaded:
            self._load(record)
        self.valid = True
        return self._take_in(self._env.reset())

    def step(self, command: str) -> str:
        """Execute ``command`` and return the feedback."""
        state, _, _ = self._env.step(in_put_grammar(command.strip(), self._file_put_grammar))
        self.valid = state["_last_action"] is not None
        return self._take_in(state)

    def admissible_commands(self) -> tuple[str, ...]:
        """What the original would execute now, in its order; puts are rewritten if another grammar was asked for."""
        commands = self._state["admissible_commands"]
        if self.put_grammar in (None, self._file_put_grammar):
            return tuple(commands)
        return tuple(sorted(in_put_grammar(command, self.listed_put_grammar) for command in commands))

    @property
    def listed_put_grammar(self) -> str:
        """The form in which puts are listed: the one asked for, else the game file's."""
        return self.put_grammar or self._file_put_grammar

    @property
    def won(self) -> bool:
        """Whether the goal holds."""
        return bool(self._state["won"])

    @property
    def goal_condition_success_rate(self) -> float:
        """Share of the goal's conditions that hold; for a goal of an unknown form, 1.0 or 0.0 for won or not."""
        if self._goal is None:
            return float(self.won)
        return goal_share(self._goal, [(fact.name, *fact.names) for fact in self._state["_facts"]])

    @property
    def task_type(self) -> str:
        """The task type that the goal has, or ``"unknown"``."""
        return self._goal.task_type if self._goal else "unknown"

    def _load(self, record: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "game.tw-pddl"
            path.write_text(json.dumps(dict(record)), encoding="utf-8")
            infos = self._textworld.EnvInfos(won=True, admissible_commands=True)
            self._env = self._textworld.start(str(path), infos, wrappers=[self._demangler()])
        self._loaded = record
        self._goal = _goal_or_none(record["pddl_problem"])
        self._file_put_grammar = "put" if "put {o} in/on {r}" in record["grammar"] else "move"

    def _take_in(self, state: Any) -> str:
        self._state = state
        return str(state.feedback)


def _goal_or_none(problem: str) -> Goal | None:
    try:
        return parse_goal(problem[problem.find("(:goal") :])
    except GameFormatError:
        return None
