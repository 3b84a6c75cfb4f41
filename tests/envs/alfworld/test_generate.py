"""The builtin games: what sets the splits apart, and that every game can be won."""

import hashlib
import random
import re
from collections import Counter, defaultdict
from dataclasses import astuple
from typing import Any

import pytest

from agentgym_prm.envs.alfworld import rooms
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.game import Fact, Game, GameDescription, bits
from agentgym_prm.envs.alfworld.generate import (
    DIFFICULTIES,
    SPLIT_SIZES,
    TRAIN_LAYOUTS,
    UNSEEN_LAYOUTS,
    Layout,
    _name_things,
    describe,
    layout,
    layouts,
)
from agentgym_prm.envs.alfworld.goal import TASK_TYPES, Goal

SPLITS = tuple(SPLIT_SIZES)
NUMBER = {"train": 1000, "valid_seen": 1000, "valid_unseen": 300}
"""How many games of each split are looked at."""
CASES = [(split, difficulty) for split in SPLITS for difficulty in DIFFICULTIES]
GAMES: defaultdict[tuple[str, str], list[GameDescription]] = defaultdict(list)
APPLIANCE = {"clean": "sinkbasin", "hot": "microwave", "cool": "fridge"}


def games(split: str, difficulty: str, number: int) -> list[GameDescription]:
    known = GAMES[split, difficulty]
    known.extend(describe(split, index, difficulty) for index in range(len(known), number))
    return known[:number]


TABLES: dict[str, dict[str, list[Any]]] = {}


def facts_by_predicate(description: GameDescription) -> dict[str, list[Any]]:
    table = TABLES.get(description.task_id)
    if table is None:
        table = TABLES[description.task_id] = defaultdict(list)
        for predicate, *arguments in description.facts:
            table[predicate].append(tuple(arguments))
    return table


def placements(description: GameDescription) -> list[tuple[str, str, str, str]]:
    """Object, its type, receptacle and its type, of all that lies in a receptacle at the start."""
    facts = facts_by_predicate(description)
    kinds = dict(facts["objecttype"]) | dict(facts["receptacletype"])
    return [(obj, kinds[obj], receptacle, kinds[receptacle]) for obj, receptacle in facts["inreceptacle"]]


def targets(description: GameDescription) -> list[tuple[str, str, str, str]]:
    return [place for place in placements(description) if place[1] == description.goal.object_type]


HELD_OUT = {
    (f"{kind.lower()}type", f"{place.lower()}type") for kind, places in rooms.HELD_OUT.items() for place in places
}


# --- the same everywhere ---


def digest(description: GameDescription) -> str:
    content = (description.task_id, description.task, description.facts, astuple(description.goal))
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


# Computed once on Python 3.11.7 and found equal on 3.12.1 and 3.13.0; a change means another VERSION.
GOLDEN = {
    ("train", 0, "small"): "4d7bf60ca16b80f3",
    ("train", 999, "small"): "abbbf004a75c91d2",
    ("train", 0, "full"): "347f1919bfa5e274",
    ("train", 999, "full"): "a111c2ffeb135be2",
    ("valid_seen", 0, "small"): "3427a46f37a2084b",
    ("valid_seen", 999, "small"): "b7ed4b9bb3575aba",
    ("valid_seen", 0, "full"): "6be9872c07c1671d",
    ("valid_seen", 999, "full"): "90155beed0244a21",
    ("valid_unseen", 0, "small"): "95ce03ed5922d476",
    ("valid_unseen", 999, "small"): "a92441e9a2b4c84c",
    ("valid_unseen", 0, "full"): "4466985910e60548",
    ("valid_unseen", 999, "full"): "ce8b733b903ebccc",
}


@pytest.mark.parametrize(("split", "index", "difficulty"), GOLDEN)
def test_games_are_the_same_on_every_python_and_in_every_process(split: str, index: int, difficulty: str) -> None:
    assert digest(describe(split, index, difficulty)) == GOLDEN[split, index, difficulty]


def test_a_game_does_not_depend_on_the_games_described_before_it() -> None:
    first = describe("train", 7, "small")
    for index in range(20):
        describe("valid_seen", index, "small")
    assert describe("train", 7, "small") == first


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_no_two_games_have_the_same_facts(difficulty: str) -> None:
    described = [game for split in SPLITS for game in games(split, difficulty, NUMBER[split])]
    assert len({game.facts for game in described}) == sum(NUMBER.values())


def test_splits_have_the_stated_sizes() -> None:
    assert dict(SPLIT_SIZES) == {"train": 10_000, "valid_seen": 1_000, "valid_unseen": 1_000}
    for split, size in SPLIT_SIZES.items():
        assert describe(split, size - 1, "small").task_id.startswith(f"builtin-small/{split}/{size - 1:06d}/")
        with pytest.raises(ValueError, match=rf"index must be in \[0, {size}\) for split '{split}', got {size}"):
            describe(split, size, "small")
        with pytest.raises(ValueError, match="got -1"):
            describe(split, -1, "small")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown split 'valid_unsen'.*'valid_unseen'"):
        describe("valid_unsen", 0, "small")
    with pytest.raises(ValueError, match=r"unknown difficulty 'smal'.*'small'"):
        describe("train", 0, "smal")


# --- tasks ---


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_every_block_of_six_games_has_all_task_types(split: str, difficulty: str) -> None:
    types = [game.goal.task_type for game in games(split, difficulty, 60)]
    for start in range(0, 60, 6):
        assert sorted(types[start : start + 6]) == sorted(TASK_TYPES)
    assert types[:6] != types[6:12] or types[:6] != types[12:18], "the order within a block should vary"


def test_task_sentences_are_the_benchmarks() -> None:
    wordings: dict[str, set[str]] = defaultdict(set)
    for game in games("train", "small", 240):
        goal = game.goal
        obj, recep, lamp = (
            name.removesuffix("type") for name in (goal.object_type, goal.receptacle_type, goal.lamp_type)
        )
        # Longest first, because a toiletpaperhanger holds a toiletpaper.
        wording = game.task
        for name, stand_in in sorted(((obj, "O"), (recep, "R"), (lamp, "L")), key=lambda pair: -len(pair[0])):
            wording = re.sub(rf"\b{name}\b", stand_in, wording) if name else wording
        wordings[goal.task_type].add(wording)
    assert wordings == {
        "pick_and_place_simple": {"put a O in R.", "put some O on R."},
        "look_at_obj_in_light": {"look at O under the L.", "examine the O with the L."},
        "pick_clean_then_place_in_recep": {"put a clean O in R.", "clean some O and put it in R."},
        "pick_heat_then_place_in_recep": {"put a hot O in R.", "heat some O and put it in R."},
        "pick_cool_then_place_in_recep": {"put a cool O in R.", "cool some O and put it in R."},
        "pick_two_obj_and_place": {"put two O in R.", "find two O and put them in R."},
    }


def test_task_ids_name_what_the_goal_asks_for() -> None:
    for game in games("valid_unseen", "full", 60):
        goal = game.goal
        prefix, kind, destination = game.task_id.rsplit("-", 2)
        assert prefix.endswith(goal.task_type)
        assert f"{kind}type".lower() == goal.object_type
        assert f"{destination}type".lower() == goal.receptacle_type or goal.lamp_type


# --- what sets the splits apart ---


def kind_counts(room: Layout) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((kind, len(group)) for kind, group in room.by_kind.items()))


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_unseen_layouts_have_other_numbers_of_receptacles_than_any_train_layout(difficulty: str) -> None:
    train, unseen = layouts("train", difficulty), layouts("valid_unseen", difficulty)
    assert layouts("valid_seen", difficulty) == train
    assert (len(train), len(unseen)) == (4 * TRAIN_LAYOUTS, 4 * UNSEEN_LAYOUTS)
    assert not {kind_counts(room) for room in train} & {kind_counts(room) for room in unseen}
    assert layout("bathroom", difficulty, TRAIN_LAYOUTS) in unseen


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_games_take_place_in_the_layouts_of_their_split(split: str, difficulty: str) -> None:
    known = {frozenset((r.entity, r.location) for r in room.receptacles) for room in layouts(split, difficulty)}
    played = {
        frozenset(facts_by_predicate(game)["receptacleatlocation"]) for game in games(split, difficulty, NUMBER[split])
    }
    assert played <= known
    # Half of the games are in kitchens, and yet most of the 160 (unseen: 80) layouts are met.
    assert len(played) > 0.7 * len(known)


@pytest.mark.parametrize("split", ["train", "valid_seen"])
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_held_out_pairs_are_never_met_before_valid_unseen(split: str, difficulty: str) -> None:
    pairs = {
        (kind, place) for game in games(split, difficulty, NUMBER[split]) for _, kind, _, place in placements(game)
    }
    assert len(pairs) > 150
    assert not pairs & HELD_OUT


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_goal_objects_of_valid_unseen_all_start_on_held_out_pairs(difficulty: str) -> None:
    for game in games("valid_unseen", difficulty, NUMBER["valid_unseen"]):
        assert len(targets(game)) >= game.goal.count
        assert {(kind, place) for _, kind, _, place in targets(game)} <= HELD_OUT, game.task_id


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_no_goal_asks_for_a_held_out_pair(split: str, difficulty: str) -> None:
    goals = {(game.goal.object_type, game.goal.receptacle_type) for game in games(split, difficulty, NUMBER[split])}
    assert not goals & HELD_OUT


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_valid_seen_repeats_no_combination_of_layout_goal_and_start_receptacles(difficulty: str) -> None:
    def combination(game: GameDescription) -> tuple[frozenset[Fact], Goal, tuple[str, ...]]:
        room = frozenset(facts_by_predicate(game)["receptacleatlocation"])
        return room, game.goal, tuple(sorted(receptacle for _, _, receptacle, _ in targets(game)))

    train = {combination(game) for game in games("train", difficulty, 1000)}
    seen = {combination(game) for game in games("valid_seen", difficulty, 1000)}
    assert not train & seen
    # Not by chance: small rooms have so few combinations that other games of train share some with these.
    if difficulty == "small":
        assert train & {combination(describe("train", index, difficulty)) for index in range(1000, 2000)}


# --- every game can be won ---


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_goals_do_not_hold_at_the_start(split: str, difficulty: str) -> None:
    for game in games(split, difficulty, NUMBER[split]):
        assert all(place != game.goal.receptacle_type for *_, place in targets(game)), game.task_id
        assert not facts_by_predicate(game).keys() & {"istoggled", "isclean", "ishot", "iscool", "opened"}


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_rooms_have_what_their_goals_need(split: str, difficulty: str) -> None:
    for game in games(split, difficulty, 150):
        facts, goal = facts_by_predicate(game), game.goal
        kinds = {kind for _, kind in facts["receptacletype"]}
        if goal.lamp_type:
            lamps = {obj for obj, kind, _, _ in placements(game) if kind == goal.lamp_type}
            assert lamps & {obj for (obj,) in facts["toggleable"]}, game.task_id
            assert kinds & {"bedtype", "sofatype"}, f"{game.task_id}: neither a bedroom nor a living room"
            continue
        assert goal.receptacle_type in kinds
        assert (goal.receptacle_type, goal.object_type) in facts["cancontain"]
        if goal.condition:
            assert f"{APPLIANCE[goal.condition]}type" in kinds


def straight_plan(game: Game) -> list[str]:
    """Fetch, treat and place each target in turn, opening every door on the way."""
    goal, commands = game.goal, []
    doors = {game.receptacle_names[r] for r in bits(game.openable)}

    def go(place: str) -> None:
        commands.append(f"go to {place}")
        if place in doors:
            commands.append(f"open {place}")

    def where(obj: int) -> str:
        (receptacle,) = (r for r, mask in enumerate(game.start_contents) if mask >> obj & 1)
        return game.receptacle_names[receptacle]

    for obj in list(bits(game.target_objects & game.pickupable))[: goal.count]:
        name = game.object_names[obj]
        go(where(obj))
        commands.append(f"take {name} from {where(obj)}")
        if goal.lamp_type:
            lamp = next(bits(game.lamps))
            go(where(lamp))
            commands.append(f"use {game.object_names[lamp]}")
            continue
        if goal.condition:
            appliance = next(n for n in game.receptacle_names if n.startswith(APPLIANCE[goal.condition]))
            verb = {"hot": "heat"}.get(goal.condition, goal.condition)
            go(appliance)
            commands.append(f"{verb} {name} with {appliance}")
        destination = game.receptacle_names[game.target_receptacles[0]]
        go(destination)
        commands.append(f"move {name} to {destination}")
    return commands


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_a_straight_plan_wins(split: str, difficulty: str) -> None:
    engine = Engine()
    for description in games(split, difficulty, 150):
        game = Game(description)
        engine.reset(game)
        assert not engine.won
        for command in straight_plan(game):
            assert not engine.won
            engine.step(command)
        assert engine.won, description.task_id


# --- what is in a game ---


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_ids_are_unique_and_in_the_benchmarks_form(split: str, difficulty: str) -> None:
    number = r"_bar__(plus|minus)_\d\d_dot_\d\d"
    entity = re.compile(rf"[a-z]+({number}){{3}}(_bar_(sink|bathtub)basin)?")
    place = re.compile(r"loc(_bar_(_minus_)?\d+){4}")
    for game in games(split, difficulty, 100):
        facts = facts_by_predicate(game)
        ids = [thing for thing, _ in facts["objecttype"] + facts["receptacletype"]]
        assert len(set(ids)) == len(ids)
        assert all(entity.fullmatch(name) for name in ids)
        assert all(place.fullmatch(name) for _, name in facts["objectatlocation"] + facts["receptacleatlocation"])
        assert all(("basin" in thing) == ("basin" in kind) for thing, kind in facts["receptacletype"])
        assert len(set(game.facts)) == len(game.facts)


@pytest.mark.parametrize(("split", "difficulty"), CASES)
def test_agents_start_away_from_all_receptacles(split: str, difficulty: str) -> None:
    for game in games(split, difficulty, 100):
        facts = facts_by_predicate(game)
        ((agent, start),) = facts["atlocation"]
        assert agent == "agent1"
        assert start not in {location for _, location in facts["receptacleatlocation"]}


def test_small_games_are_small() -> None:
    for split in SPLITS:
        for game in games(split, "small", NUMBER[split]):
            facts = facts_by_predicate(game)
            locations = [location for _, location in facts["receptacleatlocation"]]
            assert 5 <= len(locations) <= 8
            assert len(set(locations)) == len(locations)
            assert 6 <= len(facts["objecttype"]) <= 12
            assert len(facts["openable"]) <= 2
            assert len(facts["inreceptacle"]) == len(facts["objecttype"])


def test_full_games_are_as_large_as_the_benchmarks() -> None:
    # The benchmark's rooms: kitchens of 20-54 receptacles with 38-73 objects, the others 6-35 with 17-48.
    receptacles: dict[bool, list[int]] = defaultdict(list)
    objects: dict[bool, list[int]] = defaultdict(list)
    shared = 0
    for game in games("train", "full", 1000):
        facts = facts_by_predicate(game)
        kitchen = any(kind == "fridgetype" for _, kind in facts["receptacletype"])
        receptacles[kitchen].append(len(facts["receptacletype"]))
        objects[kitchen].append(len(facts["objecttype"]))
        shared += len({location for _, location in facts["receptacleatlocation"]}) < len(facts["receptacletype"])
        assert len(facts["inreceptacle"]) < len(facts["objecttype"]), "something stands on the floor"
    assert (min(receptacles[True]), max(receptacles[True])) == (24, 45)
    assert 8 <= min(receptacles[False]) <= max(receptacles[False]) <= 30
    assert 35 <= min(objects[True]) <= max(objects[True]) <= 75
    assert 15 <= min(objects[False]) <= max(objects[False]) <= 50
    assert shared > 500


def test_a_crowded_place_loses_no_object() -> None:
    # 1,681 places to lie at: of 300 apples about 26 are drawn on top of another and have to be drawn again.
    room = layout("kitchen", "small", 0)
    (sink,) = room.by_kind["SinkBasin"]
    things = _name_things(random.Random(0), room, [("Apple", sink)] * 300, plumbing=False)
    assert len({thing.entity for thing in things}) == 300


def test_objects_lie_at_the_location_of_their_receptacle() -> None:
    for game in games("valid_unseen", "full", 100):
        facts = facts_by_predicate(game)
        at = dict(facts["objectatlocation"])
        places = dict(facts["receptacleatlocation"])
        assert at.keys() == dict(facts["objecttype"]).keys()
        assert all(at[obj] == places[receptacle] for obj, receptacle in facts["inreceptacle"])


# --- the tables ---


def test_objects_only_lie_where_they_may_be_put() -> None:
    takeable = set(rooms.AFFORDANCES["pickupable"])
    fittings = {"DeskLamp", "HousePlant", "Television", "PaperTowelRoll", "TeddyBear"}
    for kind in rooms.PLACES:
        for place in [*rooms.PLACES[kind], *rooms.HELD_OUT[kind]]:
            assert kind in rooms.ACCEPTS[place] or kind in fittings, (kind, place)
        assert not rooms.PLACES[kind].keys() & rooms.HELD_OUT[kind].keys()
    # A paper towel roll or a teddy bear can be taken but put nowhere, as in the benchmark: neither is ever a target.
    targets_anywhere = {kind for room in rooms.ROOMS.values() for kind in room.common + room.rare}
    assert fittings & targets_anywhere == {"DeskLamp"}
    assert targets_anywhere - {"DeskLamp"} <= takeable


@pytest.mark.parametrize("room", rooms.ROOMS)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_target_classes_have_train_and_held_out_places_in_each_of_their_rooms(room: str, difficulty: str) -> None:
    present = rooms.ROOMS[room].sizes[difficulty].counts
    for kind in rooms.ROOMS[room].common + rooms.ROOMS[room].rare:
        if kind != rooms.LAMP:
            assert len(rooms.PLACES[kind]) >= 2
            assert rooms.PLACES[kind].keys() & present.keys(), kind
            assert rooms.HELD_OUT[kind].keys() & present.keys(), kind


def test_goals_are_varied() -> None:
    goals = Counter(game.goal for game in games("train", "full", 1000))
    assert len(goals) > 400
    assert max(goals.values()) < 25
