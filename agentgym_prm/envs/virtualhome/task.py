"""A task: an apartment at its start, an activity in words, and the goal; read from any of three kinds of records.

==================  =========================================================  =========================================
kind                start                                                      goal
==================  =========================================================  =========================================
whole               ``init_graph``                                             ``goal.vh_goal``, else ``final_diff``
difference          ``init_diff``, changes to a base graph beside the file     the same
source system       a graph below ``init_and_final_graphs``, found by          ``revised_graph``
                    ``path``
==================  =========================================================  =========================================

The first two also hold ``id``, ``scene``, ``task_name``, ``description`` and ``program``; the third ``id``, ``task``,
``description``, ``path`` and ``object_id_dict``, which says what class names mean at first. Where that is missing,
names mean what the goal names, then what the program names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from agentgym_prm.envs.virtualhome.goal import Goal, conditions_goal, difference_goal, source_goal
from agentgym_prm.envs.virtualhome.graph import Apartment
from agentgym_prm.envs.virtualhome.naming import Vocabulary
from agentgym_prm.envs.virtualhome.script import ScriptLine, parse_line
from agentgym_prm.envs.virtualhome.shapes import check_edges, listed
from agentgym_prm.errors import GameFormatError, ScriptError


@dataclass(frozen=True)
class Task:
    """One task, compiled; read-only and shared.

    Attributes:
        task_id: Unique among the tasks of its file.
        scene: The apartment that it was made from.
        activity: What is to be done, as a name: ``Put groceries in fridge``.
        description: The same in more words.
        apartment: The start.
        goal: What has to hold in the end.
        introduced: Ids that class names mean at first (``Naming``).
        program: A script that reaches the goal, if one is known.
    """

    task_id: str
    scene: str
    activity: str
    description: str
    apartment: Apartment
    goal: Goal
    introduced: tuple[int, ...] = ()
    program: tuple[ScriptLine, ...] = ()

    def __deepcopy__(self, memo: dict[int, object]) -> "Task":
        return self

    @property
    def instruction(self) -> str:
        """Activity and description in one line."""
        return f"{self.activity} ({self.description})" if self.description else self.activity

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The names of what is in the apartment."""
        return Vocabulary(self.apartment)


def read_task(record: Mapping[str, Any], graph: Mapping[str, Any], where: str) -> Task:
    """A task of the first two kinds.

    Args:
        record: Its record.
        graph: The start in JSON form.
        where: What error messages call it.

    Raises:
        GameFormatError: Something is missing, cannot be read, or names a node that does not exist.
    """
    task_id, name, description, scene = (
        _text(record, key, where) for key in ("id", "task_name", "description", "scene")
    )
    apartment = Apartment(graph, where)
    goal = _checked(_goal(record, where), apartment, where)
    program = _program(record.get("program", []), where)
    ids = (*goal.node_ids(), *(named.id for line in program for named in line.objects))
    return Task(task_id, scene, name, description, apartment, goal, _things(ids, apartment), program)


def read_source_task(record: Mapping[str, Any], graph: Mapping[str, Any], where: str) -> Task:
    """A task of the source system.

    Args:
        record: Its record.
        graph: The start in JSON form, as the file holds it.
        where: What error messages call it.

    Raises:
        GameFormatError: Something is missing, cannot be read, or names a node that does not exist.
    """
    task_id, name, description = (_text(record, key, where) for key in ("id", "task", "description"))
    meanings = record.get("object_id_dict", {})
    if not isinstance(meanings, Mapping) or not all(type(node_id) is int for node_id in meanings.values()):
        raise GameFormatError(f"{where}: object_id_dict must map names to ids, got {meanings!r:.80}")
    apartment = Apartment(without_mutual_edges(graph, where), where)
    goal = _checked(source_goal(record.get("revised_graph", {}), where), apartment, where)
    scene = graph_path(_text(record, "path", where)).parts[0]
    return Task(task_id, scene, name, description, apartment, goal, _things(tuple(meanings.values()), apartment))


def graph_path(program_path: str) -> PurePosixPath:
    """Where the graphs of a program lie below ``init_and_final_graphs``, given the program's path on any machine.

    >>> str(graph_path("/data/programs/executable_programs/TrimmedTestScene1_graph/results/file1_2.txt"))
    'TrimmedTestScene1_graph/results/file1_2.json'
    """
    parts = PureWindowsPath(program_path).parts[-3:]
    return PurePosixPath(*parts).with_suffix(".json")


def without_mutual_edges(graph: Mapping[str, Any], where: str = "graph") -> dict[str, Any]:
    """A graph as the source system starts from it: some nodes that are inside others are taken out.

    It goes through the edges and, where one from a to b meets another that says b is inside a, removes both, whatever
    the first says. It removes from the list that it goes through, and so passes over the edge that moves up.

    Raises:
        GameFormatError: There is no list of edges, or something else in it.
    """
    found = listed(graph, "edges", where)
    check_edges(found, where)
    edges = [(edge["from_id"], edge["relation_type"], edge["to_id"]) for edge in found]
    present = set(edges)
    position = 0
    while position < len(edges):
        edge = edges[position]
        opposite = (edge[2], "INSIDE", edge[0])
        if opposite in present:
            for each in dict.fromkeys((opposite, edge)):
                edges.remove(each)
                if each not in edges:
                    present.discard(each)
        position += 1
    kept = [{"from_id": start, "relation_type": relation, "to_id": stop} for start, relation, stop in edges]
    return {**graph, "edges": kept}


def _goal(record: Mapping[str, Any], where: str) -> Goal:
    stated = record.get("goal")
    conditions = stated.get("vh_goal") if isinstance(stated, Mapping) else None
    if isinstance(conditions, Mapping) and (conditions.get("goal") or conditions.get("actions")):
        return conditions_goal(conditions, where)
    changes = record.get("final_diff")
    if not isinstance(changes, Mapping):
        raise GameFormatError(f"{where} has neither a goal with conditions nor a final_diff")
    return difference_goal(changes, where)


def _checked(goal: Goal, apartment: Apartment, where: str) -> Goal:
    for node_id in goal.node_ids():
        if node_id not in apartment.numbers:
            raise GameFormatError(f"{where}: the goal names a node that does not exist, {node_id}")
    return goal


def _things(ids: Sequence[int], apartment: Apartment) -> tuple[int, ...]:
    return tuple(dict.fromkeys(node_id for node_id in ids if node_id in apartment.numbers))


def _program(lines: Any, where: str) -> tuple[ScriptLine, ...]:
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise GameFormatError(f"{where}: the program must be a list of lines, got {lines!r:.80}")
    try:
        return tuple(map(parse_line, lines))
    except ScriptError as error:
        raise GameFormatError(f"{where}: {error}") from error


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise GameFormatError(f"{where}: {key} must be a text, got {value!r:.80}")
    return value.strip()
