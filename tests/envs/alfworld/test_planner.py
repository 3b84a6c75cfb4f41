import random

import pytest

from agentgym_prm.envs.alfworld import generate
from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.game import Game
from agentgym_prm.envs.alfworld.goal import Goal
from agentgym_prm.envs.alfworld.planner import plan
from tests.envs.alfworld.house import PLACE_APPLE, house
from tests.envs.alfworld.test_engine import GOALS, any_kind

IN_TWO_PLACES = (
    ("inreceptacle", "apple_bar_2", "countertop_bar_1"),
    ("inreceptacle", "mug_bar_1", "sidetable_bar_1"),
)
USELESS = ("look", "inventory", "help", "examine", "close", "slice")


def shortest_length(engine: Engine, limit: int) -> int | None:
    """Breadth-first search over all commands that could help; ``None`` past ``limit`` states."""
    if engine.won:
        return 0
    seen, frontier, depth = {engine.state_key()}, [engine], 0
    while frontier and len(seen) < limit:
        depth, following = depth + 1, []
        for state in frontier:
            for command in state.admissible_commands():
                if command.startswith(USELESS):
                    continue
                successor = state.clone()
                successor.step(command)
                if successor.won:
                    return depth
                if successor.state_key() not in seen:
                    seen.add(successor.state_key())
                    following.append(successor)
        frontier = following
    return None


def start(game: Game) -> Engine:
    engine = Engine()
    engine.reset(game)
    return engine


def assert_wins_exactly_at_the_end(engine: Engine, commands: tuple[str, ...]) -> None:
    runner = engine.clone()
    for command in commands:
        assert not runner.won
        assert command in runner.admissible_commands()
        runner.step(command)
    assert runner.won


def test_a_plan_by_hand():
    # The nearest apple lies open on the counter; the one in the fridge would cost a door.
    assert plan(start(house(PLACE_APPLE))) == (
        "go to countertop 1",
        "take apple 2 from countertop 1",
        "go to sidetable 1",
        "move apple 2 to sidetable 1",
    )


def test_a_won_game_needs_no_command_and_an_unwinnable_one_has_no_plan():
    engine = start(house(PLACE_APPLE, extra=(("inreceptacle", "apple_bar_1", "sidetable_bar_1"),)))
    assert plan(engine) == ()
    assert plan(start(house(Goal("pick_and_place_simple", "windowtype", "sidetabletype")))) is None


def test_the_plan_lists_puts_in_the_chosen_grammar():
    engine = Engine(put_grammar="put")
    engine.reset(house(PLACE_APPLE))
    plan_commands = plan(engine)
    assert plan_commands is not None
    assert plan_commands[-1] == "put apple 2 in/on sidetable 1"
    assert_wins_exactly_at_the_end(engine, plan_commands)


def test_an_object_that_also_lies_in_the_goal_need_not_be_put_there():
    goal = Goal("pick_heat_then_place_in_recep", "appletype", "sidetabletype")
    engine = start(house(goal, extra=(("inreceptacle", "apple_bar_1", "sidetable_bar_1"),)))
    # Taken from the counter it stays on the side table, so heating it wins.
    assert plan(engine) == (
        "go to countertop 1",
        "take apple 2 from countertop 1",
        "go to microwave 1",
        "heat apple 2 with microwave 1",
    )


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.task_type)
def test_plans_are_as_short_as_breadth_first_search_finds_from_any_state(goal):
    rng = random.Random(goal.task_type)
    compared = 0
    for walk in range(24):
        engine = start(house(goal, extra=IN_TWO_PLACES if walk % 2 else ()))
        for _ in range(rng.randrange(2 * walk + 1)):
            engine.step(any_kind(rng, engine))
        commands = plan(engine)
        assert commands is not None
        assert_wins_exactly_at_the_end(engine, commands)
        if len(commands) <= 10:
            compared += 1
            assert shortest_length(engine, limit=400_000) == len(commands)
    assert compared >= 5


def test_plans_of_generated_games_are_shortest():
    rng = random.Random(0)
    compared = 0
    for index in range(24):
        engine = start(Game(generate.describe("train", index, "small")))
        for _ in range(rng.randrange(10)):
            engine.step(any_kind(rng, engine))
        commands = plan(engine)
        assert commands is not None
        assert_wins_exactly_at_the_end(engine, commands)
        if len(commands) <= 10:
            compared += 1
            assert shortest_length(engine, limit=400_000) == len(commands)
    assert compared >= 8
