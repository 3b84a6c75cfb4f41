import pytest

from agentgym_prm.envs.virtualhome.commands import Name, parse_command
from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment, Relation
from agentgym_prm.envs.virtualhome.naming import Naming, UnknownReferenceError, Vocabulary, equivalents
from tests.envs.virtualhome import flat

CUP_1, CUP_2, CUP_3 = 50, 51, 52
"""On the table, in the closed wardrobe, on the bed."""


def cups() -> Engine:
    """The flat with three cups, the lowest id last in the file."""
    graph = flat.graph()
    cup = {"class_name": "cup", "category": "Props", "properties": ["GRABBABLE", "RECIPIENT"], "states": []}
    graph["nodes"] += [{"id": node_id, **cup} for node_id in (CUP_3, CUP_2, CUP_1)]
    for thing, relation, place in (
        (CUP_1, "INSIDE", flat.KITCHEN), (CUP_1, "ON", flat.TABLE), (CUP_1, "CLOSE", flat.TABLE),
        (CUP_2, "INSIDE", flat.WARDROBE),
        (CUP_3, "INSIDE", flat.BEDROOM), (CUP_3, "ON", flat.BED), (CUP_3, "CLOSE", flat.BED),
    ):  # fmt: skip
        graph["edges"].append({"from_id": thing, "relation_type": relation, "to_id": place})
    engine = Engine()
    engine.reset(Apartment(graph, "cups"))
    return engine


def meant(naming: Naming, engine: Engine, text: str) -> tuple[int, ...]:
    """Ids of what a command means; it is not executed."""
    command = parse_command(text)
    assert command is not None
    return tuple(engine.apartment.nodes[number].id for number in naming.meant(command, engine.world))


def do(naming: Naming, engine: Engine, text: str) -> tuple[int, ...]:
    """Execute a command as the text engine does, and return what it meant."""
    ids = meant(naming, engine, text)
    command = parse_command(text)
    assert engine.execute(flat_line(engine, command.action.name, *ids)).success, text
    naming.remember([engine.apartment.numbers[node_id] for node_id in ids])
    return ids


def flat_line(engine: Engine, action: str, *ids: int) -> str:
    return " ".join([f"[{action}]", *(f"<{engine.node(node_id).class_name}> ({node_id})" for node_id in ids)])


@pytest.fixture
def engine() -> Engine:
    return cups()


@pytest.fixture
def naming(engine) -> Naming:
    return Naming(Vocabulary(engine.apartment))


def test_of_several_things_the_lowest_id_is_meant_if_nothing_else_tells(engine, naming):
    assert meant(naming, engine, "walk to cup") == (CUP_1,)


def test_a_near_thing_is_meant_before_a_lower_id(engine, naming):
    assert engine.execute(flat.line("WALK", flat.BED)).success
    assert engine.execute(f"[WALK] <cup> ({CUP_3})").success
    assert meant(naming, engine, "grab cup") == (CUP_3,)


def test_what_is_about_the_thing_meant_last_comes_before_what_is_near(engine, naming):
    do(naming, engine, "walk to bed")
    # The cup on the bed is close to it; the character is not close to that cup itself.
    assert not engine.has_edge(flat.ME, Relation.CLOSE, CUP_3)
    assert meant(naming, engine, "grab cup") == (CUP_3,)
    do(naming, engine, "walk to wardrobe")
    assert meant(naming, engine, "grab cup") == (CUP_2,)  # inside the wardrobe


def test_what_was_meant_once_stays_meant(engine, naming):
    do(naming, engine, "walk to bed")
    assert do(naming, engine, "walk to cup") == (CUP_3,)
    do(naming, engine, "walk to table")
    assert meant(naming, engine, "walk to cup") == (CUP_3,)


def test_an_id_decides_and_is_remembered(engine, naming):
    assert do(naming, engine, f"walk to cup ({CUP_2})") == (CUP_2,)
    assert meant(naming, engine, "walk to cup") == (CUP_2,)
    with pytest.raises(UnknownReferenceError, match=r"no cup \(4\)"):
        meant(naming, engine, f"walk to cup ({flat.TABLE})")


def test_what_the_task_introduces_is_meant_first(engine):
    naming = Naming(Vocabulary(engine.apartment), [CUP_3, CUP_2])
    assert meant(naming, engine, "walk to cup") == (CUP_3,)


def test_only_what_is_held_can_be_put(engine, naming):
    with pytest.raises(UnknownReferenceError, match="cup is not in hand"):
        meant(naming, engine, "put cup on table")
    do(naming, engine, f"walk to cup ({CUP_3})")
    do(naming, engine, "grab cup")
    do(naming, engine, "walk to table")
    do(naming, engine, f"touch cup ({CUP_1})")
    # "cup" now means the one on the table, but that is not in the hands.
    assert meant(naming, engine, "put cup on table") == (CUP_3, flat.TABLE)


def test_nothing_is_put_into_itself(engine, naming):
    do(naming, engine, "walk to cup")
    do(naming, engine, "grab cup")
    with pytest.raises(UnknownReferenceError, match="itself"):
        meant(naming, engine, "put cup in cup")


def test_an_unknown_name_means_an_equivalent_class_of_the_apartment(engine, naming):
    # names.txt: "freezer fridge"; there is a fridge, no freezer.
    assert "fridge" in equivalents("freezer")
    assert "freezer" in equivalents("fridge")
    assert meant(naming, engine, "walk to freezer") == (flat.FRIDGE,)
    assert meant(naming, engine, "walk to dining room") == (flat.KITCHEN,)
    with pytest.raises(UnknownReferenceError, match="no piano here"):
        meant(naming, engine, "walk to piano")


def test_the_shortest_name_has_an_id_only_where_the_class_would_mean_another(engine, naming):
    numbers = engine.apartment.numbers
    assert naming.name_of(numbers[CUP_1], engine.world) == Name("cup")
    assert naming.name_of(numbers[CUP_2], engine.world) == Name("cup", CUP_2)
    assert naming.name_of(numbers[flat.BED], engine.world) == Name("bed")


def test_a_copy_goes_its_own_way(engine, naming):
    twin, elsewhere = naming.copy(), engine.clone()
    do(twin, elsewhere, f"walk to cup ({CUP_2})")
    assert meant(twin, engine, "walk to cup") == (CUP_2,)
    assert meant(naming, engine, "walk to cup") == (CUP_1,)
