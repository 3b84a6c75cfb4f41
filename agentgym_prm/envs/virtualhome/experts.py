"""Experts inside the environment: what to do next, for ``info["expert_action"]``.

===============  ================================================  =========================================
name             knows                                             off its own path
===============  ================================================  =========================================
``program``      the script stored with the task                   has no answer once something else was done
``planner``      the full state, and the script if it has no plan  plans anew
``homekeeper``   the texts alone, as a person would                goes on from what it has seen
===============  ================================================  =========================================

The program of a builtin task is the planner's plan from the start. The first two know ids, and write them where a class
name alone would mean something else.
"""

from collections.abc import Sequence
from typing import Final

from agentgym_prm.envs.virtualhome.commands import parse_command
from agentgym_prm.envs.virtualhome.homekeeper import NO_ANSWER
from agentgym_prm.envs.virtualhome.planner import plan
from agentgym_prm.envs.virtualhome.script import ScriptLine
from agentgym_prm.envs.virtualhome.text_engine import TextEngine

EXPERTS: Final = ("program", "planner", "homekeeper")


class ProgramExpert:
    """Follows the task's own script; its lines that cannot be executed are left out.

    Commands that change nothing do not count; once another command was executed, it has no answer.
    """

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine

    def begin(self) -> None:
        """A new episode starts."""
        self._remaining = _program(self._engine)
        self._advice = self._next()

    def observe(self, command: str) -> None:
        """Somebody gave ``command``; the engine is in the state after it."""
        if not self._engine.valid:
            return
        if self._advice and parse_command(command) == parse_command(self._advice):
            self._remaining.pop(0)
        else:
            self._remaining = []
        self._advice = self._next()

    def choose(self) -> str:
        """The next command, ``""`` if there is none."""
        return self._advice

    def _next(self) -> str:
        while self._remaining:
            command = self._engine.command_for(self._remaining[0])
            trial = self._engine.clone()
            trial.step(command)
            if trial.valid:
                return command
            self._remaining.pop(0)
        return NO_ANSWER


class PlannerExpert:
    """Plans on the engine's state; a plan is kept while the episode follows it.

    Where it finds none it tries the task's own script from the present state.
    """

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine

    def begin(self) -> None:
        """A new episode starts."""
        self._plan: Sequence[ScriptLine] | None = None

    def observe(self, command: str) -> None:
        """Somebody gave ``command``; the engine is in the state after it."""
        if not self._engine.valid:
            return
        if self._plan and parse_command(command) == parse_command(self._advice):
            self._plan = self._plan[1:]
        else:
            self._plan = None

    def choose(self) -> str:
        """The next command, ``""`` if no plan is found or the goal holds."""
        engine = self._engine
        if self._plan is None:
            found = plan(engine.world, engine.task.goal, engine.performed, engine.task.introduced)
            self._plan = self._from_program() if found is None else found
        self._advice = engine.command_for(self._plan[0]) if self._plan else NO_ANSWER
        return self._advice

    def _from_program(self) -> Sequence[ScriptLine]:
        """What of the task's own script can be executed from here, if that reaches the goal."""
        trial, lines = self._engine.clone(), []
        for line in _program(self._engine):
            trial.step(trial.command_for(line))
            lines += [line] * trial.valid
        return lines if trial.won else ()


def _program(engine: TextEngine) -> list[ScriptLine]:
    """The task's own script, without lines about what is not in the apartment."""
    numbers = engine.task.apartment.numbers
    return [line for line in engine.task.program if all(named.id in numbers for named in line.objects)]
