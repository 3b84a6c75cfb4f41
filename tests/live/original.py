"""The original engine (alfworld + textworld) as the oracle: what it shows after each command.

Runs only where those packages are installed (``make parity`` sets up such an environment).
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shown:
    """What the original shows in one state; ``facts`` are its positive PDDL facts."""

    text: str
    admissible_commands: tuple[str, ...]
    won: bool
    facts: frozenset[tuple[str, ...]]


class Original:
    """One game file in the original engine."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "game.tw-pddl"
            path.write_text(json.dumps(record), encoding="utf-8")
            infos = textworld.EnvInfos(won=True, admissible_commands=True)
            self._env = textworld.start(str(path), infos, wrappers=[AlfredDemangler()])

    def reset(self) -> Shown:
        return self._shown(self._env.reset())

    def step(self, command: str) -> Shown:
        state, _, _ = self._env.step(command)
        return self._shown(state)

    def _shown(self, state: Any) -> Shown:
        facts = frozenset((fact.name, *fact.names) for fact in state["_facts"] if not fact.name.startswith("not_"))
        return Shown(state.feedback, tuple(state["admissible_commands"]), bool(state["won"]), facts)
