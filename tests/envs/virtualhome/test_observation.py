from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment
from agentgym_prm.envs.virtualhome.observation import graph, partial
from tests.envs.virtualhome import flat

# The source system's words for each state, written out by its rules: what is close and seen, with states; what of it
# lies on what; what the hands hold.


def test_nothing_near_is_nothing_told():
    assert partial(flat.play(f"walk {flat.BEDROOM}")) == ""


def test_a_thing_is_told_with_its_states_and_what_it_lies_on():
    # Walking to the apple brings the character close to apple, table (on which it lies) and face (a body part).
    assert partial(flat.play(f"walk {flat.APPLE}")) == "table is DIRTY, apple, face, apple ON table. "


def test_what_is_shut_in_is_not_told_and_what_is_in_something_open_is():
    closed = flat.play(f"walk {flat.FRIDGE}")
    assert partial(closed) == "fridge is CLOSED and OFF and PLUGGED_IN, face. "
    # Opened, its contents show; that they are inside is not said.
    assert partial(flat.play(f"open {flat.FRIDGE}", closed)) == "fridge is OPEN and OFF and PLUGGED_IN, milk, face. "


def test_hands_come_last_in_the_order_of_the_nodes():
    engine = flat.play(f"walk {flat.MUG}, grab {flat.MUG}, find {flat.APPLE}, grab {flat.APPLE}")
    # The right hand holds the mug; told is the apple first, which stands earlier in the graph.
    assert engine.held == (flat.MUG, flat.APPLE)
    assert partial(engine).endswith("You have apple, mug. ")


def test_one_of_a_class_near_lends_its_class_to_all_and_equal_words_are_told_once():
    far = {"id": 60, "class_name": "table", "category": "Props", "properties": [], "states": ["CLEAN"]}
    twin = {"id": 61, "class_name": "table", "category": "Props", "properties": [], "states": ["DIRTY"]}
    engine = play_with([far, twin], flat.BEDROOM, f"walk {flat.APPLE}")
    assert partial(engine) == "table is DIRTY, apple, face, table is CLEAN, apple ON table. "


def play_with(nodes: list[dict], place: int, script: str) -> Engine:
    """The flat with more nodes, each inside the place, after a script."""
    graph_ = flat.graph()
    graph_["nodes"] += nodes
    graph_["edges"] += [{"from_id": node["id"], "relation_type": "INSIDE", "to_id": place} for node in nodes]
    engine = Engine()
    engine.reset(Apartment(graph_, "flat"))
    return flat.play(script, engine)


def test_a_thing_in_what_cannot_be_opened_is_hidden_as_in_the_source_system():
    # A coin in the mug: the mug is neither a room nor OPEN.
    coin = {"id": 60, "class_name": "coin", "category": "Props", "properties": [], "states": []}
    engine = play_with([coin], flat.MUG, f"walk {flat.MUG}")
    assert engine.execute("[WALK] <coin> (60)").success
    assert 60 in engine.near
    assert 60 in engine.visible  # the engine itself takes it for visible
    assert "coin" not in partial(engine)


def test_the_graph_mode_lists_what_is_near_with_ids_and_places():
    engine = flat.play(f"walk {flat.FRIDGE}, open {flat.FRIDGE}, grab {flat.MILK}")
    assert graph(engine).splitlines() == [
        "You are in kitchen (1).",
        "fridge (5): OPEN, OFF, PLUGGED_IN",
        "milk (15)",
        "face (37)",
        "You have milk (15).",
    ]
