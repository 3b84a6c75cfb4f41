import json
import random
from dataclasses import replace

import pytest

from agentgym_prm.envs.alfworld import handcoded, priors
from agentgym_prm.envs.alfworld.dialect import Dialect
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.files import open_games
from agentgym_prm.envs.alfworld.game import Game
from agentgym_prm.envs.alfworld.handcoded import HandcodedExpert
from agentgym_prm.envs.alfworld.planner import plan
from tests.envs.alfworld.house import house

ROOM = ("bed 1", "desk 1", "drawer 1", "drawer 2", "fridge 1", "microwave 1", "shelf 1", "shelf 2", "sinkbasin 1")
NOTHING = "Nothing happens."


def at(*here: str, offers: tuple[str, ...] = (), held: str = "") -> tuple[str, ...]:
    """What can be done in ``ROOM`` before the receptacles ``here``, as the game lists it."""
    commands = {f"go to {name}" for name in ROOM if name not in here} | {f"examine {name}" for name in here}
    return tuple(sorted({*commands, *offers, *([f"examine {held}"] if held else []), "help", "inventory", "look"}))


def told(task: str, *answers: tuple[str, tuple[str, ...]]) -> HandcodedExpert:
    """An expert in ``ROOM`` that has been told so much; it hears a command that it must not depend on."""
    expert = HandcodedExpert()
    expert.begin(task, "You are in the middle of a room.", at())
    for observation, admissible in answers:
        expert.observe("(what was typed)", observation, admissible)
    return expert


@pytest.fixture
def use_priors(monkeypatch):
    """Lets the expert believe in a table written by hand."""

    def forget() -> None:
        handcoded.expected.cache_clear()
        handcoded._density.cache_clear()

    def use(table: priors.Priors) -> None:
        monkeypatch.setattr(priors, "placement_priors", lambda: table)
        forget()

    yield use
    forget()


def test_a_door_costs_a_step(use_priors):
    # 5 % of the mean are added: 1 - exp(-0.63) = 0.467 and 1 - exp(-0.945) = 0.611. Of two surfaces the likelier comes
    # first; behind a door it takes 2 / 0.611 = 3.3 steps to be expected, against 1 / 0.467 = 2.1.
    use_priors({"apple": {"desk": 0.6, "shelf": 0.9}})
    assert told("put a apple in bed.").choose() == "go to shelf 1"
    use_priors({"apple": {"desk": 0.6, "fridge": 0.9}})
    assert told("put a apple in bed.").choose() == "go to desk 1"


def test_steps_from_there_to_the_goal_count(use_priors):
    # An apple is surely on the desk and in the microwave. Desk: 1 step to look, then 4 (way, heat, way, put) make 5;
    # microwave: 2 steps to look, then 3 (heat, way, put) make 5 too. So the slightly surer one is first, door or not.
    use_priors({"apple": {"desk": 6.0, "microwave": 7.0}})
    assert told("put a hot apple in bed.").choose() == "go to microwave 1"
    use_priors({"apple": {"desk": 7.0, "microwave": 6.0}})
    assert told("put a hot apple in bed.").choose() == "go to desk 1"


def test_receptacles_of_one_class_are_searched_in_natural_order_each_once():
    expert = told("put a pencil in bed.")
    expert.begin("put a pencil in bed.", "", [f"go to drawer {number}" for number in (10, 9, 2)])
    assert expert.choose() == "go to drawer 2"
    expert.observe("", "On the drawer 2, you see nothing.", ["examine drawer 2", "go to drawer 10", "go to drawer 9"])
    assert expert.choose() == "go to drawer 9"


def test_every_receptacle_is_looked_into_before_it_gives_up():
    room = [*(f"drawer {number}" for number in range(1, 4)), "hammock 1", "sinkbasin 1", "toaster 1"]
    expert, looked_into, here, opened = HandcodedExpert(), [], "", set()
    # A pillow is heard of in none of these, and nobody ever heard of a hammock.
    expert.begin("put a pillow in sofa.", "", [f"go to {name}" for name in room])
    for _ in range(9):
        command = expert.choose()
        if command.startswith("go to "):
            here = command.removeprefix("go to ")
        else:
            assert command == f"open {here}"
            opened.add(here)
        shut = here.startswith("drawer") and here not in opened
        seen = f"The {here} is closed." if shut else f"On the {here}, you see nothing."
        looked_into += [] if shut else [here]
        listed = [f"open {here}"] if shut else []
        expert.observe(command, seen, ["look", f"examine {here}", *listed, *(f"go to {r}" for r in room if r != here)])
    assert sorted(looked_into) == sorted(room)
    assert expert.choose() == "look"


def test_where_nothing_is_known_of_the_object_fuller_receptacles_come_first(use_priors):
    use_priors({"apple": {"desk": 0.0, "shelf": 0.0}, "pen": {"shelf": 1.0}})
    assert told("put a apple in bed.").choose() == "go to shelf 1"


def test_object_and_lamp_are_searched_together(use_priors):
    use_priors({"book": {"bed": 0.4, "desk": 0.3}, "desklamp": {"desk": 0.5}})
    assert told("examine the book with the desklamp.").choose() == "go to desk 1"  # on the bed the book is likelier


def test_of_two_objects_in_sight_the_one_with_less_left_to_do_is_fetched():
    # From the bed: go, take, go to the fridge, cool, go, put; from the open fridge: go, take, cool, go, put.
    fridge = at("fridge 1", offers=("close fridge 1", "take mug 2 from fridge 1"))
    expert = told(
        "put a cool mug in desk.",
        ("You open the fridge 1. The fridge 1 is open. In it, you see a mug 2.", fridge),
        ("You arrive at bed 1. On the bed 1, you see a mug 1.", at("bed 1", offers=("take mug 1 from bed 1",))),
        ("You arrive at shelf 1. On the shelf 1, you see nothing.", at("shelf 1")),
    )
    assert expert.choose() == "go to fridge 1"


def test_of_two_objects_in_sight_the_one_beside_the_goal_is_fetched():
    desk = at("desk 1", "shelf 1", offers=("take pen 2 from shelf 1",))
    expert = told(
        "put a pen in desk.",
        ("You arrive at desk 1. On the desk 1, you see nothing.", desk),
        ("You arrive at bed 1. On the bed 1, you see a pen 1.", at("bed 1", offers=("take pen 1 from bed 1",))),
        ("You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing.", at("sinkbasin 1")),
    )
    assert expert.choose() == "go to shelf 1"


def test_an_object_that_somebody_carried_off_is_fetched_from_where_it_is_now():
    expert = told(
        "put a pen in desk.",
        ("You arrive at bed 1. On the bed 1, you see a pen 1.", at("bed 1", offers=("take pen 1 from bed 1",))),
        ("You pick up the pen 1 from the bed 1.", at("bed 1", offers=("move pen 1 to bed 1",), held="pen 1")),
        ("You move the pen 1 to the shelf 2.", at("shelf 2", offers=("take pen 1 from shelf 2",))),
        ("You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing.", at("sinkbasin 1")),
    )
    assert expert.choose() == "go to shelf 2"


def test_an_object_that_cannot_be_prepared_is_put_down():
    offers = ("open microwave 1",)
    expert = told(
        "put a hot cup in desk.", ("You arrive at microwave 1.", at("microwave 1", offers=offers, held="cup 1"))
    )
    expert.observe(
        "", "You open the microwave 1.", at("microwave 1", offers=("move cup 1 to microwave 1",), held="cup 1")
    )
    assert expert.choose() == "move cup 1 to microwave 1"


HEAT_EPISODE = [
    # A whole game by hand: what is said to the expert, and what it has to answer.
    ("You are in the middle of a room.", at(), "go to fridge 1"),
    ("You arrive at fridge 1. The fridge 1 is closed.", at("fridge 1", offers=("open fridge 1",)), "open fridge 1"),
    (
        "You open the fridge 1. The fridge 1 is open. In it, you see a apple 2, and a egg 1.",
        at("fridge 1", offers=("close fridge 1", "take apple 2 from fridge 1", "take egg 1 from fridge 1")),
        "take egg 1 from fridge 1",
    ),
    (
        "You pick up the egg 1 from the fridge 1.",
        at("fridge 1", offers=("close fridge 1", "cool egg 1 with fridge 1", "move egg 1 to fridge 1"), held="egg 1"),
        "go to microwave 1",
    ),
    (
        "You arrive at microwave 1. The microwave 1 is closed.",
        at("microwave 1", offers=("heat egg 1 with microwave 1", "open microwave 1"), held="egg 1"),
        "heat egg 1 with microwave 1",
    ),
    (
        "You heat the egg 1 using the microwave 1.",
        at("microwave 1", offers=("heat egg 1 with microwave 1", "open microwave 1"), held="egg 1"),
        "go to desk 1",
    ),
    (
        "You arrive at desk 1. On the desk 1, you see nothing.",
        at("desk 1", offers=("move egg 1 to desk 1",), held="egg 1"),
        "move egg 1 to desk 1",
    ),
]


def test_a_whole_episode(use_priors):
    use_priors({"egg": {"fridge": 0.9, "shelf": 0.1}})
    expert = HandcodedExpert()
    (opening, admissible, first), *turns = HEAT_EPISODE
    expert.begin("heat some egg and put it in desk.", opening, admissible)
    commands = [expert.choose()]
    for observation, admissible, _ in turns:
        expert.observe(commands[-1], observation, admissible)
        commands.append(expert.choose())
        assert expert.choose() == commands[-1]
    assert commands == [first, *(command for _, _, command in turns)]


def test_the_older_release_is_understood():
    # It names locations, not receptacles, on arrival, and puts instead of moving.
    expert = told(
        "put some pen on desk.",
        ("You arrive at loc 12. On the shelf 2, you see a pen 3.", at("shelf 2", offers=("take pen 3 from shelf 2",))),
    )
    assert expert.choose() == "take pen 3 from shelf 2"
    expert.observe("", "You pick up the pen 3 from the shelf 2.", at("shelf 2", held="pen 3"))
    put = at("desk 1", offers=("put pen 3 in/on desk 1",), held="pen 3")
    expert.observe("", "You arrive at loc 3. On the desk 1, you see nothing.", put)
    assert expert.choose() == "put pen 3 in/on desk 1"


def test_what_shares_the_place_is_handled_without_going_there():
    # Both shelves are here: the pen of the other one is offered though no text has named it.
    here = at("shelf 1", "shelf 2", offers=("take pen 1 from shelf 2",))
    expert = told("put a pen in desk.", ("You arrive at shelf 1. On the shelf 1, you see nothing.", here))
    assert expert.choose() == "take pen 1 from shelf 2"


def test_a_door_that_somebody_closed_again_is_opened_again():
    shut = at("drawer 1", offers=("open drawer 1",))
    expert = told(
        "put a pen in desk.",
        (
            "You open the drawer 1. The drawer 1 is open. In it, you see a pen 1.",
            at("drawer 1", offers=("close drawer 1", "take pen 1 from drawer 1")),
        ),
        ("You close the drawer 1.", shut),
    )
    assert expert.choose() == "open drawer 1"
    expert.observe("dance", NOTHING, shut)
    assert expert.choose() == "open drawer 1"


def test_a_thing_of_no_use_is_put_down_first():
    held = ("You pick up the book 1 from the bed 1.", at("bed 1", offers=("move book 1 to bed 1",), held="book 1"))
    assert told("put a pen in desk.", held).choose() == "move book 1 to bed 1"


def test_a_thing_of_no_use_is_carried_to_what_takes_such_things(use_priors):
    use_priors({"pen": {"shelf": 0.9}, "book": {"desk": 0.1, "drawer": 0.5, "shelf": 0.5}})
    expert = told(
        "put a pen in bed.",
        ("You arrive at shelf 1. On the shelf 1, you see a pen 1.", at("shelf 1", "shelf 2", held="book 1")),
        ("You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing.", at("sinkbasin 1", held="book 1")),
    )
    # The shelves did not offer to take the book, of bed or sink nobody has heard, and a drawer has to be opened.
    assert expert.choose() == "go to desk 1"


def test_what_was_heated_and_cooled_again_is_heated_again():
    at_microwave = at("microwave 1", offers=("heat mug 1 with microwave 1", "open microwave 1"), held="mug 1")
    at_fridge = at("fridge 1", offers=("cool mug 1 with fridge 1", "open fridge 1"), held="mug 1")
    expert = told("put a hot mug in desk.", ("You heat the mug 1 using the microwave 1.", at_microwave))
    assert expert.choose() == "go to desk 1"
    expert.observe("", "You cool the mug 1 using the fridge 1.", at_fridge)
    assert expert.choose() == "go to microwave 1"


@pytest.mark.parametrize(
    ("task", "description", "command"),
    [
        ("put a cool mug in desk.", "This is a cold mug 1.", "go to desk 1"),
        ("put a cool mug in desk.", "This is a cool and clean mug 1.", "go to desk 1"),
        ("put a clean mug in desk.", "This is a hot and clean sliced mug 1.", "go to desk 1"),
        ("put a hot mug in desk.", "This is a cool and clean mug 1.", "go to microwave 1"),
        ("put a hot mug in desk.", "There's nothing special about mug 1.", "go to microwave 1"),
    ],
)
def test_the_state_of_a_thing_is_read_off_its_description(task, description, command):
    assert told(task, (description, at("bed 1", held="mug 1"))).choose() == command


def test_the_second_of_two_joins_the_first():
    pen_in_hand = at("bed 1", offers=("move pen 2 to bed 1",), held="pen 2")
    expert = told(
        "put two pen in shelf.",
        ("You move the pen 1 to the shelf 2.", at("shelf 2", offers=("take pen 1 from shelf 2",))),
        ("You pick up the pen 2 from the bed 1.", pen_in_hand),
    )
    assert expert.choose() == "go to shelf 2"  # shelf 1 would be first by name


def test_the_first_of_two_is_left_where_it_is():
    offers = ("take pen 1 from shelf 1",)
    expert = told("put two pen in shelf.", ("You move the pen 1 to the shelf 1.", at("shelf 1", offers=offers)))
    assert expert.choose().startswith("go to ")
    # Taken away again by somebody, it is brought back.
    lifted = at("shelf 1", offers=("move pen 1 to shelf 1",), held="pen 1")
    expert.observe("", "You pick up the pen 1 from the shelf 1.", lifted)
    assert expert.choose() == "move pen 1 to shelf 1"


def test_a_lamp_that_was_passed_by_is_remembered():
    expert = told(
        "look at book under the desklamp.",
        ("You arrive at shelf 1. On the shelf 1, you see a desklamp 1.", at("shelf 1", offers=("use desklamp 1",))),
        ("You pick up the book 1 from the bed 1.", at("bed 1", held="book 1")),
    )
    assert expert.choose() == "go to shelf 1"
    expert.observe("", "You arrive at shelf 1.", at("shelf 1", offers=("use desklamp 1",), held="book 1"))
    assert expert.choose() == "use desklamp 1"


def test_a_bathtub_serves_for_cleaning_where_there_is_no_sink():
    expert = HandcodedExpert()
    commands = ["go to bathtubbasin 1", "go to shelf 1", "examine bed 1"]
    expert.begin("put a clean cloth in shelf.", "You are facing the bed 1. Next to it, you see nothing.", commands)
    expert.observe("", "You pick up the cloth 1 from the bed 1.", [*commands, "examine cloth 1"])
    assert expert.choose() == "go to bathtubbasin 1"
    offered = ["clean cloth 1 with bathtubbasin 1", "move cloth 1 to bathtubbasin 1"]
    commands = ["go to shelf 1", "go to bed 1", "examine bathtubbasin 1", "examine cloth 1", *offered]
    expert.observe("", "You arrive at bathtubbasin 1. On the bathtubbasin 1, you see nothing.", commands)
    assert expert.choose() == "clean cloth 1 with bathtubbasin 1"


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="slice the apple"):
        told("slice the apple")


# --- priors ---


def test_placements_are_counted_over_rooms_that_have_both_classes():
    # The house has two cabinets with one mug, one fridge and one countertop with an apple each, a knife beside one of
    # them. Mugs may stand on the countertop and do not; nothing else may be in a cabinet.
    table = priors.count_placements([house(), house()])
    assert table["mug"]["cabinet"] == 0.5
    assert (table["apple"]["countertop"], table["apple"]["fridge"], table["knife"]["countertop"]) == (1, 1, 1)
    assert table["mug"]["countertop"] == 0
    assert "cabinet" not in table["apple"]


def test_the_priors_that_come_with_the_package_are_known_placements():
    table = priors.placement_priors()
    assert table["pillow"]["bed"] > 1 > table["pillow"]["sofa"] > 0
    assert table["egg"]["fridge"] > table["egg"]["garbagecan"]
    assert "bed" not in table["egg"]
    with pytest.raises(TypeError):
        table["egg"]["fridge"] = 0.0


def test_recounting_writes_the_same_layout(data_folder, tmp_path):
    seen = data_folder / "alfworld" / "valid_seen.jsonl.xz"
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / "train.jsonl.xz").symlink_to(seen)
    priors.main([str(tmp_path / "games"), "--output", str(tmp_path / "priors.json")])
    table = json.loads((tmp_path / "priors.json").read_text())
    # Counted in the 140 games themselves by another way: all mugs in all coffee machines of games with both.
    games = open_games(str(seen), "valid_seen", "full")
    mugs = machines = 0
    for index in range(len(games)):
        facts = games.describe(index).facts
        is_mug = {fact[1] for fact in facts if fact[0] == "objecttype" and fact[2] == "mugtype"}
        is_machine = {fact[1] for fact in facts if fact[0] == "receptacletype" and fact[2] == "coffeemachinetype"}
        if is_mug:
            machines += len(is_machine)
            mugs += sum(f[0] == "inreceptacle" and f[1] in is_mug and f[2] in is_machine for f in facts)
    assert table["mug"]["coffeemachine"] == pytest.approx(mugs / machines, rel=5e-3)  # three digits are kept


# --- real games ---


def steps_to_win(game: Game, noise: int = 0, seed: int = 0, cap: int = 50) -> int | None:
    """Steps that the expert takes after ``noise`` random ones; ``None`` if it has not won by the cap."""
    engine, expert, draws = Engine(), HandcodedExpert(), random.Random(seed)
    expert.begin(game.task, engine.reset(game), engine.admissible_commands())
    for step in range(-noise, cap):
        if engine.won:
            return max(step, 0)
        admissible = engine.admissible_commands()
        command = draws.choice(admissible) if step < 0 else expert.choose()
        assert command in admissible
        expert.observe(command, engine.step(command), engine.admissible_commands())
    return cap if engine.won else None


@pytest.fixture(scope="module")
def seen_games(data_folder) -> list[Game]:
    games = open_games(str(data_folder / "alfworld"), "valid_seen", "full")
    return [games.game(index) for index in range(len(games))]


def test_official_games_are_won_quickly(seen_games):
    steps = [steps_to_win(game) for game in seen_games]
    assert len(steps) == 140
    assert None not in steps
    assert sum(number <= 20 for number in steps) >= 0.98 * len(steps)
    assert sum(steps) / len(steps) < 7.4


def test_wrong_priors_cost_steps(seen_games, use_priors):
    informed = sum(steps_to_win(game) or 50 for game in seen_games)
    # The same numbers, each object class with those of the next in the alphabet.
    table = priors.placement_priors()
    use_priors(dict(zip(table, [*list(table.values())[1:], table["alarmclock"]], strict=True)))
    assert sum(steps_to_win(game) or 50 for game in seen_games) > 1.3 * informed


def test_it_goes_on_from_where_another_agent_has_got_to(seen_games):
    for seed, game in enumerate(seen_games):
        assert steps_to_win(game, noise=10, seed=seed) is not None


def test_both_releases_are_played_alike(data_folder):
    games = open_games(str(data_folder / "alfworld"), "valid_seen", "full")
    for index in range(0, len(games), 4):
        description = games.describe(index)
        older = replace(description, dialect=Dialect("put", arrival_names_location=True, has_help=False))
        assert steps_to_win(Game(older)) == steps_to_win(Game(description))


@pytest.mark.parametrize("difficulty", ["small", "full"])
@pytest.mark.parametrize("split", ["valid_seen", "valid_unseen"])
def test_builtin_games_are_won(split, difficulty):
    games = open_games("builtin", split, difficulty)
    steps = [steps_to_win(games.game(index)) for index in range(60)]
    # A full room can have more drawers and cabinets than 50 steps can open.
    assert sum(number is not None for number in steps) >= (60 if difficulty == "small" else 57)


def test_only_hopeless_builtin_games_are_lost_after_random_steps():
    games = open_games("builtin", "valid_unseen", "small")
    for index in range(100):
        game, draws = games.game(index), random.Random(index)
        if steps_to_win(game, noise=10, seed=index) is None:
            engine = Engine()
            engine.reset(game)
            for _ in range(10):
                engine.step(draws.choice(engine.admissible_commands()))
            assert plan(engine) is None  # the hand holds what no receptacle takes
