"""Which script lines would succeed now: for each action the objects it accepts, read off the masks.

Everything here restates the checks of ``actions.py`` for all nodes at once; a test holds the two together.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from agentgym_prm.envs.virtualhome.graph import Apartment, bits
from agentgym_prm.envs.virtualhome.script import Action
from agentgym_prm.envs.virtualhome.world import (
    CLOSED,
    IS_OFF,
    IS_ON,
    LYING,
    OPEN,
    PLUGGED_IN,
    PLUGGED_OUT,
    SITTING,
    UndefinedStepError,
    World,
)

_NONE: Final = 0
_LISTS: Final = 4_000
"""Lists that an apartment remembers, of some ten to some hundred lines each."""


class Choice(NamedTuple):
    """An action with the objects that it accepts now; with two parameters, each object goes with each place."""

    action: Action
    objects: tuple[int, ...]
    """Ids of the first objects; empty for an action without any."""
    places: tuple[int, ...] = ()
    """Ids of the second objects; empty for an action that takes none."""


def choices(world: World, *, in_view: bool = False) -> tuple[Choice, ...]:
    """What would succeed now, in the order of ``Action``.

    Args:
        world: The state.
        in_view: Only with objects that the character sees (``World.visible``).
    """
    apartment, seen = world.apartment, world.visible() if in_view else world.apartment.everything
    found = []
    for action, objects, places in _accepted(world):
        takes = action.parameters
        if takes == 0:
            found.append(Choice(action, ()))
        elif objects & seen and (takes == 1 or places & seen):
            found.append(Choice(action, _ids(apartment, objects & seen), _ids(apartment, places & seen)))
    found.sort(key=_position)
    return tuple(found)


def lines(world: World, *, in_view: bool = False) -> tuple[str, ...]:
    """The script lines of ``choices``."""
    apartment = world.apartment
    found: list[str] = []
    for choice in choices(world, in_view=in_view):
        rendered: tuple[str, ...] | None = apartment.rendered.get(choice)
        if rendered is None:
            rendered = tuple(_render(apartment, choice))
            apartment.remember(apartment.rendered, choice, rendered, limit=_LISTS)
        found.extend(rendered)
    return tuple(found)


def _render(apartment: Apartment, choice: Choice) -> Iterator[str]:
    head = f"[{choice.action.name}]"
    if choice.action.parameters == 0:
        yield head
    for node_id in choice.objects:
        line = f"{head} {apartment.labels[apartment.numbers[node_id]]}"
        if choice.action.parameters == 1:
            yield line
        for place_id in choice.places:
            yield f"{line} {apartment.labels[apartment.numbers[place_id]]}"


def _accepted(world: World) -> Iterator[tuple[Action, int, int]]:
    """For each action the masks of its first and second objects."""
    yield from _moves(world)
    yield from _with_hands(world)
    yield from _within_reach(world)
    yield Action.TURNTO, world.apartment.everything, _NONE
    yield Action.GREET, world.kinds.people, _NONE
    yield Action.PUTOBJBACK, sum(1 << number for number in world.grabbed), _NONE
    if world.repaired:
        yield Action.PUTOFF, world.on.incoming & world.kinds.clothes, _NONE
    faced = world.faced()
    yield Action.LOOKAT, faced, _NONE
    yield Action.POINTAT, faced, _NONE
    yield Action.WATCH, _watchable(world, faced), _NONE
    if world.is_resting:
        for action in (Action.STANDUP, Action.SLEEP, Action.WAKEUP):
            yield action, _NONE, _NONE


def _moves(world: World) -> Iterator[tuple[Action, int, int]]:
    kinds, reachable = world.kinds, world.reachable()
    walkable = world.walkable()
    if world.is_resting or not _has_room(world):
        walkable = 0
    found = reachable
    if world.repaired:
        found |= walkable & ~(world.on.incoming | kinds.body_parts)
    yield Action.WALK, walkable, _NONE
    yield Action.RUN, walkable, _NONE
    yield Action.FIND, found, _NONE
    if not world.was_in(SITTING):
        yield Action.SIT, _with_space(world, reachable & kinds.sittable, kinds.seats), _NONE
    if not world.was_in(LYING):
        yield Action.LIE, _with_space(world, reachable & kinds.lieable, kinds.berths), _NONE


def _with_hands(world: World) -> Iterator[tuple[Action, int, int]]:
    held = world.held()
    if not held:
        return
    kinds, reachable = world.kinds, world.reachable()
    yield Action.PUTBACK, held, reachable
    yield Action.PUTIN, held, reachable & (~kinds.can_open | world.in_state[OPEN])
    yield Action.POUR, held & kinds.pourable, reachable & kinds.recipients
    yield Action.DRINK, held & kinds.drinkable, _NONE
    yield Action.PUTON, held & kinds.clothes, _NONE
    yield Action.READ, held & kinds.readable, _NONE
    yield Action.WIPE, reachable, _NONE
    if _has_room(world):
        yield Action.DROP, held, _NONE
        yield Action.RELEASE, held, _NONE


def _within_reach(world: World) -> Iterator[tuple[Action, int, int]]:
    kinds, state = world.kinds, world.in_state
    reachable = world.reachable()
    accessible = reachable & ~world.shut_in()
    switches = reachable & kinds.switched
    yield Action.CLOSE, reachable & kinds.openable & state[OPEN], _NONE
    yield Action.SWITCHOFF, switches & state[IS_ON], _NONE
    yield Action.SWITCHON, switches & state[IS_OFF] & ~state[PLUGGED_OUT], _NONE
    yield Action.TOUCH, accessible, _NONE
    yield Action.TYPE, reachable & kinds.typeable, _NONE
    for action in (Action.WASH, Action.RINSE, Action.SCRUB):
        yield action, reachable, _NONE
    yield Action.EAT, _edible(world, reachable), _NONE
    if not world.has_free_hand():
        return
    yield Action.OPEN, reachable & kinds.openable & state[CLOSED] & ~state[IS_ON], _NONE
    yield Action.PUSH, accessible, _NONE
    yield Action.PULL, accessible & kinds.movable, _NONE
    yield Action.MOVE, accessible & kinds.movable, _NONE
    yield Action.SQUEEZE, reachable & kinds.squeezable, _NONE
    yield Action.PLUGIN, reachable & kinds.plugged & state[PLUGGED_OUT], _NONE
    yield Action.PLUGOUT, reachable & kinds.plugged & state[PLUGGED_IN], _NONE
    if world.held() & kinds.knives:
        yield Action.CUT, reachable & kinds.cuttable & kinds.eatable, _NONE
    if _has_room(world):
        taken = sum(1 << number for number in world.grabbed)
        yield Action.GRAB, accessible & kinds.grabbable & ~taken, _NONE


def _with_space(world: World, candidates: int, places: dict[int, int]) -> int:
    free = 0
    for number in bits(candidates):
        if world.on.sources(number).bit_count() < places[number]:
            free |= 1 << number
    return free


def _edible(world: World, reachable: int) -> int:
    eatable = world.kinds.eatable
    edible = reachable & eatable
    for number in bits(eatable):
        edible |= world.on.targets(number) & reachable
    return edible


def _watchable(world: World, faced: int) -> int:
    watchable = 0
    if world.is_resting:
        faced &= world.kinds.computers | world.facing.outgoing
    here = _room(world, world.character)
    for number in bits(faced & world.kinds.lookable):
        if here is not None and _room(world, number) == here:
            watchable |= 1 << number
    return watchable


def _room(world: World, number: int) -> int | None:
    try:
        return world.room(number)
    except UndefinedStepError:
        return None


def _has_room(world: World) -> bool:
    return _room(world, world.character) is not None


def _position(choice: Choice) -> int:
    return _POSITIONS[choice.action]


_POSITIONS: Final = {action: position for position, action in enumerate(Action)}


def _ids(apartment: Apartment, mask: int) -> tuple[int, ...]:
    ids: tuple[int, ...] | None = apartment.rendered.get((mask,))
    if ids is None:
        ids = apartment.ids(mask)
        apartment.remember(apartment.rendered, (mask,), ids, limit=_LISTS)
    return ids
