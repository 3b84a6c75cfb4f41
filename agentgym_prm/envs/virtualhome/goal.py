"""Goals: conditions on the graph, and on what was done on the way.

Three forms are read:

* the source system's ``revised_graph``: ``nodes`` whose states have to be exactly these, ``revised_nodes`` (edges that
  have to be gone, for all the name) and ``revised_add_edges`` (edges that have to be there);
* the form of the task files, ``vh_goal``: ``goal`` lists states that nodes have to be in and edges that have to be
  there, ``actions`` what has to have been done, each ``A|B`` for either of two;
* changes against the start (``final_diff``: ``set_nodes``, ``del_nodes``, ``add_edges``, ``del_edges``), read as the
  source system reads its own: exact states, edges there, edges gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Relation, State
from agentgym_prm.envs.virtualhome.script import Action
from agentgym_prm.errors import GameFormatError


@dataclass(frozen=True, slots=True)
class InState:
    """A node is in a state, whatever others it is in."""

    node: int
    state: State

    def holds(self, engine: Engine, performed: frozenset[Action]) -> bool:
        """Whether it is so now."""
        return engine.world.has(self.state, engine.apartment.number(self.node))


@dataclass(frozen=True, slots=True)
class InStates:
    """A node is in exactly these states."""

    node: int
    states: frozenset[State]

    def holds(self, engine: Engine, performed: frozenset[Action]) -> bool:
        """Whether it is so now."""
        return self.states == frozenset(engine.states(self.node))


@dataclass(frozen=True, slots=True)
class Edge:
    """One node stands in a relation to another, or does not (``wanted=False``)."""

    start: int
    relation: Relation
    stop: int
    wanted: bool = True

    def holds(self, engine: Engine, performed: frozenset[Action]) -> bool:
        """Whether it is so now."""
        return engine.has_edge(self.start, self.relation, self.stop) is self.wanted


@dataclass(frozen=True, slots=True)
class Performed:
    """One of these actions was executed at some time, on whatever."""

    actions: frozenset[Action]

    def holds(self, engine: Engine, performed: frozenset[Action]) -> bool:
        """Whether it is so now."""
        return not self.actions.isdisjoint(performed)


Condition = InState | InStates | Edge | Performed


@dataclass(frozen=True, slots=True)
class Goal:
    """All of these conditions at once; at least one."""

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if not self.conditions:
            raise GameFormatError("a goal needs at least one condition, got none")

    def share(self, engine: Engine, performed: frozenset[Action] = frozenset()) -> float:
        """Share of the conditions that hold; 1.0 exactly when the goal is reached.

        Args:
            engine: The present state.
            performed: Actions executed since the start.
        """
        return sum(each.holds(engine, performed) for each in self.conditions) / len(self.conditions)

    def node_ids(self) -> tuple[int, ...]:
        """Ids of the nodes that it names, each once."""
        ids: list[int] = []
        for each in self.conditions:
            if isinstance(each, Edge):
                ids += [each.start, each.stop]
            elif not isinstance(each, Performed):
                ids.append(each.node)
        return tuple(dict.fromkeys(ids))


def source_goal(revised: Mapping[str, Any], where: str = "goal") -> Goal:
    """A goal in the source system's form; ``GameFormatError`` names what cannot be read."""
    return Goal(
        (
            *[_exactly(node, where) for node in _list(revised, "nodes", where)],
            *[_edge(edge, where, wanted=False) for edge in _list(revised, "revised_nodes", where)],
            *[_edge(edge, where) for edge in _list(revised, "revised_add_edges", where)],
        )
    )


def conditions_goal(goal: Mapping[str, Any], where: str = "goal") -> Goal:
    """A goal in the form ``vh_goal``; ``GameFormatError`` names what cannot be read."""
    return Goal(
        (
            *[_condition(entry, where) for entry in _list(goal, "goal", where)],
            *[Performed(frozenset(_actions(text, where))) for text in _list(goal, "actions", where)],
        )
    )


def difference_goal(changes: Mapping[str, Any], where: str = "goal") -> Goal:
    """The state after some changes as a goal; nodes that are to vanish are not asked for.

    Raises:
        GameFormatError: Something cannot be read, or nothing changes.
    """
    return Goal(
        (
            *[_exactly(node, where) for node in _list(changes, "set_nodes", where)],
            *[_triple(edge, where, wanted=False) for edge in _list(changes, "del_edges", where)],
            *[_triple(edge, where) for edge in _list(changes, "add_edges", where)],
        )
    )


def _exactly(node: Any, where: str) -> InStates:
    states = _list(node, "states", where)
    return InStates(_id(node, "id", where), frozenset(_member(State, name, where) for name in states))


def _condition(entry: Any, where: str) -> Condition:
    if isinstance(entry, Mapping) and "relation_type" in entry:
        return _edge(entry, where)
    if not isinstance(entry, Mapping):
        raise GameFormatError(f"{where}: a condition must be an object, got {entry!r:.80}")
    return InState(_id(entry, "id", where), _member(State, entry.get("state"), where))


def _edge(edge: Any, where: str, wanted: bool = True) -> Edge:
    if not isinstance(edge, Mapping):
        raise GameFormatError(f"{where}: an edge must be an object, got {edge!r:.80}")
    return _triple([edge.get("from_id"), edge.get("relation_type"), edge.get("to_id")], where, wanted)


def _triple(edge: Any, where: str, wanted: bool = True) -> Edge:
    if not isinstance(edge, list | tuple) or len(edge) != 3 or type(edge[0]) is not int or type(edge[2]) is not int:
        raise GameFormatError(f"{where}: an edge must be two ids around a relation, got {edge!r:.80}")
    return Edge(edge[0], _member(Relation, edge[1], where), edge[2], wanted)


def _actions(text: Any, where: str) -> Iterable[Action]:
    if not isinstance(text, str):
        raise GameFormatError(f"{where}: an action must be a text, got {text!r:.80}")
    return (_member(Action, name, where) for name in text.split("|"))


def _member(kind: Any, name: Any, where: str) -> Any:
    member = kind.__members__.get(name.upper()) if isinstance(name, str) else None
    if member is None:
        raise GameFormatError(
            f"{where}: unknown {kind.__name__.lower()} {name!r:.80}; known: {', '.join(kind.__members__)}"
        )
    return member


def _id(entry: Any, key: str, where: str) -> int:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if type(value) is not int:
        raise GameFormatError(f"{where}: {key} must be a whole number, got {value!r:.80}")
    return value


def _list(entry: Any, key: str, where: str) -> list[Any]:
    value = entry.get(key, []) if isinstance(entry, Mapping) else None
    if not isinstance(value, list):
        raise GameFormatError(f"{where} needs a list of {key}, got {value!r:.80}")
    return value
