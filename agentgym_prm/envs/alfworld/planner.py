"""Shortest plans on the full state of an ALFWorld game.

No search over states is needed: a shortest plan visits a few *stops* (put down what is in the way, fetch, prepare,
place, and for two objects fetch and place again), and between two stops only ``go to`` and ``open`` are ever useful.
So the planner prices every choice of objects, receptacles and appliances, and spells out the cheapest. Tests compare
its plan lengths with breadth-first search over all admissible commands.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.game import Game, bits

_TOOL_VERB: Final = {"clean": "clean", "hot": "heat", "cool": "cool"}


@dataclass(frozen=True, slots=True)
class Stop:
    """One thing to do at one receptacle: ``take`` and ``put`` need it open, the others do not."""

    verb: str
    receptacle: int
    obj: int

    @property
    def needs_open(self) -> bool:
        return self.verb in ("take", "put")


def plan(engine: Engine) -> tuple[str, ...] | None:
    """The commands of a shortest plan from the engine's state to the goal.

    Returns:
        Commands that win the game when executed in turn; empty if it is already won, ``None`` if it cannot be won.
        Among plans of equal length the choice is deterministic.
    """
    if engine.won:
        return ()
    cheapest = min(_candidates(engine), key=lambda stops: (_cost(engine, stops), _ids(stops)), default=None)
    return None if cheapest is None else _spell_out(engine, cheapest)


def _ids(stops: tuple[Stop, ...]) -> tuple[tuple[str, int, int], ...]:
    return tuple((stop.verb, stop.receptacle, stop.obj) for stop in stops)


def _candidates(engine: Engine) -> Iterator[tuple[Stop, ...]]:
    """Every sequence of stops that reaches the goal and could be the cheapest."""
    held = engine.held
    if held < 0:
        yield from _from_empty_hand(engine, ())
        return
    if engine.game.target_objects >> held & 1:
        yield from _with_target_in_hand(engine)
    for place in _places_to_put_down(engine):
        yield from _from_empty_hand(engine, (Stop("put", place, held),))


def _places_to_put_down(engine: Engine) -> list[int]:
    """Receptacles that accept what is held; of those that are alike for every plan, the first."""
    game, held = engine.game, engine.held
    matters = set(game.target_receptacles) | {r for r, _ in _sources(engine)}
    locations = {game.receptacle_location[r] for r in matters} | {engine.location}
    chosen, seen = [], set()
    for receptacle, accepted in enumerate(game.accepts):
        if accepted >> held & 1:
            location = game.receptacle_location[receptacle]
            if receptacle in matters:
                chosen.append(receptacle)
                continue
            kind = (engine.is_open(receptacle), location if location in locations else None)
            if kind not in seen:
                seen.add(kind)
                chosen.append(receptacle)
    return chosen


def _sources(engine: Engine) -> list[tuple[int, int]]:
    """(receptacle, object) pairs from which a target object can be taken."""
    game = engine.game
    wanted = game.target_objects & game.pickupable
    return [(r, o) for r, contents in enumerate(engine.contents) for o in bits(contents & wanted)]


def _with_target_in_hand(engine: Engine) -> Iterator[tuple[Stop, ...]]:
    game, held = engine.game, engine.held
    if game.goal.lamp_type:
        yield from ((lamp,) for lamp in _lamp_stops(engine))
        return
    if _lies_in_goal_place(engine, held):
        yield from (prepared for prepared in _preparations(engine, held) if prepared)
    for place in _goal_places(game, held):
        for prepared in _preparations(engine, held):
            first = (*prepared, Stop("put", place, held))
            if game.goal.count == 1 or _placed(engine, place, but=held):
                yield first
            else:
                yield from ((*first, *second) for second in _fetch_and_place(engine, place, but=held))


def _from_empty_hand(engine: Engine, before: tuple[Stop, ...]) -> Iterator[tuple[Stop, ...]]:
    game = engine.game
    # What was put down on the way may not be counted on: taking it up again would undo that stop.
    down = {stop.obj for stop in before}
    down_place = {stop.receptacle for stop in before}
    for source, obj in _sources(engine):
        if obj in down:
            continue
        take = Stop("take", source, obj)
        if game.goal.lamp_type:
            yield from ((*before, take, lamp) for lamp in _lamp_stops(engine))
            continue
        if _lies_in_goal_place(engine, obj, but=source):
            yield from ((*before, take, *prepared) for prepared in _preparations(engine, obj) if prepared)
        for place in _goal_places(game, obj):
            if game.goal.count == 2 and engine.contents[place] >> obj & 1:
                continue
            already = _placed(engine, place, but=obj)
            if place in down_place:
                already |= sum(1 << o for o in down) & game.target_objects
            for prepared in _preparations(engine, obj):
                first = (*before, take, *prepared, Stop("put", place, obj))
                if game.goal.count == 1 or already:
                    yield first
                else:
                    yield from ((*first, *second) for second in _fetch_and_place(engine, place, but=obj))


def _lies_in_goal_place(engine: Engine, obj: int, but: int = -1) -> bool:
    """Whether the object lies in a goal receptacle other than ``but``: it may lie in several at once."""
    return any(engine.contents[r] >> obj & 1 for r in engine.game.target_receptacles if r != but)


def _fetch_and_place(engine: Engine, place: int, but: int) -> Iterator[tuple[Stop, ...]]:
    for source, obj in _sources(engine):
        if obj != but and source != place:
            yield Stop("take", source, obj), Stop("put", place, obj)


def _placed(engine: Engine, place: int, but: int) -> int:
    return engine.contents[place] & engine.game.target_objects & ~(1 << but)


def _goal_places(game: Game, obj: int) -> list[int]:
    return [r for r in game.target_receptacles if game.accepts[r] >> obj & 1]


def _preparations(engine: Engine, obj: int) -> Iterator[tuple[Stop, ...]]:
    """Nothing if the object is in the state wanted, else one stop at each appliance that brings it there."""
    game, condition = engine.game, engine.game.goal.condition
    if not condition or engine.in_state(condition) >> obj & 1:
        yield ()
        return
    tools = {"clean": game.sinks, "hot": game.microwaves, "cool": game.fridges}[condition]
    for tool in bits(tools):
        yield (Stop(_TOOL_VERB[condition], tool, obj),)


def _lamp_stops(engine: Engine) -> Iterator[Stop]:
    for receptacle, contents in enumerate(engine.contents):
        for lamp in bits(contents & engine.game.lamps):
            yield Stop("use" if not engine.toggled >> lamp & 1 else "stand by", receptacle, lamp)


def _cost(engine: Engine, stops: tuple[Stop, ...]) -> int:
    """Commands needed for ``stops``: one each, one for every change of location, one for every door."""
    location, opened, cost = engine.location, set[int](), 0
    for stop in stops:
        place = engine.game.receptacle_location[stop.receptacle]
        cost += (place != location) + (stop.verb != "stand by")
        location = place
        if stop.needs_open and stop.receptacle not in opened and not engine.is_open(stop.receptacle):
            opened.add(stop.receptacle)
            cost += 1
    return cost


def _spell_out(engine: Engine, stops: tuple[Stop, ...]) -> tuple[str, ...]:
    game, commands = engine.game, []
    location, opened = engine.location, set[int]()
    for stop in stops:
        place, thing = game.receptacle_names[stop.receptacle], game.object_names[stop.obj]
        if game.receptacle_location[stop.receptacle] != location:
            location = game.receptacle_location[stop.receptacle]
            commands.append(f"go to {place}")
        if stop.needs_open and stop.receptacle not in opened and not engine.is_open(stop.receptacle):
            opened.add(stop.receptacle)
            commands.append(f"open {place}")
        if stop.verb != "stand by":
            commands.append(_command(engine, stop.verb, thing, place))
    return tuple(commands)


def _command(engine: Engine, verb: str, thing: str, place: str) -> str:
    if verb == "take":
        return f"take {thing} from {place}"
    if verb == "put":
        return engine.put_command(thing, place)
    return f"use {thing}" if verb == "use" else f"{verb} {thing} with {place}"
