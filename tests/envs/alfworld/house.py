"""A household written by hand, small enough to know every answer: used by the tests of engine, planner and files.

Ids sort as written in each list, so numbers run downwards: of two apples the first listed is "apple 2".
"""

from agentgym_prm.envs.alfworld.dialect import CURRENT, Dialect
from agentgym_prm.envs.alfworld.game import Fact, Game, GameDescription
from agentgym_prm.envs.alfworld.goal import Goal

RECEPTACLES = {
    "cabinet_bar_1": ("cabinettype", "loc_bar_1"),
    "cabinet_bar_2": ("cabinettype", "loc_bar_2"),
    "countertop_bar_1": ("countertoptype", "loc_bar_3"),
    "fridge_bar_1": ("fridgetype", "loc_bar_4"),
    "microwave_bar_1": ("microwavetype", "loc_bar_5"),
    "sidetable_bar_1": ("sidetabletype", "loc_bar_6"),
    "sink_bar_1_bar_sinkbasin": ("sinkbasintype", "loc_bar_7"),
    # Two burners at one place.
    "stoveburner_bar_1": ("stoveburnertype", "loc_bar_8"),
    "stoveburner_bar_2": ("stoveburnertype", "loc_bar_8"),
}
OPENABLE = ("cabinet_bar_1", "cabinet_bar_2", "fridge_bar_1", "microwave_bar_1")
OBJECTS = {
    "apple_bar_1": ("appletype", "countertop_bar_1"),
    "apple_bar_2": ("appletype", "fridge_bar_1"),
    "desklamp_bar_1": ("desklamptype", "sidetable_bar_1"),
    "knife_bar_1": ("knifetype", "countertop_bar_1"),
    "mug_bar_1": ("mugtype", "cabinet_bar_1"),
    "pan_bar_1": ("pantype", "stoveburner_bar_1"),
    "spoon_bar_1": ("spoontype", "mug_bar_1"),
    "window_bar_1": ("windowtype", ""),
}
ABILITIES = {
    "pickupable": ("apple_bar_1", "apple_bar_2", "knife_bar_1", "mug_bar_1", "pan_bar_1"),
    "cleanable": ("apple_bar_1", "apple_bar_2", "mug_bar_1", "knife_bar_1"),
    "heatable": ("apple_bar_1", "apple_bar_2", "mug_bar_1"),
    "coolable": ("apple_bar_1", "apple_bar_2", "mug_bar_1"),
    "sliceable": ("apple_bar_1", "apple_bar_2"),
    "toggleable": ("desklamp_bar_1",),
    "isreceptacleobject": ("mug_bar_1", "pan_bar_1"),
}
ACCEPTS = {
    "countertoptype": ("appletype", "knifetype", "mugtype", "pantype"),
    "fridgetype": ("appletype", "mugtype"),
    "microwavetype": ("appletype", "mugtype"),
    "sidetabletype": ("appletype", "mugtype", "knifetype"),
    "cabinettype": ("mugtype",),
    "sinkbasintype": ("appletype", "knifetype", "mugtype"),
    "stoveburnertype": ("pantype",),
}
PLACE_APPLE = Goal("pick_and_place_simple", "appletype", "sidetabletype")


def facts(extra: tuple[Fact, ...] = ()) -> tuple[Fact, ...]:
    """The initial facts of the household, with ``extra`` ones appended."""
    listed: list[Fact] = [("atlocation", "agent1", "loc_bar_0")]
    for receptacle, (kind, location) in RECEPTACLES.items():
        listed += [("receptacletype", receptacle, kind), ("receptacleatlocation", receptacle, location)]
    listed += [("openable", receptacle) for receptacle in OPENABLE]
    for obj, (kind, place) in OBJECTS.items():
        listed.append(("objecttype", obj, kind))
        if place in RECEPTACLES:
            listed += [("inreceptacle", obj, place), ("objectatlocation", obj, RECEPTACLES[place][1])]
        elif place:
            listed.append(("inreceptacleobject", obj, place))
    listed += [(ability, obj) for ability, objects in ABILITIES.items() for obj in objects]
    listed += [("cancontain", kind, obj) for kind, objects in ACCEPTS.items() for obj in objects]
    return (*listed, *extra)


def describe(
    goal: Goal = PLACE_APPLE,
    extra: tuple[Fact, ...] = (),
    dialect: Dialect = CURRENT,
    walkthrough: tuple[str, ...] = (),
) -> GameDescription:
    """The household with a goal."""
    return GameDescription("house", "put some apple on sidetable.", facts(extra), goal, walkthrough, dialect)


def house(goal: Goal = PLACE_APPLE, extra: tuple[Fact, ...] = (), dialect: Dialect = CURRENT) -> Game:
    """The household as a compiled game."""
    return Game(describe(goal, extra, dialect))
