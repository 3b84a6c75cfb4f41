"""Branching estimates on disk: one JSON object for each state, appended in whole chunks.

A line says where the state is (``source``, ``episode``, ``turn``), what was tried there (``commands``), what came of it
(``values``) and by how many continuations of each (``visits``). Histories are not repeated: they are read again from
the trajectory file, whose path ``source`` gives relative to this one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentgym_prm.errors import StoreError
from agentgym_prm.rewards.targets import ActionValues
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import Action, Trajectory


@dataclass(frozen=True, slots=True)
class BranchRecord:
    """The estimates of one state; see the module's text."""

    source: str
    episode: int
    turn: int
    commands: tuple[str, ...]
    values: tuple[float, ...]
    visits: int

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "BranchRecord":
        """Inverse of ``asdict``, lists for tuples."""
        made = cls(**{**record, "commands": tuple(record["commands"]), "values": tuple(record["values"])})
        if len(made.commands) != len(made.values):
            raise ValueError(f"{len(made.commands)} commands have {len(made.values)} values")
        return made


def whole_chunks(path: str | Path, chunk: int) -> int:
    """Cut a file that a kill left behind to its whole chunks, and return how many records these are.

    A chunk is estimated in one batch: one that was written in part is estimated again, or rounding would differ.
    """
    path = Path(path)
    if not path.exists():
        return 0
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    kept = len(lines) // chunk * chunk
    with path.open("rb+") as file:
        file.truncate(sum(map(len, lines[:kept])))
    return kept


def append_branches(path: str | Path, records: Sequence[BranchRecord]) -> None:
    """Append records; they are in the file when this returns."""
    lines = "".join(json.dumps(asdict(record), separators=(",", ":")) + "\n" for record in records)
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(lines)


def read_records(path: str | Path) -> Iterator[BranchRecord]:
    """The records of a file; a last line that was cut off is left out.

    Raises:
        StoreError: Another line is no record.
        FileNotFoundError: No such file.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield BranchRecord.from_json(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise StoreError(f"{path}, line {number} is no branching estimate: {error}") from error


def read_branches(path: str | Path) -> Iterator[ActionValues]:
    """The estimates with their histories, which are read from the trajectory files that the records name.

    Raises:
        StoreError: A line is damaged, or a trajectory file lacks the episode or turn that it names.
        FileNotFoundError: The file, or a trajectory file, is missing.
    """
    sources: dict[str, dict[int, Trajectory]] = {}
    for record in read_records(path):
        if record.source not in sources:
            trajectories = read_trajectories(Path(path).parent / record.source)
            sources[record.source] = {trajectory.episode: trajectory for trajectory in trajectories}
        trajectory = sources[record.source].get(record.episode)
        if trajectory is None or record.turn >= len(trajectory.steps):
            raise StoreError(f"{path} names episode {record.episode}, turn {record.turn}: {record.source} has no such")
        history = trajectory.history(record.turn)
        if not set(record.commands) <= {*history.admissible_commands}:
            raise StoreError(f"{path} was made for other trajectories than {record.source}: make the targets again")
        yield ActionValues(
            history=history,
            actions=tuple(Action(command) for command in record.commands),
            values=record.values,
            visits=(record.visits,) * len(record.commands),
        )
