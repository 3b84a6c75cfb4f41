"""Trajectories on disk: one JSON object a line, appended when an episode ends, so a killed run loses none.

A line that was cut off by a kill is dropped when the file is continued; damage anywhere else is an error.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from agentgym_prm.errors import StoreError
from agentgym_prm.types import Trajectory


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """Every finished episode in the file, in the order in which they ended.

    Raises:
        StoreError: A line other than a cut-off last one is not a trajectory of this schema version.
        FileNotFoundError: No such file.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # cut off by a kill: the episode counts as not played
            yield _parse(line, f"{path}, line {number}")


def _parse(line: bytes, where: str) -> Trajectory:
    try:
        return Trajectory.from_json(json.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{where} is not a trajectory: {error}") from error


class TrajectoryWriter:
    """Appends trajectories to a file; a context manager.

    Args:
        path: The file. Missing folders are made.
        resume: Continue an existing file. Without it, a file that has content is refused.

    Raises:
        FileExistsError: The file has content and ``resume`` is false.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size and not resume:
            raise FileExistsError(f"{self.path} exists: resume it, or choose another place")
        self._file: BinaryIO = self.path.open("ab")
        self._drop_cut_off_line()

    def write(self, trajectory: Trajectory) -> None:
        """Append one episode; it is in the file when this returns."""
        try:
            line = json.dumps(trajectory.to_json(), separators=(",", ":"))
        except TypeError as error:
            raise StoreError(
                f"episode {trajectory.episode} holds a value that JSON has no form for: {error}"
            ) from error
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "TrajectoryWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop_cut_off_line(self) -> None:
        content_end = 0
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    content_end += len(line)
        self._file.truncate(content_end)
        self._file.seek(content_end)
