"""Where tasks come from: our own generator, or task files with the graphs that they refer to.

``open_tasks`` answers with a ``TaskCollection``: how many tasks, their ids, and one task at a time, compiled when it is
first played. Three kinds of files are read (``task.py``), each a list of JSON lines, plain or packed with gzip or xz.

Files of the source system are splits by themselves: all their tasks belong to whatever split is asked for. The others
are divided by a fixed rule: of the activities in the file (``unseen="activity"``) or of its scenes (``"scene"``) a
fifth, rounded up, is held out for ``valid_unseen``; of the other tasks every tenth or so goes to ``valid_seen``.
"""

import gzip
import json
import lzma
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any, Final
from weakref import WeakValueDictionary

from agentgym_prm.envs.virtualhome import generate
from agentgym_prm.envs.virtualhome.graph import with_changes
from agentgym_prm.envs.virtualhome.shapes import check_changes, check_graph
from agentgym_prm.envs.virtualhome.task import Task, graph_path, read_source_task, read_task
from agentgym_prm.errors import DataNotFoundError, GameFormatError, UnknownNameError

DATA_VARIABLE: Final = "VIRTUALHOME_DATA"
SPLITS: Final = ("train", "valid_seen", "valid_unseen")
ALL: Final = "all"
"""A split of task files, not of builtin tasks: whatever is in the file."""
GRAPHS: Final = "init_and_final_graphs"
_SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".jsonl.xz")
_COMPILED: Final = 64
"""Compiled tasks kept in memory, a few hundred kB each if the apartment is large, besides those in use."""
_HELD_OUT: Final = 5
_SEEN: Final = 10


class TaskCollection(ABC):
    """The tasks of one split, in a fixed order. Read-only and shared: a deep copy is the collection itself."""

    def __init__(self, where: str, source: tuple[str, str, str, str]) -> None:
        self.where = where
        self._source = source
        self._tasks: OrderedDict[int, Task] = OrderedDict()
        self._in_use: WeakValueDictionary[int, Task] = WeakValueDictionary()

    def __deepcopy__(self, memo: dict[int, object]) -> "TaskCollection":
        return self

    def __reduce__(self) -> tuple[Callable[..., "TaskCollection"], tuple[str, str, str, str]]:
        return open_tasks, self._source

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def index(self, task_id: str) -> int:
        """The index of a task; ``UnknownNameError`` if there is none."""

    @abstractmethod
    def _read(self, index: int) -> Task: ...

    def task(self, index: int) -> Task:
        """One task, compiled: the same object for every caller while it is in use."""
        task = self._in_use.get(index)
        if task is None:
            task = self._in_use[index] = self._tasks[index] = self._read(index)
            if len(self._tasks) > _COMPILED:
                self._tasks.popitem(last=False)
        return task


class BuiltinTasks(TaskCollection):
    """Tasks of our own generator."""

    def __init__(self, split: str, difficulty: str, unseen: str) -> None:
        if split not in generate.SPLIT_SIZES:
            raise UnknownNameError.of("split", split, generate.SPLIT_SIZES)
        super().__init__(f"builtin/{difficulty}/{split}", ("builtin", split, difficulty, unseen))
        self._split, self._difficulty, self._unseen = split, difficulty, unseen

    def __len__(self) -> int:
        return generate.SPLIT_SIZES[self._split]

    def index(self, task_id: str) -> int:
        number = re.search(r"/(\d{1,9})/", task_id)
        if number and int(number[1]) < len(self) and self._record(int(number[1]))["id"] == task_id:
            return int(number[1])
        raise UnknownNameError(f"unknown task id {task_id!r}: ids of {self.where} look like {self._record(0)['id']!r}")

    def _record(self, index: int) -> dict[str, Any]:
        return generate.record(self._split, index, self._difficulty, self._unseen)

    def _read(self, index: int) -> Task:
        record = self._record(index)
        return read_task(record, record["init_graph"], record["id"])


class FileTasks(TaskCollection):
    """Tasks of one file, or those of its split."""

    def __init__(self, path: Path, split: str, unseen: str) -> None:
        super().__init__(str(path), (str(path), split, generate.DIFFICULTIES[0], unseen))
        self._path = path
        records = _read_lines(path)
        if not records:
            raise DataNotFoundError(f"no tasks in {path}")
        _check_ids(records, path)
        if "revised_graph" not in records[0]:
            records = _of_split(records, split, unseen)
        if not records:
            raise DataNotFoundError(
                f"no tasks in the split {split} of {path}, divided by {unseen}: use split={ALL!r}, or divide them by "
                f"{next(each for each in generate.UNSEEN if each != unseen)}"
            )
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def index(self, task_id: str) -> int:
        if task_id not in self._indices:
            nearest = get_close_matches(task_id, self._indices, n=1, cutoff=0)[0]
            raise UnknownNameError(
                f"unknown task id {task_id!r} among the {len(self)} tasks of {self.where} (did you mean {nearest!r}?)"
            )
        return self._indices[task_id]

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {str(record.get("id")): index for index, record in enumerate(self._records)}

    def _read(self, index: int) -> Task:
        record = self._records[index]
        where = f"{self._path}, {record.get('id')}"
        if "revised_graph" in record:
            return read_source_task(record, self._source_graph(record, where), where)
        if "init_graph" in record:
            return read_task(record, record["init_graph"], where)
        if "init_diff" not in record:
            raise GameFormatError(f"{where}: there is none of init_graph, init_diff and revised_graph in it")
        check_changes(record["init_diff"], where, "init_diff")
        return read_task(record, with_changes(_base_graph(self._path), record["init_diff"]), where)

    def _source_graph(self, record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        path = record.get("path")
        if not isinstance(path, str) or not _leads_to_file(path):
            raise GameFormatError(f"{where}: path must lead to a program, got {path!r:.80}")
        folders = [*self._path.parents, *(folder / "virtualhome_master" for folder in self._path.parents)]
        if home := os.environ.get(DATA_VARIABLE):
            folders.insert(0, Path(home).expanduser())
        file = next((found for folder in folders if (found := folder / GRAPHS / graph_path(path)).is_file()), None)
        if file is None:
            raise DataNotFoundError(
                f"{where}: no {GRAPHS}/{graph_path(path)} beside the file, in any folder above it, or in "
                f"${DATA_VARIABLE}; it comes with VirtualHome's programs"
            )
        graph = _parse(file.read_bytes(), str(file)).get("init_graph")
        if not isinstance(graph, Mapping):
            raise GameFormatError(f"{file}: there is no init_graph in it")
        return graph


def open_tasks(data: str | os.PathLike[str], split: str, difficulty: str, unseen: str) -> TaskCollection:
    """The tasks of one split; the same object for the same arguments, so all environments share what is compiled.

    Args:
        data: ``"builtin"``; ``"official"`` for the folder that ``$VIRTUALHOME_DATA`` names; or a path: a task file, or
            a folder with one. A ``Path`` is always a path.
        split: One of ``SPLITS``, or for files ``"all"``.
        difficulty: One of ``generate.DIFFICULTIES``; for builtin tasks only.
        unseen: What is new in ``valid_unseen``, one of ``generate.UNSEEN``.

    Raises:
        DataNotFoundError: Nothing there, or no tasks in it.
        UnknownNameError: No such split, difficulty, or kind of split.
        GameFormatError: A file is damaged.
    """
    data = os.path.abspath(os.path.expanduser(data)) if isinstance(data, os.PathLike) else data
    for name, value in (("data", data), ("split", split), ("difficulty", difficulty), ("unseen", unseen)):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a string, got {type(value).__name__}: {value!r}")
    for kind, name, valid in (
        ("difficulty", difficulty, generate.DIFFICULTIES),
        ("kind of unseen tasks", unseen, generate.UNSEEN),
    ):
        if name not in valid:
            raise UnknownNameError.of(kind, name, valid)
    if data == "builtin":
        return _open_builtin(split, difficulty, unseen)
    if split not in (*SPLITS, ALL):
        raise UnknownNameError.of("split", split, (*SPLITS, ALL))
    if data == "official":
        return _open_file(_task_file(_official_folder()), split, unseen)
    if not data:
        raise DataNotFoundError("data must name a file or a folder, got ''")
    path = Path(data).expanduser().absolute()
    if not path.exists():
        hint = "".join(f" (did you mean {name!r}?)" for name in get_close_matches(data, ["builtin", "official"], n=1))
        raise DataNotFoundError(f"no file or folder {path}{hint}; data is 'builtin', 'official' or a path")
    return _open_file(_task_file(path) if path.is_dir() else path, split, unseen)


_open_builtin = lru_cache(maxsize=None)(BuiltinTasks)
_open_file = lru_cache(maxsize=16)(FileTasks)


def _leads_to_file(path: str) -> bool:
    stated = PureWindowsPath(path)  # it knows the slashes of other systems too
    return bool(stated.name) and ".." not in stated.parts


def _official_folder() -> Path:
    variable = os.environ.get(DATA_VARIABLE)
    if not variable or not Path(variable).expanduser().is_dir():
        stated = f"it is {variable!r}, no folder" if variable else "it is not set"
        raise DataNotFoundError(
            f"data='official' looks for VirtualHome's tasks in the folder that ${DATA_VARIABLE} names; {stated}: it "
            "should hold a task file such as tasks_scene1.jsonl.gz and its base graph; data='builtin' needs no files"
        )
    return Path(variable).expanduser().absolute()


def _task_file(folder: Path) -> Path:
    found = sorted(path for path in folder.iterdir() if path.name.startswith("tasks") and path.name.endswith(_SUFFIXES))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataNotFoundError(f"no task file in {folder}: one is called tasks*.jsonl, plain or packed (.gz, .xz)")
    raise DataNotFoundError(f"{folder} holds several task files, name one: {', '.join(path.name for path in found)}")


def _of_split(records: Sequence[dict[str, Any]], split: str, unseen: str) -> list[dict[str, Any]]:
    if split == ALL:
        return list(records)
    key = "task_name" if unseen == "activity" else "scene"
    held_out = _held_out({str(record.get(key)) for record in records})
    return [record for record in records if _split_of(record, key, held_out) == split]


def _held_out(names: Iterable[str]) -> frozenset[str]:
    ranked = sorted(names, key=lambda name: (zlib.crc32(name.encode()), name))
    return frozenset(ranked[: -(-len(ranked) // _HELD_OUT)]) if len(ranked) > 1 else frozenset()


def _split_of(record: Mapping[str, Any], key: str, held_out: frozenset[str]) -> str:
    if str(record.get(key)) in held_out:
        return "valid_unseen"
    return "train" if zlib.crc32(str(record.get("id")).encode()) % _SEEN else "valid_seen"


def _check_ids(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    ids: set[str] = set()
    for task_id in (record.get("id") for record in records):
        if isinstance(task_id, str):
            if task_id in ids:
                raise GameFormatError(f"{path}: two tasks have the id {task_id!r}")
            ids.add(task_id)


@lru_cache(maxsize=4)
def _read_lines(path: Path) -> Sequence[dict[str, Any]]:
    try:
        lines = _unpacked(path).decode().split("\n")
    except UnicodeDecodeError as error:
        raise _damaged(str(path), error) from error
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


@lru_cache(maxsize=4)
def _base_graph(tasks: Path) -> Mapping[str, Any]:
    """The graph that the differences in a task file are against: ``base_graph_X.json`` for ``tasks_X.jsonl``."""
    stem = tasks.name.partition(".")[0].replace("tasks", "base_graph", 1)
    for name in (f"{stem}.json", f"{stem}.json.gz", f"{stem}.json.xz"):
        if (file := tasks.with_name(name)).is_file():
            graph = _parse(_unpacked(file), str(file))
            check_graph(graph, str(file))
            return graph
    raise DataNotFoundError(
        f"no {stem}.json, plain or packed (.gz, .xz), beside {tasks}, whose tasks are changes to it"
    )


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        if path.suffix == ".gz":
            return gzip.decompress(content)
        return lzma.decompress(content) if path.suffix == ".xz" else content
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _damaged(str(path), error) from error


def _parse(content: str | bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:  # what is no JSON, has too long a number, or is nested too deeply
        raise _damaged(where, error) from error
    if not isinstance(record, dict):
        raise GameFormatError(f"{where}: expected a JSON object, got {type(record).__name__}")
    return record


def _damaged(where: str, error: Exception) -> GameFormatError:
    return GameFormatError(f"{where} is damaged or cut off ({error}): copy it again")
