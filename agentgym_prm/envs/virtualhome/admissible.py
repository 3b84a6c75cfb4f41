"""Which script lines would succeed now: for each action the objects it accepts, read off the masks.

Everything here restates the checks of ``actions.py`` for all nodes at once; a test holds the two together.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from agentgym_prm.envs.virtualhome import actions
from agentgym_prm.envs.virtualhome.actions import BERTHS, SEATS
from agentgym_prm.envs.virtualhome.graph import Apartment, Property, State, bits
from agentgym_prm.envs.virtualhome.script import Action
from agentgym_prm.envs.virtualhome.world import UndefinedStepError, World

# Looking a member up in its class costs more than most checks.
_SITTABLE: Final = Property.SITTABLE
_LIEABLE: Final = Property.LIEABLE
_DRINKABLE: Final = Property.DRINKABLE
_EATABLE: Final = Property.EATABLE
_RECIPIENT: Final = Property.RECIPIENT
_CUTTABLE: Final = Property.CUTTABLE
_POURABLE: Final = Property.POURABLE
_CAN_OPEN: Final = Property.CAN_OPEN
_HAS_SWITCH: Final = Property.HAS_SWITCH
_READABLE: Final = Property.READABLE
_LOOKABLE: Final = Property.LOOKABLE
_CLOTHES: Final = Property.CLOTHES
_PERSON: Final = Property.PERSON
_BODY_PART: Final = Property.BODY_PART
_HAS_PLUG: Final = Property.HAS_PLUG
_MOVABLE: Final = Property.MOVABLE
_CLOSED: Final = State.CLOSED
_OPEN: Final = State.OPEN
_IS_ON: Final = State.ON
_OFF: Final = State.OFF
_SITTING: Final = State.SITTING
_LYING: Final = State.LYING
_PLUGGED_IN: Final = State.PLUGGED_IN
_PLUGGED_OUT: Final = State.PLUGGED_OUT

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


class _Fixed:
    """Masks of an apartment that never change."""

    def __init__(self, apartment: Apartment) -> None:
        having, of_class = apartment.having, apartment.of_class
        self.openable = having[_CAN_OPEN] | of_class(*actions.OPENABLE_CLASSES)
        self.movable = having[_MOVABLE] | of_class(*actions.MOVABLE_CLASSES)
        self.squeezable = having[_CLOTHES] | of_class(*actions.SQUEEZABLE_CLASSES)
        self.recipients = having[_RECIPIENT] | of_class(*actions.RECIPIENT_CLASSES)
        self.pourable = having[_POURABLE] | having[_DRINKABLE]
        self.drinkable = having[_RECIPIENT] | having[_DRINKABLE]
        self.typeable = having[_HAS_SWITCH] | of_class("keyboard")
        self.cuttable = having[_CUTTABLE] & having[_EATABLE]
        self.computers = of_class("computer")
        self.seats = {n: SEATS.get(apartment.nodes[n].class_name, 1) for n in bits(having[_SITTABLE])}
        self.berths = {n: BERTHS.get(apartment.nodes[n].class_name, 1) for n in bits(having[_LIEABLE])}


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
    yield Action.GREET, world.apartment.having[_PERSON], _NONE
    yield Action.PUTOBJBACK, sum(1 << number for number in world.grabbed), _NONE
    if world.repaired:
        yield Action.PUTOFF, world.on.sources(world.character) & world.apartment.having[_CLOTHES], _NONE
    faced = world.faced()
    yield Action.LOOKAT, faced, _NONE
    yield Action.POINTAT, faced, _NONE
    yield Action.WATCH, _watchable(world, faced), _NONE
    if world.is_resting():
        for action in (Action.STANDUP, Action.SLEEP, Action.WAKEUP):
            yield action, _NONE, _NONE


def _moves(world: World) -> Iterator[tuple[Action, int, int]]:
    having, reachable = world.apartment.having, world.reachable()
    walkable = world.walkable()
    if world.is_resting() or not _has_room(world):
        walkable = 0
    found = reachable
    if world.repaired:
        found |= walkable & ~(world.on.sources(world.character) | having[_BODY_PART])
    yield Action.WALK, walkable, _NONE
    yield Action.RUN, walkable, _NONE
    yield Action.FIND, found, _NONE
    fixed = _fixed(world.apartment)
    if not world.was_in(_SITTING):
        yield Action.SIT, _with_space(world, reachable & having[_SITTABLE], fixed.seats), _NONE
    if not world.was_in(_LYING):
        yield Action.LIE, _with_space(world, reachable & having[_LIEABLE], fixed.berths), _NONE


def _with_hands(world: World) -> Iterator[tuple[Action, int, int]]:
    held = world.held()
    if not held:
        return
    having, fixed, reachable = world.apartment.having, _fixed(world.apartment), world.reachable()
    yield Action.PUTBACK, held, reachable
    yield Action.PUTIN, held, reachable & (~having[_CAN_OPEN] | world.in_state[_OPEN])
    yield Action.POUR, held & fixed.pourable, reachable & fixed.recipients
    yield Action.DRINK, held & fixed.drinkable, _NONE
    yield Action.PUTON, held & having[_CLOTHES], _NONE
    yield Action.READ, held & having[_READABLE], _NONE
    yield Action.WIPE, reachable, _NONE
    if _has_room(world):
        yield Action.DROP, held, _NONE
        yield Action.RELEASE, held, _NONE


def _within_reach(world: World) -> Iterator[tuple[Action, int, int]]:
    having, fixed, state = world.apartment.having, _fixed(world.apartment), world.in_state
    reachable = world.reachable()
    accessible = reachable & ~world.shut_in()
    switches = reachable & having[_HAS_SWITCH]
    yield Action.CLOSE, reachable & fixed.openable & state[_OPEN], _NONE
    yield Action.SWITCHOFF, switches & state[_IS_ON], _NONE
    yield Action.SWITCHON, switches & state[_OFF] & ~state[_PLUGGED_OUT], _NONE
    yield Action.TOUCH, accessible, _NONE
    yield Action.TYPE, reachable & fixed.typeable, _NONE
    for action in (Action.WASH, Action.RINSE, Action.SCRUB):
        yield action, reachable, _NONE
    yield Action.EAT, _edible(world, reachable), _NONE
    if world.free_hand() is None:
        return
    yield Action.OPEN, reachable & fixed.openable & state[_CLOSED] & ~state[_IS_ON], _NONE
    yield Action.PUSH, accessible, _NONE
    yield Action.PULL, accessible & fixed.movable, _NONE
    yield Action.MOVE, accessible & fixed.movable, _NONE
    yield Action.SQUEEZE, reachable & fixed.squeezable, _NONE
    yield Action.PLUGIN, reachable & having[_HAS_PLUG] & state[_PLUGGED_OUT], _NONE
    yield Action.PLUGOUT, reachable & having[_HAS_PLUG] & state[_PLUGGED_IN], _NONE
    if world.held() & world.apartment.knives:
        yield Action.CUT, reachable & fixed.cuttable, _NONE
    if _has_room(world):
        taken = sum(1 << number for number in world.grabbed)
        yield Action.GRAB, accessible & world.apartment.grabbable & ~taken, _NONE


def _with_space(world: World, candidates: int, places: dict[int, int]) -> int:
    free = 0
    for number in bits(candidates):
        if world.on.sources(number).bit_count() < places[number]:
            free |= 1 << number
    return free


def _edible(world: World, reachable: int) -> int:
    eatable = world.apartment.having[_EATABLE]
    edible = reachable & eatable
    for number in bits(eatable):
        edible |= world.on.targets(number) & reachable
    return edible


def _watchable(world: World, faced: int) -> int:
    apartment, watchable = world.apartment, 0
    if world.is_resting():
        faced &= _fixed(apartment).computers | world.facing.targets(world.character)
    here = _room(world, world.character)
    for number in bits(faced & apartment.having[_LOOKABLE]):
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


def _fixed(apartment: Apartment) -> _Fixed:
    fixed: _Fixed | None = apartment.rendered.get(("fixed",))
    if fixed is None:
        fixed = _Fixed(apartment)
        apartment.remember(apartment.rendered, ("fixed",), fixed, limit=_LISTS)
    return fixed


def _ids(apartment: Apartment, mask: int) -> tuple[int, ...]:
    ids: tuple[int, ...] | None = apartment.rendered.get((mask,))
    if ids is None:
        ids = apartment.ids(mask)
        apartment.remember(apartment.rendered, (mask,), ids, limit=_LISTS)
    return ids
