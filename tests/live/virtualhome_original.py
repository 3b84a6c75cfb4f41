"""The original executor (github.com/xavierpuigf/virtualhome) as the oracle: what a script line does to a graph.

Read from the checkout that $VIRTUALHOME_HOME names; it needs numpy and nothing else.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME_VARIABLE = "VIRTUALHOME_HOME"
_SECONDS = 2.0


def load() -> Any:
    """The original's package ``evolving_graph``; ``FileNotFoundError`` says where it comes from."""
    home = os.environ.get(HOME_VARIABLE, "")
    folder = Path(home) / "virtualhome" / "simulation"
    if not home or not (folder / "evolving_graph" / "execution.py").is_file():
        raise FileNotFoundError(
            f"no {folder / 'evolving_graph'}: let ${HOME_VARIABLE} name a checkout of "
            "https://github.com/xavierpuigf/virtualhome"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    import evolving_graph.environment
    import evolving_graph.execution
    import evolving_graph.scripts

    return evolving_graph


@dataclass(frozen=True)
class Answer:
    """What the original does with one line; ``problem`` names the exception that it raises instead of an error."""

    success: bool
    message: str
    problem: str = ""


class Original:
    """One graph in the original, played as ``ScriptExecutor.execute`` does: its graph is read after every step."""

    def __init__(self, graph: Mapping[str, Any]) -> None:
        self._package = load()
        self._graph = graph
        environment = self._package.environment
        self._start = environment.EnvironmentGraph(graph)
        self._executor = self._package.execution.ScriptExecutor(self._start, {})
        self.reset()

    def reset(self) -> None:
        """Begin anew, without a trace of what was played."""
        self._state = self._package.environment.EnvironmentState(self._start, {}, instance_selection=True)
        self.read()

    def read(self) -> tuple[dict[int, frozenset[str]], frozenset[tuple[int, str, int]]]:
        """States of each node, and the edges."""
        graph = self._state.to_dict()
        states = {node["id"]: frozenset(node["states"]) for node in graph["nodes"]}
        return states, frozenset((e["from_id"], e["relation_type"], e["to_id"]) for e in graph["edges"])

    def execute(self, line: str, index: int = 0) -> Answer:
        """One step of ``execute_one_step``."""
        scripts, info = self._package.scripts, self._executor.info
        info.messages.clear()
        try:
            script = scripts.Script([scripts.parse_script_line(line, index)])
            with _time_limit():
                success, self._state = self._executor.execute_one_step(script, self._state)
        except Exception as error:
            return Answer(False, "", f"{type(error).__name__}: {error}")
        return Answer(success, info.get_error_string())

    def step(self, script: Any) -> bool:
        """One step of a line that is parsed already, without anything around it: what is timed."""
        success, self._state = self._executor.execute_one_step(script, self._state)
        return bool(success)

    def parse(self, line: str) -> Any:
        """A script of one line."""
        scripts = self._package.scripts
        return scripts.Script([scripts.parse_script_line(line, 0)])


@contextmanager
def _time_limit() -> Iterator[None]:
    """It searches some rooms forever; ``TimeoutError`` then."""

    def give_up(*_: object) -> None:
        raise TimeoutError("never returns")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
