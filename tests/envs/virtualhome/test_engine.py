"""The engine as a whole: copies, what is admissible, what is in view, reading lines, and texts that are no lines."""

import random
import string

import pytest

from agentgym_prm.envs.virtualhome.actions import ACTIONS
from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment, Relation, State
from agentgym_prm.envs.virtualhome.order import LONGEST_LOG, enumeration, shortened
from agentgym_prm.envs.virtualhome.script import Action, ScriptLine, ScriptObject, parse_line
from agentgym_prm.envs.virtualhome.world import Edges
from agentgym_prm.errors import ScriptError
from tests.envs.virtualhome.flat import (
    APPLE,
    BED,
    BREAD,
    COAT,
    FRIDGE,
    KITCHEN,
    KNIFE,
    ME,
    MILK,
    NODES,
    PLATE,
    TABLE,
    graph,
    line,
    play,
)
from tests.live.virtualhome_walks import ScriptWalk

SCRIPTS = [
    "",
    f"walk {APPLE}",
    f"walk {APPLE}, grab {APPLE}",
    f"walk {APPLE}, grab {APPLE}, grab {KNIFE}, walk {FRIDGE}",
    f"walk {KNIFE}, grab {KNIFE}, turnto {BED}",
    f"walk {FRIDGE}, open {FRIDGE}, grab {MILK}, walk {BED}, drop {MILK}",
    f"walk {COAT}, open 31, grab {COAT}, puton {COAT}, turnto 7, walk {BED}",
]


def every_line() -> list[str]:
    ids = [number for number, *_ in NODES]
    lines = [line(action.name) for action in ACTIONS if action.parameters == 0]
    lines += [line(action.name, a) for action in ACTIONS if action.parameters == 1 for a in ids]
    return lines + [line(action.name, a, b) for action in ACTIONS if action.parameters == 2 for a in ids for b in ids]


@pytest.mark.parametrize("is_repaired", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_admissible_lines_are_exactly_those_that_succeed(script, is_repaired):
    engine = Engine(repaired=is_repaired)
    engine.reset(Apartment(graph()))
    assert_admissible(play(script, engine))


@pytest.mark.parametrize("is_repaired", [False, True])
@pytest.mark.parametrize("posture", ["SITTING", "LYING", "SITTING LYING"])
def test_the_admissible_lines_of_who_rests_are_exactly_those_that_succeed(posture, is_repaired):
    close = tuple((ME, "CLOSE", thing) for thing in (APPLE, KNIFE, BED, FRIDGE))
    engine = Engine(repaired=is_repaired)
    engine.reset(Apartment(graph(states={ME: posture}, edges=(*close, (ME, "FACING", BED), (BED, "FACING", 34)))))
    assert_admissible(engine)
    assert_admissible(play(f"grab {KNIFE}, standup", engine))


def assert_admissible(engine):
    succeeding = {text for text in every_line() if engine.clone().execute(text).success}
    listed = engine.admissible_lines()
    assert len(set(listed)) == len(listed)
    assert set(listed) == succeeding


def test_admissible_lines_come_in_the_order_of_actions_and_nodes():
    engine = play(f"walk {APPLE}, grab {APPLE}")
    actions = [parse_line(text).action for text in engine.admissible_lines()]
    assert actions == sorted(actions, key=list(Action).index)
    assert [text for text in engine.admissible_lines() if "DROP" in text] == [line("DROP", APPLE)]
    put = next(choice for choice in engine.admissible_choices() if choice.action is Action.PUTBACK)
    # Near: the apple and the table. One step further: what is close to or on the table, and the character itself.
    assert put.objects == (APPLE,)
    assert set(put.places) == {ME, TABLE, APPLE, KNIFE, 12, PLATE, 17, 37}


def test_what_is_in_view_is_in_the_room_and_not_in_something_closed():
    engine = play("")
    assert {TABLE, APPLE, FRIDGE, ME, KITCHEN, 2} <= set(engine.visible)
    assert not {MILK, BED, COAT} & set(engine.visible)
    play(f"walk {FRIDGE}, open {FRIDGE}", engine)
    assert MILK in engine.visible
    shut = play("", edges=((BREAD, "INSIDE", MILK),))
    assert BREAD not in shut.visible  # in the room, but also in the milk in the closed fridge


def test_what_is_held_or_worn_stays_in_view():
    engine = play(f"walk {COAT}, open 31, grab {COAT}, walk {APPLE}, grab {APPLE}")
    assert {COAT, APPLE} <= set(engine.visible)
    assert COAT in play(f"puton {COAT}, walk {BED}", engine).visible


def test_lines_in_view_are_those_of_the_admissible_lines_whose_objects_are_seen():
    engine = play(f"walk {FRIDGE}")
    seen = set(engine.visible)
    expected = [
        text for text in engine.admissible_lines() if all(named.id in seen for named in parse_line(text).objects)
    ]
    assert list(engine.admissible_lines(in_view=True)) == expected
    assert line("WALK", BED) in engine.admissible_lines()
    assert line("WALK", BED) not in expected


def test_a_clone_goes_its_own_way():
    engine = play(f"walk {APPLE}, grab {APPLE}")
    before = engine.to_graph()
    clone = engine.clone()
    play(f"putback {APPLE} {PLATE}, walk {FRIDGE}, open {FRIDGE}, grab {MILK}", clone)
    assert engine.to_graph() == before
    assert engine.execute(line("PUTOBJBACK", APPLE)).success
    assert not clone.execute(line("PUTOBJBACK", APPLE)).success
    assert clone.held == (MILK,)


def test_clones_of_one_state_do_the_same():
    apartment = Apartment(graph())
    engine, walk = Engine(), ScriptWalk(apartment, "clones")
    engine.reset(apartment)
    for _ in range(300):
        text = walk.choose(engine)
        clone = engine.clone()
        assert clone.execute(text) == engine.execute(text)
        assert clone.changes() == engine.changes()


def test_changes_are_what_differs_from_the_start():
    engine = play(f"walk {FRIDGE}, open {FRIDGE}")
    changes = engine.changes()
    assert {tuple(edge) for edge in changes["add_edges"]} == {
        (ME, "CLOSE", FRIDGE), (FRIDGE, "CLOSE", ME), (ME, "CLOSE", MILK), (MILK, "CLOSE", ME), (ME, "CLOSE", 37),
        (37, "CLOSE", ME),
    }  # fmt: skip
    assert [(node["id"], node["states"]) for node in changes["set_nodes"]] == [(FRIDGE, ["OPEN", "OFF", "PLUGGED_IN"])]
    play(f"close {FRIDGE}, walk {KITCHEN}", engine)
    assert engine.changes() == {"set_nodes": [], "del_nodes": [], "add_edges": [], "del_edges": []}


def test_questions_about_a_node():
    engine = play(f"walk {APPLE}")
    assert engine.character == ME
    assert engine.node(APPLE).class_name == "apple"
    assert engine.states(FRIDGE) == (State.CLOSED, State.OFF, State.PLUGGED_IN)
    assert engine.sources(PLATE, Relation.ON) == (BREAD,)
    assert list(engine.edges({APPLE, TABLE}, [Relation.ON])) == [(APPLE, Relation.ON, TABLE)]
    with pytest.raises(KeyError, match="flat has no node 99"):
        engine.states(99)


def test_another_character_can_act():
    given = graph(edges=((100, "INSIDE", KITCHEN),))
    given["nodes"].append({"id": 100, "class_name": "character", "properties": [], "states": []})
    apartment, engine = Apartment(given), Engine()
    engine.reset(apartment, character_index=1)
    assert play(f"walk {APPLE}, grab {APPLE}", engine).has_edge(100, Relation.HOLDS_RH, APPLE)
    with pytest.raises(ValueError, match=r"character_index must be in \[0, 2\) in graph, got 2"):
        engine.reset(apartment, character_index=2)


def test_one_character_takes_what_another_holds():
    given = graph(edges=((100, "INSIDE", KITCHEN), (100, "HOLDS_LH", APPLE)))
    given["nodes"].append({"id": 100, "class_name": "character", "properties": [], "states": []})
    engine = Engine()
    engine.reset(Apartment(given))
    play(f"walk {APPLE}, grab {APPLE}", engine)
    assert engine.sources(APPLE, Relation.HOLDS_LH) == ()


def test_a_search_for_a_room_that_never_ends_is_refused():
    # Pot (16) and pan (24) are in each other and in the kitchen (1). In a table of eight places 16 and 24 come before
    # 1, so the original follows the lid from pot to pan to pot.
    names = {1: "kitchen", 2: "character", 16: "pot", 24: "pan", 30: "lid"}
    nodes = [
        {"id": n, "class_name": name, "category": "Rooms" if n == 1 else None, "properties": [], "states": []}
        for n, name in names.items()
    ]
    found = [(2, 1), (16, 1), (24, 1), (16, 24), (24, 16), (30, 16)]
    edges = [{"from_id": a, "relation_type": "INSIDE", "to_id": b} for a, b in found]
    engine = Engine()
    engine.reset(Apartment({"nodes": nodes, "edges": edges}))
    said = '<pot> (16) is inside itself when executing "[WALK] <lid> (30) [0]"'
    assert engine.execute("[WALK] <lid> (30)") == (False, said)
    assert engine.room_of(30) is None
    assert "[WALK] <lid> (30)" not in engine.admissible_lines()
    assert "[WALK] <pan> (24)" in engine.admissible_lines()


# --- lines ---


def test_lines_are_read_as_the_original_reads_them():
    expected = ScriptLine(Action.PUTIN, (ScriptObject("coffee_maker", 12), ScriptObject("fridge", 3)))
    assert parse_line("  [putin] <Coffee Maker> (1.12) and <fridge>(3) quickly") == expected
    assert str(parse_line("[STANDUP] at once")) == "[STANDUP]"
    assert parse_line("[LOOKAT_MEDIUM] <a> (1)").action is Action.LOOKAT
    assert str(parse_line("[WALK] <x> (-4)")) == "[WALK] <x> (-4)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Cannot parse action"),
        ("WALK <table> (4)", "Cannot parse action"),
        ("[JUMP] <table> (4)", 'Unknown action "JUMP"'),
        ("[WALK]", 'Wrong number of parameters for "WALK". Got 0, expected 1'),
        ("[STANDUP] <table> (4)", 'Wrong number of parameters for "STANDUP". Got 1, expected 0'),
        ("[WALK] <table> (four)", 'Not the number of a node: "(four)"'),
        ("[WALK] <table> (1.2.3)", 'Not the number of a node: "(1.2.3)"'),
    ],
)
def test_a_text_that_is_no_line_is_refused_in_the_parsers_words(text, message):
    with pytest.raises(ScriptError, match=r".") as error:
        parse_line(text)
    assert str(error.value) == message
    assert play("").execute(text) == (False, message)


def test_a_parsed_line_does_what_its_text_does():
    one, two = play(""), play("")
    assert one.execute(parse_line(line("WALK", APPLE))) == two.execute(line("WALK", APPLE))
    assert one.to_graph() == two.to_graph()


def test_a_hundred_thousand_texts_are_executed_or_refused():
    rng, engine = random.Random(0), play("")
    names = [action.name for action in Action] + ["JUMP", "", "walk"]
    pieces = [
        "[",
        "]",
        "<",
        ">",
        "(",
        ")",
        " ",
        "1.",
        "²",
        "\n",
        "\x00",
        "९",
        "999999999999999999999",
        "-1",
        "{}",
        "%s",
    ]
    for _ in range(100_000):
        if rng.random() < 0.5:
            text = "".join(rng.choices(pieces + names + list(string.printable), k=rng.randrange(12)))
        else:
            ids = [rng.choice([APPLE, TABLE, FRIDGE, ME, KITCHEN, 99, -1, "1.10", " 10 ", "x"]) for _ in range(3)]
            objects = " ".join(
                f"<{rng.choice(['a', 'B c', '', '<'])}> ({number})" for number in ids[: rng.randrange(4)]
            )
            text = f"[{rng.choice(names)}] {objects}"
        success, message = engine.execute(text)
        assert success or message
    assert set(engine.to_graph()) == {"nodes", "edges"}


# --- edges ---


def of_pairs(pairs, number, position):
    """Mask of the other ends of the edges at which a node stands first (position 0) or second (1)."""
    return sum(1 << pair[1 - position] for pair in pairs if pair[position] == number)


def test_edges_are_those_of_a_plain_set_of_pairs():
    """Random changes of each kind among six nodes, one of them the character, whose edges are kept in another way."""
    rng, count = random.Random(3), 6
    for _ in range(300):
        start = {(rng.randrange(count), rng.randrange(count)) for _ in range(rng.randrange(12))}
        nodes = [{"id": n, "class_name": "character", "category": None} for n in range(5)]
        nodes.append({"id": 5, "class_name": "kitchen", "category": "Rooms"})
        nodes = [node | {"properties": ["GRABBABLE"] * rng.randrange(2), "states": []} for node in nodes]
        given = [{"from_id": a, "relation_type": "CLOSE", "to_id": b} for a, b in start]
        given += [{"from_id": n, "relation_type": "INSIDE", "to_id": 5} for n in range(5)]
        apartment, me = Apartment({"nodes": nodes, "edges": given}), rng.randrange(count)
        edges, pairs = Edges(apartment, Relation.CLOSE, me, logged=apartment.grabbable), set(start)
        for step in range(1, 20):
            a, b, mask = rng.randrange(count), rng.randrange(count), rng.randrange(1 << count)
            among = {n for n in range(count) if mask >> n & 1}
            match rng.randrange(6):
                case 0:
                    edges.add(a, b, step)
                    pairs.add((a, b))
                case 1:
                    edges.move(a, b, step)
                    pairs = {pair for pair in pairs if a not in pair} | {(a, b)}
                case 2:
                    edges.meet(mask, step)
                    pairs |= {(me, n) for n in among} | {(n, me) for n in among}
                case 3:
                    edges.release(mask, step)
                    pairs -= {(me, n) for n in among}
                case 4:
                    edges.lose(a, step)
                    pairs.discard((a, me))
                case 5:
                    edges.detach(a, step)
                    pairs = {pair for pair in pairs if a not in pair}
            edges = edges.copy() if rng.random() < 0.2 else edges
            assert [edges.targets(n) for n in range(count)] == [of_pairs(pairs, n, 0) for n in range(count)]
            assert [edges.sources(n) for n in range(count)] == [of_pairs(pairs, n, 1) for n in range(count)]
            assert (edges.outgoing, edges.incoming) == (of_pairs(pairs, me, 0), of_pairs(pairs, me, 1))
            for n in range(count):
                assert sorted(edges.ordered_targets(n, step)) == sorted(b for a, b in pairs if a == n) or (
                    not apartment.grabbable >> n & 1  # of these nothing is logged
                )
                assert edges.changed() >> n & 1 or of_pairs(pairs, n, 0) == of_pairs(start, n, 0)


# --- the order of enumeration ---


def noted(log, start, step, target, added):
    """A log with one more change."""
    if log is not None and log[1] >= LONGEST_LOG:
        log = shortened(log, start, [], step)
    return (log, 1 if log is None else log[1] + 1, step, target, added)


def test_an_order_is_that_of_a_set_with_the_same_history():
    """Replayed against sets that are copied and read at every step, as the original's are."""
    rng = random.Random(5)
    for _ in range(300):
        start = rng.sample(range(400), rng.choice([0, 1, 3, 6, 20]))
        log, added, removed = None, None, set()
        for step in range(1, rng.randrange(2, 90)):
            added = None if added is None else set(iter(added))
            for _ in range(rng.choice([0, 0, 1, 3])):
                present = (set(start) | (added or set())) - removed
                target = rng.choice([*start, *range(0, 400, 8)])
                log = noted(log, start, step, target, target not in present)
                if target in start:
                    removed ^= {target}
                elif target in present:
                    added.discard(target)
                else:
                    added = set() if added is None else added
                    added.add(target)
            if added is not None:
                added.update(dict.fromkeys(start).keys())
                added.difference_update(removed)
        expected = set() if added is None else added
        expected.update(dict.fromkeys(start).keys())
        expected.difference_update(removed)
        assert enumeration(log, start, [], step) == list(expected)


def test_a_set_that_lost_most_of_its_elements_shrinks():
    # Sixteen ids in a table of 32 places: 193 (at 1) before 240 (at 16). Fourteen go, more than a quarter of the
    # places, so the table shrinks to 16, where 240 (at 0) comes before 193 (at 1).
    start = [175, 165, 164, 163, 211, 240, 213, 214, 239, 195, 209, 193, 186, 181, 168, 169]
    cuts = [(1, target) for target in start if target not in (193, 240)]
    assert enumeration(None, start, [], step=0)[0] == 193
    assert enumeration(None, start, cuts, step=1) == [240, 193]


def test_a_long_history_is_cut_short():
    log = None
    for step in range(1, 1001):
        log = noted(log, [1, 2], step, 9, step % 2 == 1)
    assert log[1] <= LONGEST_LOG + 1
    assert enumeration(log, [1, 2], [], 1000) == [1, 2]
