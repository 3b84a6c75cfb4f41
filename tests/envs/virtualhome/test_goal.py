import pytest

from agentgym_prm.envs.virtualhome.goal import (
    Edge,
    InState,
    InStates,
    Performed,
    conditions_goal,
    difference_goal,
    source_goal,
)
from agentgym_prm.envs.virtualhome.graph import Relation, State
from agentgym_prm.envs.virtualhome.script import Action
from agentgym_prm.errors import GameFormatError
from tests.envs.virtualhome import flat

OPEN_FRIDGE = {"id": flat.FRIDGE, "class_name": "fridge", "state": "OPEN"}
HOLD_MILK = {"from_id": flat.ME, "relation_type": "HOLDS_RH", "to_id": flat.MILK}


def test_the_share_counts_the_conditions_that_hold():
    goal = conditions_goal({"goal": [OPEN_FRIDGE, HOLD_MILK], "actions": ["DRINK|EAT"]})
    # An open fridge, milk in the right hand, and having drunk or eaten: one after the other, of three.
    assert goal.share(flat.play("")) == 0
    assert goal.share(flat.play(f"walk {flat.FRIDGE}, open {flat.FRIDGE}")) == 1 / 3
    engine = flat.play(f"walk {flat.FRIDGE}, open {flat.FRIDGE}, grab {flat.MILK}")
    assert goal.share(engine) == 2 / 3
    assert goal.share(engine, frozenset({Action.SLEEP})) == 2 / 3
    assert goal.share(engine, frozenset({Action.EAT})) == 1


def test_states_are_exact_in_the_source_system_s_form_and_not_in_the_other():
    # The fridge is CLOSED, PLUGGED_IN and OFF at the start; opened, OPEN, PLUGGED_IN and OFF.
    opened = flat.play(f"walk {flat.FRIDGE}, open {flat.FRIDGE}")
    for states, share in ((["OPEN", "PLUGGED_IN", "OFF"], 1), (["OPEN", "PLUGGED_IN"], 0), (["OPEN"], 0)):
        goal = source_goal({"nodes": [{"id": flat.FRIDGE, "class_name": "fridge", "states": states}]})
        assert goal.share(opened) == share
    assert conditions_goal({"goal": [OPEN_FRIDGE]}).share(opened) == 1


def test_the_source_system_s_revised_nodes_are_edges_that_have_to_be_gone():
    inside = {"from_id": flat.MILK, "relation_type": "INSIDE", "to_id": flat.FRIDGE}
    goal = source_goal({"nodes": [], "revised_nodes": [inside], "revised_add_edges": [HOLD_MILK]})
    assert goal.conditions == (
        Edge(flat.MILK, Relation.INSIDE, flat.FRIDGE, wanted=False),
        Edge(flat.ME, Relation.HOLDS_RH, flat.MILK),
    )
    assert goal.share(flat.play("")) == 0
    assert goal.share(flat.play(f"walk {flat.FRIDGE}, open {flat.FRIDGE}, grab {flat.MILK}")) == 1


def test_changes_are_a_goal_in_the_source_system_s_sense():
    goal = difference_goal(
        {
            "set_nodes": [{"id": flat.RADIO, "states": ["OFF", "PLUGGED_IN"]}],
            "del_nodes": [99],
            "add_edges": [[flat.ME, "INSIDE", flat.BEDROOM]],
            "del_edges": [[flat.ME, "INSIDE", flat.KITCHEN]],
        }
    )
    assert goal.conditions[0] == InStates(flat.RADIO, frozenset({State.OFF, State.PLUGGED_IN}))
    assert goal.node_ids() == (flat.RADIO, flat.ME, flat.KITCHEN, flat.BEDROOM)
    assert goal.share(flat.play(f"walk {flat.BED}")) == 2 / 3
    assert goal.share(flat.play(f"walk {flat.RADIO}, switchoff {flat.RADIO}, walk {flat.BED}")) == 1


def test_conditions_say_what_they_are():
    goal = conditions_goal({"goal": [OPEN_FRIDGE, HOLD_MILK], "actions": ["READ|LOOKAT"]})
    assert goal.conditions == (
        InState(flat.FRIDGE, State.OPEN),
        Edge(flat.ME, Relation.HOLDS_RH, flat.MILK),
        Performed(frozenset({Action.READ, Action.LOOKAT})),
    )


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({}, "at least one condition"),
        ({"goal": {}}, "needs a list of goal"),
        ({"goal": ["OPEN"]}, "must be an object"),
        ({"goal": [{"id": "5", "state": "OPEN"}]}, "id must be a whole number, got '5'"),
        ({"goal": [{"id": 5, "state": "AJAR"}]}, "unknown state 'AJAR'; known: CLOSED, OPEN"),
        ({"goal": [{"from_id": 5, "relation_type": "UNDER", "to_id": 4}]}, "unknown relation 'UNDER'"),
        ({"goal": [{"from_id": None, "relation_type": "ON", "to_id": 4}]}, "two ids around a relation"),
        ({"actions": ["DRINK|SING"]}, "unknown action 'SING'"),
        ({"actions": [3]}, "an action must be a text"),
    ],
)
def test_what_cannot_be_read_is_named(goal, message):
    with pytest.raises(GameFormatError, match=message):
        conditions_goal(goal)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set_nodes": 3}, "needs a list of set_nodes, got 3"),
        ({"del_edges": None}, "needs a list of del_edges, got None"),
        ({"add_edges": "x"}, "needs a list of add_edges, got 'x'"),
        ([], r"needs a list of set_nodes, got None"),
    ],
)
def test_changes_that_cannot_be_read_are_named(changes, message):
    with pytest.raises(GameFormatError, match=message):
        difference_goal(changes)
