import random

import pytest

import agentgym_prm.envs.alfworld.engine as engine_module
from agentgym_prm.envs.alfworld.dialect import Dialect
from agentgym_prm.envs.alfworld.engine import NOTHING_HAPPENS, Engine
from agentgym_prm.envs.alfworld.game import Game, GameDescription
from agentgym_prm.envs.alfworld.goal import Goal, goal_share
from agentgym_prm.testing import HOSTILE_COMMANDS
from tests.envs.alfworld.house import PLACE_APPLE, facts, house

OLDER = Dialect(put_grammar="put", arrival_names_location=True, has_help=False)


def start(game: Game | None = None, put_grammar: str | None = None) -> Engine:
    engine = Engine(put_grammar)
    engine.reset(game or house())
    return engine


def play(engine: Engine, *commands: str) -> str:
    """Give commands, all of which must be executed, and return the last feedback."""
    feedback = ""
    for command in commands:
        assert command in engine.admissible_commands(), command
        feedback = engine.step(command)
        assert engine.valid, command
    return feedback


def test_opening_lists_receptacles_by_id_with_numbers_running_down():
    assert Engine().reset(house()) == (
        "-= Welcome to TextWorld, ALFRED! =-\n\n"
        "You are in the middle of a room. Looking quickly around you, you see a cabinet 2, a cabinet 1, "
        "a countertop 1, a fridge 1, a microwave 1, a sidetable 1, "
        "a sinkbasin 1, a stoveburner 2, and a stoveburner 1.\n\n"
        "Your task is to: put some apple on sidetable."
    )


def test_look_before_the_first_move_sees_nothing():
    assert play(start(), "look") == "You are in the middle of a room. Looking quickly around you, you see nothing."


def test_admissible_commands_of_every_kind_are_sorted_and_exact():
    engine = start()
    play(engine, "go to countertop 1", "take knife 1 from countertop 1")
    assert engine.admissible_commands() == (
        "examine countertop 1",
        "examine knife 1",
        "go to cabinet 1",
        "go to cabinet 2",
        "go to fridge 1",
        "go to microwave 1",
        "go to sidetable 1",
        "go to sinkbasin 1",
        "go to stoveburner 1",
        "go to stoveburner 2",
        "help",
        "inventory",
        "look",
        "move knife 1 to countertop 1",
        "slice apple 2 with knife 1",
    )


def test_a_closed_receptacle_hides_its_contents_until_opened():
    engine = start()
    assert play(engine, "go to fridge 1") == "You arrive at fridge 1. The fridge 1 is closed."
    assert "take apple 1 from fridge 1" not in engine.admissible_commands()
    assert play(engine, "open fridge 1") == "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1."
    assert play(engine, "close fridge 1") == "You close the fridge 1."
    assert play(engine, "examine fridge 1") == "The fridge 1 is closed."


def test_taking_and_moving_an_object_wins_when_the_goal_holds():
    engine = start()
    assert play(engine, "go to countertop 1") == (
        "You arrive at countertop 1. On the countertop 1, you see a apple 2, and a knife 1."
    )
    assert play(engine, "take apple 2 from countertop 1") == "You pick up the apple 2 from the countertop 1."
    assert play(engine, "inventory") == "You are carrying: a apple 2."
    assert not engine.won
    assert (
        play(engine, "go to sidetable 1", "move apple 2 to sidetable 1") == "You move the apple 2 to the sidetable 1."
    )
    assert engine.won
    assert play(engine, "examine sidetable 1") == "On the sidetable 1, you see a apple 2, and a desklamp 1."


def test_both_put_grammars_are_understood_and_the_chosen_one_is_listed():
    for put_grammar, listed in ((None, "move"), ("move", "move"), ("put", "put")):
        engine = start(put_grammar=put_grammar)
        play(engine, "go to countertop 1", "take apple 2 from countertop 1")
        puts = [c for c in engine.admissible_commands() if c.startswith(("move", "put"))]
        assert puts == [f"{listed} apple 2 {'to' if listed == 'move' else 'in/on'} countertop 1"]
        for command in ("put apple 2 in/on", "put apple 2 in", "put apple 2 on", "move apple 2 to"):
            twin = engine.clone()
            assert twin.step(f"{command} countertop 1") == "You move the apple 2 to the countertop 1."


def test_the_older_release_speaks_its_own_texts():
    engine = start(house(dialect=OLDER))
    # Locations sort as strings, so loc_bar_3 of nine (0-8) is number 9 - 3 = 6.
    assert engine.step("go to countertop 1") == (
        "You arrive at loc 6. On the countertop 1, you see a apple 2, and a knife 1."
    )
    assert engine.step("help") == NOTHING_HAPPENS
    engine.step("take apple 2 from countertop 1")
    assert "put apple 2 in/on countertop 1" in engine.admissible_commands()
    assert engine.step("put apple 2 in/on countertop 1") == "You put the apple 2 in/on the countertop 1."


def test_an_object_in_two_receptacles_is_taken_from_one_at_a_time():
    engine = start(house(extra=(("inreceptacle", "mug_bar_1", "countertop_bar_1"),)))
    play(engine, "go to countertop 1", "take mug 1 from countertop 1", "go to cabinet 2")
    assert play(engine, "open cabinet 2") == "You open the cabinet 2. The cabinet 2 is open. In it, you see a mug 1."
    play(engine, "move mug 1 to cabinet 2", "take mug 1 from cabinet 2")
    assert engine.step("examine cabinet 2") == "The cabinet 2 is open. In it, you see nothing."


def test_from_a_shared_location_both_receptacles_are_handled_and_neither_is_gone_to():
    engine = start()
    assert play(engine, "go to stoveburner 2") == "You arrive at stoveburner 2. On the stoveburner 2, you see a pan 1."
    assert play(engine, "look") == "You are facing the stoveburner 2, and stoveburner 1. Next to it, you see nothing."
    commands = engine.admissible_commands()
    assert "examine stoveburner 1" in commands
    assert not any(command.startswith("go to stoveburner") for command in commands)
    assert engine.step("go to stoveburner 1") == NOTHING_HAPPENS
    play(engine, "take pan 1 from stoveburner 2")
    assert {"move pan 1 to stoveburner 1", "move pan 1 to stoveburner 2"} <= set(engine.admissible_commands())


def test_what_was_taken_out_and_put_down_at_a_shared_location_lies_next_to_it():
    # Seen in the original: it lists what is at the location and known not to be in one of the receptacles there.
    engine = start()
    play(engine, "go to stoveburner 2", "take pan 1 from stoveburner 2")
    assert play(engine, "look").endswith("Next to it, you see nothing.")
    play(engine, "move pan 1 to stoveburner 1")
    assert play(engine, "look").endswith("Next to it, you see a pan 1.")
    play(engine, "take pan 1 from stoveburner 1", "move pan 1 to stoveburner 2")
    assert play(engine, "look").endswith("Next to it, you see a pan 1.")


def test_only_what_is_held_can_be_examined():
    engine = start()
    play(engine, "go to countertop 1")
    assert engine.step("examine apple 2") == NOTHING_HAPPENS
    play(engine, "take apple 2 from countertop 1")
    assert play(engine, "examine apple 2") == "There's nothing special about apple 2."


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ((), "There's nothing special about apple 2."),
        (("ishot",), "This is a hot apple 2."),
        (("iscool",), "This is a cold apple 2."),
        (("isclean",), "This is a clean apple 2."),
        (("issliced",), "This is a sliced apple 2."),
        (("isclean", "ishot"), "This is a hot and clean apple 2."),
        (("isclean", "iscool"), "This is a cool and clean apple 2."),
        (("ishot", "issliced"), "This is a hot sliced apple 2."),
        (("iscool", "issliced"), "This is a cool sliced apple 2."),
        (("isclean", "issliced"), "This is a clean sliced apple 2."),
        (("isclean", "ishot", "issliced"), "This is a hot and clean sliced apple 2."),
        (("isclean", "iscool", "issliced"), "This is a cool and clean sliced apple 2."),
    ],
)
def test_examining_an_object_names_its_states(states, text):
    # Expected texts: the grammar's alternatives for examineObject, in their order.
    engine = start(house(extra=tuple((state, "apple_bar_1") for state in states)))
    play(engine, "go to countertop 1", "take apple 2 from countertop 1")
    assert play(engine, "examine apple 2") == text


def test_examining_a_container_shows_what_it_holds_whatever_its_state():
    engine = start(house(extra=(("isclean", "mug_bar_1"),)))
    play(engine, "go to cabinet 2", "open cabinet 2", "take mug 1 from cabinet 2")
    assert play(engine, "examine mug 1") == "This is a normal mug 1. In it, you see a spoon 1."
    assert play(engine, "go to stoveburner 1")
    assert not any("spoon" in command for command in engine.admissible_commands())


def test_heating_and_cooling_exclude_each_other_and_need_no_open_door():
    engine = start()
    play(engine, "go to countertop 1", "take apple 2 from countertop 1", "go to microwave 1")
    assert play(engine, "heat apple 2 with microwave 1") == "You heat the apple 2 using the microwave 1."
    play(engine, "go to fridge 1")
    assert play(engine, "cool apple 2 with fridge 1") == "You cool the apple 2 using the fridge 1."
    assert play(engine, "examine apple 2") == "This is a cold apple 2."
    play(engine, "go to microwave 1", "heat apple 2 with microwave 1")
    assert play(engine, "examine apple 2") == "This is a hot apple 2."
    play(engine, "go to sinkbasin 1")
    assert play(engine, "clean apple 2 with sinkbasin 1") == "You clean the apple 2 using the sinkbasin 1."
    assert play(engine, "examine apple 2") == "This is a hot and clean apple 2."


def test_a_lamp_goes_on_and_never_off():
    engine = start()
    play(engine, "go to sidetable 1")
    assert play(engine, "use desklamp 1") == "You turn on the desklamp 1."
    assert play(engine, "use desklamp 1") == "You turn on the desklamp 1."
    assert engine.toggled == 1 << engine.game.object_index["desklamp 1"]


def test_slicing_needs_the_knife_in_hand_and_the_objects_own_location():
    engine = start(house(extra=(("inreceptacle", "apple_bar_2", "sidetable_bar_1"),)))
    play(engine, "go to countertop 1")
    assert engine.step("slice apple 2 with knife 1") == NOTHING_HAPPENS
    play(engine, "take knife 1 from countertop 1")
    assert play(engine, "slice apple 2 with knife 1") == "You sliced the apple 2 with the knife 1."
    # apple 1 lies on the side table too, but its own location is the fridge's: it can be sliced only there.
    play(engine, "go to sidetable 1")
    assert engine.step("slice apple 1 with knife 1") == NOTHING_HAPPENS
    play(engine, "go to fridge 1")
    assert play(engine, "slice apple 1 with knife 1") == "You sliced the apple 1 with the knife 1."


@pytest.mark.parametrize(
    "command",
    [
        "Go to countertop 1",
        "go  to countertop 1",
        "go to countertop 1 now",
        "go countertop 1",
        "go to countertop",
        "go to countertop 2",
        "go to apple 1",
        "take apple 2 from countertop 1",
        "open countertop 1",
        "close fridge 1",
        "examine",
        "use fridge 1",
        "lookaround",
        *HOSTILE_COMMANDS,
    ],
)
def test_anything_else_does_nothing_at_all(command):
    engine = start()
    before = engine.state_key()
    assert engine.step(command) == NOTHING_HAPPENS
    assert not engine.valid
    assert engine.state_key() == before


def test_white_space_around_a_command_is_ignored_as_the_original_ignores_it():
    assert start().step(" \tgo to countertop 1\n").startswith("You arrive at countertop 1.")


def test_a_clone_and_its_original_go_separate_ways():
    engine = start()
    play(engine, "go to countertop 1", "take apple 2 from countertop 1")
    clone = engine.clone()
    assert clone.state_key() == engine.state_key()
    play(clone, "move apple 2 to countertop 1", "go to fridge 1", "open fridge 1")
    assert engine.step("inventory") == "You are carrying: a apple 2."
    assert engine.step("look").startswith("You are facing the countertop 1.")
    assert clone.admissible_commands() != engine.admissible_commands()


def any_kind(rng: random.Random, engine: Engine) -> str:
    """A random command, each kind that changes something as likely as the others."""
    commands = engine.admissible_commands()
    kinds = sorted({c.split()[0] for c in commands} - {"look", "inventory", "help", "examine"})
    kind = rng.choice(kinds)
    return rng.choice([c for c in commands if c.startswith(kind)])


def state_facts(engine: Engine) -> list[tuple[str, ...]]:
    """The engine's state as PDDL facts, for the literal goal evaluation."""
    game = engine.game
    changing = {"atlocation", "inreceptacle", "isclean", "ishot", "iscool", "istoggled"}
    now = [fact for fact in facts() if fact[0] not in changing]
    # Location ids sort as their numbers do here.
    now.append(("atlocation", "agent1", f"loc_bar_{engine.location}"))
    for obj, name in zip(game.object_ids, game.object_names, strict=True):
        bit = 1 << game.object_index[name]
        for receptacle, contents in zip(game.receptacle_ids, engine.contents, strict=True):
            if contents & bit:
                now.append(("inreceptacle", obj, receptacle))
        for condition, predicate in (("clean", "isclean"), ("hot", "ishot"), ("cool", "iscool")):
            if engine.in_state(condition) & bit:
                now.append((predicate, obj))
        if engine.toggled & bit:
            now.append(("istoggled", obj))
    if engine.held >= 0:
        now.append(("holds", "agent1", game.object_ids[engine.held]))
    return now


GOALS = [
    PLACE_APPLE,
    Goal("pick_two_obj_and_place", "appletype", "sidetabletype"),
    Goal("pick_clean_then_place_in_recep", "appletype", "sidetabletype"),
    Goal("pick_heat_then_place_in_recep", "appletype", "countertoptype"),
    Goal("pick_cool_then_place_in_recep", "mugtype", "countertoptype"),
    Goal("look_at_obj_in_light", "mugtype", lamp_type="desklamptype"),
]


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.task_type)
def test_goal_condition_share_equals_the_literal_evaluation_on_random_states(goal):
    rng = random.Random(goal.task_type)
    shares = set()
    for _ in range(30):
        engine = start(house(goal))
        for _ in range(60):
            engine.step(any_kind(rng, engine))
            share = engine.goal_condition_success_rate
            assert share == goal_share(goal, state_facts(engine))
            assert engine.won == (share == 1.0)
            shares.add(share)
    assert len(shares) > 1


def test_goal_condition_share_counts_conditions_one_by_one():
    # look_at has three: lamp on, beside the lamp, object in hand.
    engine = start(house(GOALS[-1]))
    shares = [engine.goal_condition_success_rate]
    for command in (
        "go to sidetable 1",
        "use desklamp 1",
        "go to cabinet 2",
        "open cabinet 2",
        "take mug 1 from cabinet 2",
        "go to sidetable 1",
    ):
        play(engine, command)
        shares.append(engine.goal_condition_success_rate)
    assert shares == [0.0, 1 / 3, 2 / 3, 1 / 3, 1 / 3, 2 / 3, 1.0]


def test_every_listed_command_is_executed_and_no_other_pairing_is():
    """Admissible commands and ``step`` are two computations of one thing: compare them on all entity pairs."""
    rng = random.Random(5)
    game = house()
    everything = ["look", "inventory", "help"]
    for name in game.receptacle_names:
        everything += [f"{verb} {name}" for verb in ("go to", "open", "close", "examine")]
        everything += [f"{verb} {o} from {name}" for verb in ("take",) for o in game.object_names]
        everything += [f"move {o} to {name}" for o in game.object_names]
        everything += [f"{verb} {o} with {name}" for verb in ("heat", "cool", "clean") for o in game.object_names]
    for name in game.object_names:
        everything += [f"examine {name}", f"use {name}"]
        everything += [f"slice {o} with {name}" for o in game.object_names]
    engine = start(game)
    for _ in range(150):
        listed = set(engine.admissible_commands())
        executed = set()
        for command in everything:
            twin = engine.clone()
            twin.step(command)
            if twin.valid:
                executed.add(command)
        assert executed == listed
        assert list(engine.admissible_commands()) == sorted(listed)
        engine.step(any_kind(rng, engine))


def test_a_clone_shares_nothing_that_changes():
    engine = start()
    play(engine, "go to stoveburner 2", "take pan 1 from stoveburner 2")
    before = engine.state_key()
    play(engine.clone(), "move pan 1 to stoveburner 1", "look", "take pan 1 from stoveburner 1")
    clone = engine.clone()
    play(clone, "move pan 1 to stoveburner 2", "go to microwave 1", "open microwave 1")
    assert engine.state_key() == before


def test_states_that_differ_only_in_what_lies_beside_are_told_apart():
    engine = start()
    untouched = engine.clone()
    play(untouched, "go to stoveburner 2")
    play(engine, "go to stoveburner 2", "take pan 1 from stoveburner 2", "move pan 1 to stoveburner 1")
    play(engine, "take pan 1 from stoveburner 1", "move pan 1 to stoveburner 2")
    # Everything is where it was, but `look` now lists the pan as known not to be on burner 1.
    assert engine.step("look") != untouched.step("look")
    assert engine.state_key() != untouched.state_key()


def test_puts_are_listed_in_their_place_of_the_alphabet_in_both_grammars():
    for put_grammar in ("move", "put"):
        engine = start(put_grammar=put_grammar)
        for command in ("go to cabinet 2", "open cabinet 2", "take mug 1 from cabinet 2", "go to microwave 1"):
            play(engine, command)
        play(engine, "open microwave 1")
        assert list(engine.admissible_commands()) == sorted(engine.admissible_commands())
        play(engine, "close microwave 1", "go to sidetable 1")
        listed = [c for c in engine.admissible_commands() if not c.startswith("go to")]
        put = "move mug 1 to sidetable 1" if put_grammar == "move" else "put mug 1 in/on sidetable 1"
        assert listed == ["examine mug 1", "examine sidetable 1", "help", "inventory", "look", put, "use desklamp 1"]


def test_cached_lists_of_commands_are_those_of_the_state():
    """The cache is shared by all engines of a game: compare with an engine whose game has never been played."""
    rng = random.Random(2)
    game = house()
    for walk in range(6):
        engine = start(game, put_grammar=("move", "put", None)[walk % 3])
        typed: list[str] = []
        for _ in range(40):
            fresh = start(house(), put_grammar=engine.put_grammar)
            for command in typed:
                fresh.step(command)
            assert engine.admissible_commands() == fresh.admissible_commands()
            typed.append(any_kind(rng, engine))
            engine.step(typed[-1])


def test_caches_start_anew_when_they_are_full(monkeypatch):
    monkeypatch.setattr(engine_module, "_COMMANDS_LIMIT", 4)
    engine = start()
    for name in engine.game.receptacle_names:
        engine.step(f"go to {name}")
        assert engine.admissible_commands()
        assert len(engine.game.commands) <= 4


def test_only_objects_that_can_be_prepared_count_for_a_goal():
    """A goal's masks leave out objects of the right type that lack the affordance."""
    can_not = tuple(
        fact for fact in facts() if fact not in (("cleanable", "apple_bar_1"), ("cleanable", "apple_bar_2"))
    )
    goal = Goal("pick_clean_then_place_in_recep", "appletype", "sidetabletype")
    dull = Game(GameDescription("dull", "task.", can_not, goal))
    assert dull.target_objects == 0
    engine = start(dull)
    play(
        engine,
        "go to countertop 1",
        "take apple 2 from countertop 1",
        "go to sidetable 1",
        "move apple 2 to sidetable 1",
    )
    assert engine.goal_condition_success_rate == 0.0
    no_switch = tuple(fact for fact in facts() if fact[0] != "toggleable")
    assert Game(GameDescription("dark", "task.", no_switch, GOALS[-1])).lamps == 0


def test_a_receptacle_typed_as_a_sink_cleans_whatever_its_name():
    typed = tuple(f if f[:2] != ("receptacletype", "sidetable_bar_1") else (*f[:2], "sinktype") for f in facts())
    engine = start(Game(GameDescription("odd", "task.", typed, PLACE_APPLE)))
    play(engine, "go to countertop 1", "take apple 2 from countertop 1", "go to sidetable 1")
    assert play(engine, "clean apple 2 with sidetable 1") == "You clean the apple 2 using the sidetable 1."
