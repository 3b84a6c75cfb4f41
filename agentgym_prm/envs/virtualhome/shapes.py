"""The form of graphs and of changes to them, checked before they are put together.

Whether a graph can be played is checked where it is read (``Apartment``). What is here is what has to hold before two
graphs, or a graph and changes to it, become one: there, of two nodes with one id the last would be left, unnoticed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from agentgym_prm.errors import GameFormatError


def check_graph(graph: Any, where: str) -> None:
    """Lists of nodes and edges, no id twice; other faults are left to ``Apartment``.

    Raises:
        GameFormatError: It is not so; the message names the element.
    """
    _check_nodes(listed(graph, "nodes", where), f"{where}: node")
    check_edges(listed(graph, "edges", where), where)


def check_edges(edges: Iterable[Any], where: str) -> None:
    """Edges in the form of graphs; ``GameFormatError`` names the first that is none."""
    for position, edge in enumerate(edges):
        is_edge = isinstance(edge, Mapping) and _is_edge(
            [edge.get(key) for key in ("from_id", "relation_type", "to_id")]
        )
        if not is_edge:
            raise GameFormatError(f"{where}: edge {position} must be two ids around a relation, got {edge!r:.80}")


def check_changes(changes: Any, where: str, what: str) -> None:
    """Changes in the form of ``with_changes``.

    Args:
        changes: What is checked.
        where: What error messages call the task.
        what: What they call the changes.

    Raises:
        GameFormatError: It is not so; the message names the element.
    """
    if not isinstance(changes, Mapping):
        raise GameFormatError(f"{where}: {what} must be an object, got {changes!r:.80}")
    of_what = f"{where}: {what}"
    _check_nodes(listed(changes, "set_nodes", of_what, ()), f"{where}: set_nodes", f" of {what}")
    for position, node_id in enumerate(listed(changes, "del_nodes", of_what, ())):
        if type(node_id) is not int:
            raise GameFormatError(
                f"{where}: del_nodes {position} of {what} must be a whole number, got {node_id!r:.80}"
            )
    for key in ("add_edges", "del_edges"):
        for position, edge in enumerate(listed(changes, key, of_what, ())):
            if not _is_edge(edge):
                raise GameFormatError(
                    f"{where}: {key} {position} of {what} must be two ids around a relation, got {edge!r:.80}"
                )


def listed(entry: Any, key: str, where: str, missing: Any = None) -> Iterable[Any]:
    """The list under a key; ``GameFormatError`` if there is none, and nothing to stand for a missing one."""
    value = entry.get(key, missing) if isinstance(entry, Mapping) else None
    if not isinstance(value, list | tuple):
        raise GameFormatError(f"{where} needs a list of {key}, got {value!r:.80}")
    return value


def _check_nodes(nodes: Iterable[Any], what: str, of_what: str = "") -> None:
    ids: set[int] = set()
    for position, node in enumerate(nodes):
        node_id = node.get("id") if isinstance(node, Mapping) else None
        if type(node_id) is not int:
            raise GameFormatError(
                f"{what} {position}{of_what} must be an object with a whole number as id, got {node!r:.80}"
            )
        if node_id in ids:
            raise GameFormatError(f"{what} {position}{of_what} has the id {node_id} again")
        ids.add(node_id)


def _is_edge(edge: Any) -> bool:
    if not isinstance(edge, list | tuple) or len(edge) != 3:
        return False
    return type(edge[0]) is int and isinstance(edge[1], str) and type(edge[2]) is int
