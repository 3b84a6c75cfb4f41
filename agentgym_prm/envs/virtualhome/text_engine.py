"""The game in text: commands in, observations out, over the evolving graph. A pure state machine; copies are cheap.

A command that means nothing, cannot be executed or is none gets ``Nothing happens.`` and changes nothing; why, in the
executor's words, is in ``error``. The goal is checked after every command, as in the source system, so a task that is
solved from the start ends with the first command.
"""

from typing import Final

from agentgym_prm.envs.virtualhome.commands import Command, parse_command
from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.naming import Naming, UnknownReferenceError
from agentgym_prm.envs.virtualhome.observation import NOTHING, graph, partial
from agentgym_prm.envs.virtualhome.script import Action, ScriptLine, ScriptObject
from agentgym_prm.envs.virtualhome.task import Task

NOT_A_COMMAND: Final = "not a command"


class TextEngine:
    """One task in progress.

    Args:
        observation: ``"partial"`` or ``"graph"`` (``observation.py``).
        in_view: Whether only commands about what the character sees are listed as admissible. All are understood.
        core: Whether only commands of ``commands.CORE`` are listed.
        repaired: Whether three mistakes of the original's executors are mended (``actions.py``).

    Attributes:
        task: What is being played.
        world: The evolving graph.
        naming: What names mean now.
        valid: Whether the last command was executed.
        error: Why it was not, or what the executor said although it was; else "".
        performed: The actions executed so far.
    """

    __slots__ = (
        "_core", "_in_view", "_observation", "_share", "error", "naming", "performed", "task", "valid", "world",
    )  # fmt: skip

    task: Task
    naming: Naming

    def __init__(
        self, *, observation: str = "partial", in_view: bool = False, core: bool = False, repaired: bool = False
    ) -> None:
        self._observation, self._in_view, self._core = observation, in_view, core
        self.world = Engine(repaired=repaired)
        self.valid, self.error = True, ""
        self.performed: frozenset[Action] = frozenset()
        self._share = 0.0

    def reset(self, task: Task) -> str:
        """Start a task; returns the opening text."""
        self.task = task
        self.world.reset(task.apartment)
        self.naming = Naming(task.vocabulary, task.introduced)
        self.valid, self.error, self.performed = True, "", frozenset()
        self._share = task.goal.share(self.world)
        opening = f"The task is {task.instruction}."
        return f"{opening}\n{graph(self.world)}" if self._observation == "graph" else opening

    def step(self, command: str) -> str:
        """Execute a command and return the observation."""
        self.valid, self.error = self._execute(command)
        if not self.valid:
            return NOTHING
        self._share = self.task.goal.share(self.world, self.performed)
        return graph(self.world) if self._observation == "graph" else partial(self.world)

    def clone(self) -> "TextEngine":
        """An independent copy that goes on from the present state."""
        twin = TextEngine.__new__(TextEngine)
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        twin.world, twin.naming = self.world.clone(), self.naming.copy()
        return twin

    def admissible_commands(self) -> tuple[str, ...]:
        """Every command, by class names, that would be executed now, sorted; as far as they are to be listed."""
        return self.naming.admissible(self.world, in_view=self._in_view, core=self._core)

    @property
    def goal_condition_success_rate(self) -> float:
        """Share of the goal's conditions that hold."""
        return self._share

    @property
    def won(self) -> bool:
        """Whether the goal holds."""
        return self._share == 1.0

    @property
    def done(self) -> bool:
        """Whether the task ended, which it does only by being solved."""
        return self.won

    @property
    def outcome(self) -> float:
        """1.0 if the goal holds, else 0.0."""
        return float(self.won)

    def command_for(self, line: ScriptLine) -> str:
        """The command that does what a script line does; with ids only where class names would mean others."""
        apartment, pair = self.task.apartment, len(line.objects) == 2
        names = [
            self.naming.name_of(apartment.number(named.id), self.world.world, held=pair and position == 0)
            for position, named in enumerate(line.objects)
        ]
        return str(Command(line.action, tuple(names)))

    def _execute(self, text: str) -> tuple[bool, str]:
        command = parse_command(text)
        if command is None:
            return False, NOT_A_COMMAND
        try:
            numbers = self.naming.meant(command, self.world.world)
        except UnknownReferenceError as unknown:
            return False, str(unknown)
        nodes = self.task.apartment.nodes
        objects = tuple(ScriptObject(nodes[number].class_name, nodes[number].id) for number in numbers)
        success, message = self.world.execute(ScriptLine(command.action, objects))
        if success:
            self.naming.remember(numbers)
            self.performed |= {command.action}
        elif not message:
            message = f"{objects[0]} is in no room"  # to walk there is refused without a word
        return success, message
