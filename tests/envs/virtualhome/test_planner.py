import pytest

from agentgym_prm.envs.virtualhome.goal import conditions_goal, source_goal
from agentgym_prm.envs.virtualhome.planner import plan
from agentgym_prm.envs.virtualhome.script import Action
from tests.envs.virtualhome import flat


def state(node: int, name: str) -> dict:
    return {"id": node, "class_name": "", "state": name}


def edge(start: int, relation: str, stop: int) -> dict:
    return {"from_id": start, "relation_type": relation, "to_id": stop}


def planned(goal: dict, engine=None) -> list[str] | None:
    engine = engine or flat.play("")
    lines = plan(engine, conditions_goal(goal))
    if lines is None:
        return None
    performed = set()
    for line in lines:
        assert engine.execute(line).success, line
        performed.add(line.action)
    assert conditions_goal(goal).share(engine, frozenset(performed)) == 1
    return [" ".join([line.action.name, *(str(named.id) for named in line.objects)]) for line in lines]


def test_a_goal_that_holds_needs_no_plan():
    assert planned({"goal": [state(flat.RADIO, "ON")]}) == []


def test_plans_are_as_short_as_by_hand():
    # Walk there, pull the plug's opposite, switch on.
    assert planned({"goal": [state(flat.KETTLE, "ON")]}) == [
        f"WALK {flat.KETTLE}", f"PLUGIN {flat.KETTLE}", f"SWITCHON {flat.KETTLE}",
    ]  # fmt: skip
    # The oven is on, and cannot be opened then.
    assert planned({"goal": [state(flat.OVEN, "OPEN")]}) == [
        f"WALK {flat.OVEN}", f"SWITCHOFF {flat.OVEN}", f"OPEN {flat.OVEN}",
    ]  # fmt: skip
    # Shut in: the wardrobe has to be opened before the coat can be taken.
    assert planned({"goal": [edge(flat.COAT, "ON", flat.ME)]}) == [
        f"WALK {flat.WARDROBE}", f"OPEN {flat.WARDROBE}", f"GRAB {flat.COAT}", f"PUTON {flat.COAT}",
    ]  # fmt: skip


def test_things_are_put_away_before_the_door_is_closed():
    lines = planned({"goal": [state(flat.FRIDGE, "CLOSED"), edge(flat.APPLE, "INSIDE", flat.FRIDGE)]})
    assert lines == [
        f"WALK {flat.APPLE}", f"GRAB {flat.APPLE}", f"WALK {flat.FRIDGE}", f"OPEN {flat.FRIDGE}",
        f"PUTIN {flat.APPLE} {flat.FRIDGE}", f"CLOSE {flat.FRIDGE}",
    ]  # fmt: skip


def test_a_hand_is_freed_of_what_the_goal_does_not_want():
    engine = flat.play(f"walk {flat.MUG}, grab {flat.MUG}, walk {flat.KNIFE}, grab {flat.KNIFE}")
    lines = planned({"goal": [edge(flat.ME, "HOLDS_RH", flat.MUG), state(flat.FRIDGE, "OPEN")]}, engine)
    assert lines == [f"WALK {flat.FRIDGE}", f"DROP {flat.KNIFE}", f"OPEN {flat.FRIDGE}"]


def test_actions_that_a_goal_asks_for_are_done_on_something_that_bears_them():
    assert planned({"goal": [], "actions": ["READ"]}) == [f"WALK {flat.BOOK}", f"GRAB {flat.BOOK}", f"READ {flat.BOOK}"]
    # The radio is the first thing with a switch that is on; were none on, one would be switched on first.
    assert planned({"goal": [], "actions": ["SWITCHOFF"]})[-1] in (f"SWITCHOFF {flat.OVEN}", f"SWITCHOFF {flat.RADIO}")


def test_posture_and_the_direction_of_the_look_come_last():
    lines = planned(
        {
            "goal": [
                edge(flat.ME, "FACING", flat.LAMP),
                state(flat.ME, "LYING"),
                edge(flat.ME, "ON", flat.BED),
                edge(flat.ME, "HOLDS_RH", flat.BOOK),
            ]
        }
    )
    assert lines == [
        f"WALK {flat.BOOK}", f"GRAB {flat.BOOK}", f"WALK {flat.BED}", f"LIE {flat.BED}", f"TURNTO {flat.LAMP}",
    ]  # fmt: skip


@pytest.mark.parametrize("impossible", [edge(flat.BED, "ON", flat.TABLE), edge(flat.ME, "HOLDS_RH", flat.GHOST)])
def test_what_cannot_be_reached_has_no_plan(impossible):
    assert planned({"goal": [impossible]}) is None


def test_the_engine_that_is_asked_about_stays_as_it_is():
    engine = flat.play("")
    before = engine.to_graph()
    assert plan(engine, conditions_goal({"goal": [state(flat.FRIDGE, "OPEN")]}), frozenset({Action.WALK}))
    assert engine.to_graph() == before


def test_exact_states_are_reached_and_left():
    goal = source_goal({"nodes": [{"id": flat.OVEN, "states": ["OPEN", "OFF", "PLUGGED_OUT"]}]})
    engine = flat.play("")
    for line in plan(engine, goal):
        assert engine.execute(line).success
    assert goal.share(engine) == 1
