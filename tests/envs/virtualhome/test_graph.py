"""Reading graphs: what is kept, and that a graph which cannot be played is refused with the element at fault."""

import copy
import pickle
from typing import Any

import pytest

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment, Property, Relation, State, with_changes
from agentgym_prm.errors import GameFormatError
from tests.envs.virtualhome.flat import APPLE, BED, FRIDGE, KITCHEN, ME, MILK, TABLE, graph


def facts(shown: dict[str, Any]) -> tuple[Any, ...]:
    nodes = {node["id"]: (node["class_name"], set(node["properties"]), set(node["states"])) for node in shown["nodes"]}
    return nodes, {(edge["from_id"], edge["relation_type"], edge["to_id"]) for edge in shown["edges"]}


def test_a_graph_comes_back_as_it_was_read():
    engine = Engine()
    engine.reset(Apartment(graph()))
    assert facts(engine.to_graph()) == facts(graph())
    assert facts(engine.apartment.as_json()) == facts(graph())
    assert engine.changes() == {"set_nodes": [], "del_nodes": [], "add_edges": [], "del_edges": []}


def test_a_node_keeps_what_the_engine_does_not_use():
    box = {"center": [1.0, 2.0, 3.0], "size": [0.5, 0.5, 0.5]}
    given = graph()
    given["nodes"][0] |= {"prefab_name": "Kitchen_1", "bounding_box": box}
    node = Apartment(given).nodes[0]
    assert (node.prefab_name, node.bounding_box, node.category) == ("Kitchen_1", box, "Rooms")
    assert node.as_json(node.states)["bounding_box"] == box


def test_names_are_read_in_any_case_and_repeated_edges_count_once():
    given = graph()
    given["nodes"][TABLE - 1] |= {"states": ["dirty", "Dirty"], "properties": ["surfaces"]}
    given["edges"] += [{"from_id": APPLE, "relation_type": "on", "to_id": TABLE}] * 2
    apartment = Apartment(given)
    assert apartment.nodes[TABLE - 1].states == {State.DIRTY}
    assert apartment.nodes[TABLE - 1].properties == {Property.SURFACES}
    assert apartment.start_targets(Relation.ON, apartment.number(APPLE)) == (TABLE,)


def test_an_apartment_is_shared_by_copies_and_survives_pickling():
    apartment = Apartment(graph(), "flat")
    assert copy.deepcopy(apartment) is apartment
    again = pickle.loads(pickle.dumps(apartment))
    assert (again.nodes, again.targets, again.where) == (apartment.nodes, apartment.targets, "flat")
    with pytest.raises(KeyError, match="flat has no node 99"):
        apartment.number(99)


def damaged(**changes: Any) -> dict[str, Any]:
    return graph() | changes


def with_node(**changes: Any) -> dict[str, Any]:
    given = graph()
    given["nodes"][TABLE - 1] |= changes
    return given


def with_edges(*edges: tuple[Any, Any, Any]) -> dict[str, Any]:
    return graph(edges=edges)


def without(node_id: int) -> dict[str, Any]:
    given = graph()
    given["nodes"] = [node for node in given["nodes"] if node["id"] != node_id]
    return given


HOSTILE = [
    (damaged(nodes=None), "flat needs a list of nodes, got None"),
    (damaged(edges={}), "flat needs a list of edges, got {}"),
    ({}, "flat needs a list of nodes"),
    (damaged(nodes=[7]), "flat: node 0 must be an object, got 7"),
    (damaged(edges=[[1, "ON", 2]]), "flat: edge 0 must be an object"),
    (with_node(id="4"), "flat: node 3 needs a whole number as id, got '4'"),
    (with_node(id=True), "flat: node 3 needs a whole number as id, got True"),
    (with_node(class_name=None), "flat: node 4 needs a class_name, got None"),
    (with_node(category=3), "flat: node 4: category must be a text, got 3"),
    (with_node(properties="SURFACES"), "flat: node 4 needs a list of properties"),
    (with_node(properties=["FLYABLE"]), "flat: node 4: unknown property 'FLYABLE'; known: SURFACES"),
    (with_node(states=["BROKEN"]), "flat: node 4: unknown state 'BROKEN'; known: CLOSED"),
    (with_node(states=[["ON"]]), r"flat: node 4: unknown state \['ON'\]"),
    (with_node(id=5), r"flat: two nodes have the id 5, one is <table> \(5\)"),
    (with_edges((APPLE, "UNDER", TABLE)), "flat: edge [0-9]+: unknown relation 'UNDER'; known: ON, INSIDE"),
    (with_edges((APPLE, None, TABLE)), "flat: edge [0-9]+: unknown relation None"),
    (with_edges((APPLE, "ON", "4")), "flat: edge [0-9]+ needs whole numbers as from_id and to_id, got 10 and '4'"),
    (with_edges((APPLE, "ON", 99)), "flat: the edge 10 ON 99 leads to a node that does not exist, 99"),
    (without(TABLE), "the edge 4 INSIDE 1 leads to a node that does not exist, 4"),
    (with_edges((FRIDGE, "INSIDE", FRIDGE)), r"a cycle of INSIDE: <fridge> \(5\) inside <fridge> \(5\)"),
    (with_edges((FRIDGE, "INSIDE", MILK)), r"a cycle of INSIDE: .*<milk> \(15\).*<fridge> \(5\)"),
    (with_edges((KITCHEN, "INSIDE", APPLE)), r"a cycle of INSIDE: .*<kitchen> \(1\)"),
    (
        with_edges((TABLE, "INSIDE", FRIDGE), (FRIDGE, "INSIDE", APPLE), (APPLE, "INSIDE", TABLE)),
        "a cycle of INSIDE: .*<table>",
    ),
]


@pytest.mark.parametrize(("given", "message"), HOSTILE)
def test_a_graph_that_cannot_be_played_is_refused(given, message):
    with pytest.raises(GameFormatError, match=message):
        Apartment(given, "flat")


def test_a_graph_without_a_character_in_a_room_is_refused():
    given = graph()
    given["nodes"][ME - 1]["class_name"] = "statue"
    with pytest.raises(GameFormatError, match="no node has the class 'character'"):
        Apartment(given)
    given = graph()
    given["edges"] = [edge for edge in given["edges"] if edge["from_id"] != ME]
    with pytest.raises(GameFormatError, match=r"<character> \(3\) is in no room"):
        Apartment(given)


def test_two_things_inside_each_other_are_accepted_if_both_are_in_a_room():
    # Official apartments hold such pairs of curtains and cupboards.
    engine = Engine()
    engine.reset(Apartment(with_edges((TABLE, "INSIDE", FRIDGE), (FRIDGE, "INSIDE", TABLE))))
    assert engine.room_of(TABLE) == KITCHEN


def test_changes_put_nodes_and_edges_in_place():
    lamp = {"id": 99, "class_name": "lamp", "properties": [], "states": ["ON"]}
    table = {"id": TABLE, "class_name": "table", "properties": ["SURFACES"], "states": ["CLEAN"]}
    changes = {
        "set_nodes": [lamp, table],
        "add_edges": [[99, "ON", TABLE], [APPLE, "ON", BED]],
        "del_edges": [[APPLE, "ON", TABLE]],
        "del_nodes": [],
    }
    apartment = Apartment(with_changes(graph(), changes))
    assert apartment.nodes[apartment.number(TABLE)].states == {State.CLEAN}
    assert apartment.start_targets(Relation.ON, apartment.number(APPLE)) == (BED,)
    assert apartment.start_targets(Relation.ON, apartment.number(99)) == (TABLE,)
    assert facts(with_changes(graph(), {})) == facts(graph())


def test_a_deleted_node_leaves_edges_that_the_reader_names():
    with pytest.raises(GameFormatError, match="does not exist, 10"):
        Apartment(with_changes(graph(), {"del_nodes": [APPLE]}))
