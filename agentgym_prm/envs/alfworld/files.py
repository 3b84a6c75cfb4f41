"""Where ALFWorld games come from: the benchmark's folders, single files, packed lists, or our own generator.

``open_games`` answers with a ``GameCollection``: how many games, their ids, and one game at a time. It reads only what
that needs: listing a split looks at the end of each file, and a game is parsed when it is first played, once a process.
"""

import json
import lzma
import os
import re
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from agentgym_prm.envs.alfworld import generate
from agentgym_prm.envs.alfworld.dialect import domain_text, grammar_text, recognise, split_task
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.export import game_file
from agentgym_prm.envs.alfworld.game import Game, GameDescription, parse_problem
from agentgym_prm.envs.alfworld.planner import plan
from agentgym_prm.errors import DataNotFoundError, GameFormatError, UnknownNameError

GAME_FILE: Final = "game.tw-pddl"
DATA_VARIABLE: Final = "ALFWORLD_DATA"
OFFICIAL_SPLITS: Final = ("train", "valid_seen", "valid_unseen", "valid_train")
_PACKED_SUFFIXES: Final = (".jsonl.xz", ".jsonl")
_T = TypeVar("_T")
_PARSED_LIMIT: Final = 4096
"""Parsed games kept in memory: 21 kB each, some 150 kB once hundreds of episodes have filled its caches."""


class GameCollection(ABC):
    """The games of one split, in a fixed order.

    Read-only and shared: a deep copy is the collection itself, and unpickling opens ``source`` again, once a process.
    """

    def __init__(self, where: str, source: tuple[str, str, str]) -> None:
        self.where = where
        self._source = source
        self._games: OrderedDict[int, Game] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, object]) -> "GameCollection":
        return self

    def __reduce__(self) -> tuple[Callable[..., "GameCollection"], tuple[str, str, str]]:
        return open_games, self._source

    @property
    @abstractmethod
    def task_ids(self) -> Sequence[str]:
        """The id of each game, sorted."""

    @abstractmethod
    def describe(self, index: int) -> GameDescription:
        """Read one game."""

    def record(self, index: int) -> dict[str, Any]:
        """The game as the JSON object of an official game file."""
        return game_file(self.describe(index))

    def __len__(self) -> int:
        return len(self.task_ids)

    def game(self, index: int) -> Game:
        """One game, compiled: the same object for every caller in this process."""
        game = self._games.get(index)
        if game is None:
            game = self._games[index] = Game(self.describe(index))
            if len(self._games) > _PARSED_LIMIT:
                self._games.popitem(last=False)
        return game

    def walkthrough(self, index: int) -> Sequence[str]:
        """The solution stored with a game; empty if there is none."""
        return self.game(index).walkthrough

    def index(self, task_id: str) -> int:
        """The index of a game; ``UnknownNameError`` with the nearest id if there is none."""
        if task_id not in self._indices:
            nearest = get_close_matches(task_id, self.task_ids, n=1, cutoff=0)[0]
            raise UnknownNameError(
                f"unknown task id {task_id!r} among the {len(self)} games of {self.where} (did you mean {nearest!r}?)"
            )
        return self._indices[task_id]

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {task_id: index for index, task_id in enumerate(self.task_ids)}


class BuiltinGames(GameCollection):
    """Games of our own generator."""

    def __init__(self, split: str, difficulty: str) -> None:
        if split not in generate.SPLIT_SIZES:
            raise UnknownNameError.of("split", split, generate.SPLIT_SIZES)
        if difficulty not in generate.DIFFICULTIES:
            raise UnknownNameError.of("difficulty", difficulty, generate.DIFFICULTIES)
        super().__init__(f"builtin/{split}", ("builtin", split, difficulty))
        self._split, self._difficulty = split, difficulty
        self._plans: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return generate.SPLIT_SIZES[self._split]

    @cached_property
    def task_ids(self) -> Sequence[str]:
        """Ids of all games; generates each of them, so nothing on the way to playing one asks for it."""
        return [self.describe(index).task_id for index in range(len(self))]

    def index(self, task_id: str) -> int:
        """The index of a game, which its id holds."""
        number = re.search(r"/(\d+)/", task_id)
        if number and int(number[1]) < len(self) and self.describe(int(number[1])).task_id == task_id:
            return int(number[1])
        raise UnknownNameError(
            f"unknown task id {task_id!r}: ids of {self.where} look like {self.describe(0).task_id!r}"
        )

    def describe(self, index: int) -> GameDescription:
        return generate.describe(self._split, index, self._difficulty)

    def walkthrough(self, index: int) -> Sequence[str]:
        """A shortest plan from the start: generated games have no stored solution."""
        if index not in self._plans:
            engine = Engine()
            engine.reset(self.game(index))
            self._plans[index] = plan(engine) or ()
        return self._plans[index]


class FileGames(GameCollection):
    """Official game files, one a game."""

    def __init__(self, paths: Sequence[Path], where: Path, split: str) -> None:
        super().__init__(str(where), (str(where), split, ""))
        self._paths = sorted(paths, key=_task_id_of_path)

    @cached_property
    def task_ids(self) -> Sequence[str]:
        return [_task_id_of_path(path) for path in self._paths]

    def describe(self, index: int) -> GameDescription:
        return describe_record(self.record(index), self.task_ids[index], str(self._paths[index]))

    def record(self, index: int) -> dict[str, Any]:
        path = self._paths[index]
        return _load_json(path.read_bytes(), str(path))


class PackedGames(GameCollection):
    """Games packed as JSON lines, optionally xz-compressed; all are of the current release, whose rules they leave out.

    The file is unpacked once a process into an unnamed temporary file (180 MB for the 3,553 official training games),
    so that any game can be read without holding the others in memory.
    """

    def __init__(self, path: Path, split: str) -> None:
        super().__init__(str(path), (str(path), split, ""))
        self._path = path
        self._unpacked = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the collection
        weakref.finalize(self, self._unpacked.close)
        entries = sorted(self._unpack())
        self._unpacked.flush()
        self._ids = [task_id for task_id, _, _ in entries]
        self._spans = [(offset, length) for _, offset, length in entries]
        if not entries:
            raise DataNotFoundError(f"no games in {path}")

    @property
    def task_ids(self) -> Sequence[str]:
        return self._ids

    def describe(self, index: int) -> GameDescription:
        return describe_record(self.record(index), self._ids[index], f"{self._path}, {self._ids[index]}")

    def record(self, index: int) -> dict[str, Any]:
        line = self._line(index)
        _check_types(line, {"task_desc": str, "pddl_problem": str}, f"{self._path}, {self._ids[index]}")
        return {
            "pddl_domain": domain_text(),
            "grammar": grammar_text(line["task_desc"]),
            "pddl_problem": line["pddl_problem"],
            "solvable": True,
            "walkthrough": line.get("walkthrough"),
        }

    def _unpack(self) -> Iterator[tuple[str, int, int]]:
        opener: Any = lzma.open if self._path.suffix == ".xz" else open
        offset = 0
        try:
            with opener(self._path, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    match = re.match(rb'\{"gamefile": "([^"]+)"', line)
                    if match is None or not line.endswith(b"\n"):
                        raise GameFormatError(
                            f"{self._path}, line {number}: expected a whole JSON line starting with 'gamefile'"
                        )
                    path = match[1].decode()
                    if _left_out(path) or re.search(rb'"solvable": false', line):
                        continue
                    self._unpacked.write(line)
                    yield _task_id_of_path(Path(path)), offset, len(line)
                    offset += len(line)
        except (lzma.LZMAError, EOFError) as error:
            raise GameFormatError(f"{self._path} is damaged or cut off ({error}): copy it again") from error

    def _line(self, index: int) -> dict[str, Any]:
        offset, length = self._spans[index]
        # pread keeps no position, so threads and forked workers can share the file.
        line = os.pread(self._unpacked.fileno(), length, offset)
        return _load_json(line, f"{self._path}, {self._ids[index]}")


def describe_record(record: dict[str, Any], task_id: str, where: str) -> GameDescription:
    """Read the JSON object of a game file.

    Raises:
        GameFormatError: A key is missing, or rules, texts, facts or goal are not known to the native engine; the
            message starts with ``where``.
    """
    _check_types(record, {"pddl_domain": str, "grammar": str, "pddl_problem": str}, where)
    walkthrough = record.get("walkthrough") or []
    if not isinstance(walkthrough, list) or not all(isinstance(command, str) for command in walkthrough):
        raise GameFormatError(f"{where}: the walkthrough must be a list of commands, got {walkthrough!r:.80}")

    def read() -> GameDescription:
        task, grammar = split_task(record["grammar"])
        dialect = recognise(record["pddl_domain"], grammar)
        facts, goal = parse_problem(record["pddl_problem"])
        return GameDescription(task_id, task, facts, goal, tuple(walkthrough), dialect)

    return _in_file(where, read)


def _in_file(where: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except GameFormatError as error:
        raise GameFormatError(f"{where}: {error}") from error


def _check_types(record: dict[str, Any], types: dict[str, type], where: str) -> None:
    missing = [key for key in types if key not in record]
    if missing:
        raise GameFormatError(f"{where}: no {', '.join(missing)} in it; is this an ALFWorld {GAME_FILE} file?")
    for key, kind in types.items():
        if not isinstance(record[key], kind):
            raise GameFormatError(f"{where}: {key} must be {kind.__name__}, got {type(record[key]).__name__}")


def _load_json(content: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GameFormatError(f"{where} is damaged or cut off ({error}): copy it again") from error
    if not isinstance(record, dict):
        raise GameFormatError(f"{where}: expected a JSON object, got {type(record).__name__}")
    return record


def open_games(data: str | os.PathLike[str], split: str, difficulty: str) -> GameCollection:
    """The games of one split; the same object for the same arguments, so all environments share what is parsed.

    A folder is the data root, a split's folder, or any folder of games that are not divided into splits. A single file
    belongs to whatever split is asked for.

    Args:
        data: ``"builtin"``; ``"official"`` for the folder that ``$ALFWORLD_DATA`` names; or a path: a game file, a
            packed ``.jsonl.xz`` list, or a folder of either.
        split: ``train``, ``valid_seen``, ``valid_unseen``, or any other that the folder has.
        difficulty: ``small`` or ``full``; for builtin games only.

    Raises:
        DataNotFoundError: Nothing there, or no games in it.
        UnknownNameError: No such split or difficulty.
        GameFormatError: A packed list is damaged.
    """
    data = os.fspath(data) if isinstance(data, os.PathLike) else data
    for name, value in (("data", data), ("split", split), ("difficulty", difficulty)):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a string, got {type(value).__name__}: {value!r}")
    if data == "builtin":
        return _open_builtin(split, difficulty)
    if data == "official":
        return _open_path(official_folder(), split)
    path = Path(data).expanduser().absolute()
    if not path.exists():
        hint = "".join(f" (did you mean {name!r}?)" for name in get_close_matches(data, ["builtin", "official"], n=1))
        raise DataNotFoundError(f"no file or folder {path}{hint}; data is 'builtin', 'official' or a path")
    return _open_path(path, split)


_open_builtin = lru_cache(maxsize=None)(BuiltinGames)


@lru_cache(maxsize=64)
def _open_path(path: Path, split: str) -> GameCollection:
    if path.is_dir():
        return _open_folder(path, split)
    if split not in OFFICIAL_SPLITS:
        raise UnknownNameError.of("split", split, OFFICIAL_SPLITS)
    if path.name.endswith(_PACKED_SUFFIXES):
        return PackedGames(path, split)
    return FileGames([path], path, split)


def official_folder() -> Path:
    """The folder with the benchmark's games: ``$ALFWORLD_DATA``, or where its download script puts them."""
    variable = os.environ.get(DATA_VARIABLE)
    folder = Path(variable or "~/.cache/alfworld").expanduser()
    if not folder.is_dir():
        stated = f"${DATA_VARIABLE} is {variable!r}" if variable else f"${DATA_VARIABLE} is not set"
        raise DataNotFoundError(
            f"no folder {folder} ({stated}): download the games with 'alfworld-download' and point ${DATA_VARIABLE} "
            "at them, or use data='builtin', which needs no download"
        )
    return folder


def _open_folder(folder: Path, split: str) -> GameCollection:
    for root in (folder, *sorted(folder.glob("json_2.1.*"))):
        for suffix in _PACKED_SUFFIXES:
            if (root / f"{split}{suffix}").is_file():
                return PackedGames(root / f"{split}{suffix}", split)
        if (root / split).is_dir():
            return _tree(root / split, split)
    present = _splits_in(folder)
    if present:
        raise UnknownNameError(f"{UnknownNameError.of('split', split, present)} (in {folder})")
    if split not in OFFICIAL_SPLITS:
        raise UnknownNameError.of("split", split, OFFICIAL_SPLITS)
    games = _tree(folder, split)  # a folder of games that is not divided into splits
    others = sorted({task_id.partition("/")[0] for task_id in games.task_ids} & set(OFFICIAL_SPLITS) - {split})
    if others:
        raise UnknownNameError(
            f"{folder} holds games of {', '.join(others)}, not only of {split!r}: "
            f"ask for the split that it holds, or name the folder that has a folder {split!r} in it"
        )
    return games


def _splits_in(folder: Path) -> list[str]:
    names: set[str] = set()
    for root in (folder, *folder.glob("json_2.1.*")):
        names.update(path.name for path in root.iterdir() if path.is_dir() and path.name in OFFICIAL_SPLITS)
        names.update(p.name.removesuffix(s) for s in _PACKED_SUFFIXES for p in root.glob(f"*{s}"))
    return sorted(names)


def _tree(folder: Path, split: str) -> FileGames:
    paths = [
        Path(root) / GAME_FILE
        for root, _, names in os.walk(folder)
        if GAME_FILE in names and not _left_out(os.path.relpath(root, folder)) and _solvable(Path(root) / GAME_FILE)
    ]
    if not paths:
        raise DataNotFoundError(f"no {GAME_FILE} files in {folder} or below it; data='builtin' needs no download")
    return FileGames(paths, folder, split)


def _left_out(path: str) -> bool:
    """Whether the original leaves a game out: tasks with movable receptacles or sliced objects."""
    return "movable" in path or "Sliced" in path


def _solvable(path: Path, tail: int = 8192) -> bool:
    """Whether a game file says that it can be won; the answer stands near the end of official files."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - tail))
        match = re.search(rb'"solvable": (true|false)', file.read())
    if match is None:
        # Some other layout, or damaged: read it whole, and let playing it tell what is wrong.
        match = re.search(rb'"solvable"\s*:\s*(true|false)', path.read_bytes())
    return match is None or match[1] == b"true"


def _task_id_of_path(path: Path) -> str:
    """``SPLIT/TASK/TRIAL``, which is how the benchmark lays its files out."""
    return "/".join(path.parts[-4:-1]) or path.stem
