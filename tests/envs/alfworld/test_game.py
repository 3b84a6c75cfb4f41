import pytest

from agentgym_prm.envs.alfworld.game import Game, GameDescription, bits, parse_problem
from agentgym_prm.envs.alfworld.goal import TASK_TYPES, Goal, format_goal, goal_share, parse_goal
from agentgym_prm.errors import GameFormatError
from tests.envs.alfworld.house import PLACE_APPLE, facts, house

PROBLEM = """
(define (problem p) (:domain alfred)
(:objects agent1 - agent Apple_bar_1 - object Shelf_bar_1 - receptacle)
(:init
    (atLocation agent1 loc_bar_0)
        (inReceptacle   Apple_bar_1
            Shelf_bar_1)
    (pickupable Apple_bar_1)
)
(:goal (and (exists (?r - receptacle) (exists (?o - object)
    (and (inReceptacle ?o ?r) (objectType ?o AppleType) (receptacleType ?r ShelfType)))))
)
)
"""


def test_facts_and_goal_are_read_in_lower_case_and_in_order():
    assert parse_problem(PROBLEM) == (
        (
            ("atlocation", "agent1", "loc_bar_0"),
            ("inreceptacle", "apple_bar_1", "shelf_bar_1"),
            ("pickupable", "apple_bar_1"),
        ),
        Goal("pick_and_place_simple", "appletype", "shelftype"),
    )


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (PROBLEM[: PROBLEM.index("(:goal")], r"needs \(:init …\) followed by \(:goal"),
        (PROBLEM[: PROBLEM.index("(receptacleType")], "the goal is cut off"),
        (PROBLEM.replace("pickupable", "edible"), r"fact \(edible Apple_bar_1\) has a predicate"),
        (PROBLEM.replace("(pickupable Apple_bar_1)", "(pickupable a b)"), r"needs 1 argument\(s\), got 2"),
        (PROBLEM.replace("(inReceptacle ?o ?r)", "(isSliced ?o)"), "none of the six known forms"),
    ],
)
def test_a_damaged_or_unknown_problem_is_refused_with_the_reason(problem, message):
    with pytest.raises(GameFormatError, match=message):
        parse_problem(problem)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_every_goal_form_is_read_back(task_type):
    lamp = task_type == "look_at_obj_in_light"
    goal = Goal(task_type, "mugtype", "" if lamp else "shelftype", "desklamptype" if lamp else "")
    assert parse_goal(format_goal(goal) + ")") == goal


def test_numbers_run_down_over_sorted_ids_and_basins_say_so():
    game = house()
    assert game.receptacle_names == (
        "cabinet 2",
        "cabinet 1",
        "countertop 1",
        "fridge 1",
        "microwave 1",
        "sidetable 1",
        "sinkbasin 1",
        "stoveburner 2",
        "stoveburner 1",
    )
    assert game.object_names[:2] == ("apple 2", "apple 1")


def test_masks_follow_the_facts():
    game = house()
    named = [game.object_names[o] for o in bits(game.sliceable)]
    assert named == ["apple 2", "apple 1"]
    assert [game.receptacle_names[r] for r in bits(game.openable)] == [
        "cabinet 2",
        "cabinet 1",
        "fridge 1",
        "microwave 1",
    ]
    assert [game.receptacle_names[r] for r in bits(game.sinks)] == ["sinkbasin 1"]
    assert [game.receptacle_names[r] for r in game.target_receptacles] == ["sidetable 1"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ((("receptacletype", "shelf_bar_1", "shelftype"),), "shelf_bar_1 needs both"),
        ((("receptacleatlocation", "fridge_bar_1", "loc_bar_9"),), "fridge_bar_1 has two values"),
        ((("atlocation", "agent1", "loc_bar_9"),), "exactly one atLocation, got 2"),
        ((("inreceptacle", "ghost_bar_1", "fridge_bar_1"),), "ghost_bar_1 fridge_bar_1: both need a type"),
    ],
)
def test_contradictory_facts_are_refused_by_name(extra, message):
    with pytest.raises(GameFormatError, match=message):
        Game(GameDescription("bad", "task.", facts(extra), PLACE_APPLE))


def test_goal_share_by_hand():
    shelf = [("objecttype", "a", "appletype"), ("objecttype", "b", "appletype"), ("receptacletype", "s", "shelftype")]
    shelf += [("heatable", "a"), ("heatable", "b")]
    heat = Goal("pick_heat_then_place_in_recep", "appletype", "shelftype")
    assert goal_share(heat, shelf) == 0.0
    # a is hot, b is in place: no single apple is both.
    assert goal_share(heat, [*shelf, ("ishot", "a"), ("inreceptacle", "b", "s")]) == 0.5
    assert goal_share(heat, [*shelf, ("ishot", "a"), ("inreceptacle", "a", "s")]) == 1.0
    two = Goal("pick_two_obj_and_place", "appletype", "shelftype")
    assert goal_share(two, [*shelf, ("inreceptacle", "a", "s")]) == 0.5
    assert goal_share(two, [*shelf, ("inreceptacle", "a", "s"), ("inreceptacle", "b", "s")]) == 1.0


def test_pick_two_counts_distinct_objects_in_one_receptacle():
    two = Goal("pick_two_obj_and_place", "appletype", "shelftype")
    apart = [
        ("objecttype", "a", "appletype"),
        ("objecttype", "b", "appletype"),
        ("receptacletype", "s", "shelftype"),
        ("receptacletype", "t", "shelftype"),
        ("inreceptacle", "a", "s"),
        ("inreceptacle", "b", "t"),
    ]
    assert goal_share(two, apart) == 0.5
    # One apple in two shelves is still one apple.
    assert goal_share(two, [*apart[:-1], ("inreceptacle", "a", "t")]) == 0.5
