"""What each action asks for, what it says when it is refused, and what it changes: the original's executors.

An action is a function of the world, the number of its object and that of its second object (what is not there is 0).
It checks, changes the world, and returns ``None``; or it changes nothing and returns what the original says, with
whether the original calls the step a success all the same (``PUTOBJBACK``, ``PLUGOUT`` and ``WATCH`` can fail in words
and succeed in deed). Checks come in the original's order, so the first complaint is the same.

What looks odd and is kept, each with a test:

* ``WALK`` and ``RUN`` pass closed doors and need no path; a node that is in no room is refused without a word.
* What the character holds goes with it, but is noted in the room that it *left*; ``DROP`` then adds the new room, and
  the node is in two. Whatever was inside something held stays behind.
* ``GRAB`` remembers where from until the thing is put or dropped. Worn (``PUTON``) or poured (``POUR``) it still counts
  as grabbed, so it cannot be grabbed again.
* ``PUTOBJBACK`` succeeds whenever something is remembered; if it cannot be done, nothing changes. Grabbed from a place
  that it was only close to, a thing is put back as *close*.
* ``PUTBACK`` and ``PUTIN`` accept the thing itself as the place, and a container that cannot be opened.
* ``PUSH`` moves anything. ``WIPE`` needs anything in the hands, ``WASH``, ``RINSE`` and ``SCRUB`` nothing.

Three things look like mistakes, and stand in the way of the benchmark's own programs. They are kept too, unless the
engine is asked to be ``repaired``:

* Posture is read from the start (``World.is_resting``): after ``SIT`` the character can walk, and cannot stand up;
  ``SLEEP`` and ``WAKEUP`` work only for one that sits or lies at the start. Repaired: posture is the present one, and
  who stands up is on the seat or bed no longer, so that it is free again.
* ``FIND`` of something far raises ``TypeError``; here the character is just not close to it. Repaired: it walks there.
* ``PUTOFF`` raises ``TypeError``; here it is refused. Repaired: it takes off what is worn.
"""

from collections.abc import Callable, Mapping
from typing import Final

from agentgym_prm.envs.virtualhome.graph import Relation, State, bits
from agentgym_prm.envs.virtualhome.script import Action
from agentgym_prm.envs.virtualhome.world import (
    CLEAN,
    CLOSE,
    CLOSED,
    DIRTY,
    INSIDE,
    IS_OFF,
    IS_ON,
    LYING,
    ON,
    OPEN,
    PLUGGED_IN,
    PLUGGED_OUT,
    SITTING,
    UndefinedStepError,
    World,
)

Complaint = tuple[bool, str] | None
"""Whether the step succeeds all the same, and what is said; ``None`` for a success without a word."""
Execute = Callable[[World, int, int], Complaint]


# --- what several actions ask ---


def _label(world: World, number: int) -> str:
    return world.apartment.labels[number]


def _me(world: World) -> str:
    return world.apartment.labels[world.character]


def _not_close(world: World, number: int) -> Complaint:
    if world.close.outgoing & world.apartment.bit[number] or world.is_close(number):
        return None
    return False, f"{_me(world)} is not close to {_label(world, number)}"


def _shut_in(world: World, number: int) -> Complaint:
    if not world.inside.targets(number) & world.in_state[CLOSED] & world.kinds.no_rooms:
        return None
    return False, f"{_label(world, number)} is inside other closed thing"


def _no_free_hand(world: World) -> Complaint:
    if world.has_free_hand():
        return None
    return False, f"{_me(world)} does not have a free hand"


def _not_held(world: World, number: int) -> Complaint:
    if world.held() & world.apartment.bit[number]:
        return None
    return False, f"{_me(world)} is not holding {_label(world, number)}"


def _not_in(world: World, number: int, state: State) -> Complaint:
    if world.in_state[state] & world.apartment.bit[number]:
        return None
    return False, f"{_label(world, number)} is not {state.name.lower()}"


def _not_of(world: World, number: int, kind: int, what: str) -> Complaint:
    if kind & world.apartment.bit[number]:
        return None
    return False, f"{_label(world, number)} {what}"


def _was_in(world: World, posture: State) -> Complaint:
    if not world.was_in(posture):
        return None
    return False, f"{_me(world)} is {posture.name.lower()}"


def _not_faced(world: World, number: int) -> Complaint:
    if world.is_faced(number):
        return None
    return False, f"{_me(world)} does not face {_label(world, number)}"


def _crowded(world: World, number: int, places: Mapping[int, int]) -> Complaint:
    if world.on.sources(number).bit_count() < places[number]:
        return None
    return False, f"Too many things on {_label(world, number)}"


def _done(world: World) -> Complaint:
    world.step += 1
    return None


def _switch(world: World, number: int, off: State, on: State) -> Complaint:
    world.step += 1
    world.switch(number, off, on)
    return None


# --- moving about ---


def _walk(world: World, number: int, _: int) -> Complaint:
    room = world.room(number)
    if world.is_resting:
        return False, f"{_me(world)} is sitting"
    left = world.room_of(world.character)
    if room is None:
        return False, ""
    world.step += 1
    _go(world, number, room, left)
    return None


def _go(world: World, number: int, room: int, left: int) -> None:
    apartment, kinds, me, step = world.apartment, world.kinds, world.character, world.step
    close, inside, facing, held = world.close, world.inside, world.facing, world.held()
    if room != left or inside.incoming or inside.outgoing != apartment.bit[room]:
        world.move(me, room)
    # Otherwise it stays where it is: out of the room and back in changes nothing.
    close.detach(me, step)
    if facing.outgoing or facing.incoming:
        facing.detach(me, step)
    if room != number:
        close.meet(inside.targets(number) & kinds.no_rooms | kinds.body_parts | apartment.bit[number], step)
    if held:
        things = bits(held)
        for thing in things:
            close.detach(thing, step)
            facing.detach(thing, step)
            inside.detach(thing, step)
        for thing in things:
            close.meet(apartment.bit[thing], step)
            world.put_inside(thing, left)
    near = world.on.targets(number)
    if kinds.can_open & apartment.bit[number]:
        near |= inside.sources(number)
    if near:
        close.meet(near, step)


def _find(world: World, number: int, second: int) -> Complaint:
    if world.repaired and not world.is_close(number):
        worn_or_part = (world.on.incoming | world.kinds.body_parts) & world.apartment.bit[number]
        if not worn_or_part and not world.is_resting and _walk(world, number, second) is None:
            return None
    if complaint := _not_close(world, number):
        return complaint
    world.step += 1
    world.face_nothing()
    world.come_close(world.character, number)
    return None


def _turn_to(world: World, number: int, _: int) -> Complaint:
    world.step += 1
    world.face_nothing()
    world.facing.add(world.character, number, world.step)
    return None


def _sit(world: World, number: int, _: int) -> Complaint:
    kinds = world.kinds
    complaint = (
        _not_close(world, number)
        or _was_in(world, SITTING)
        or _not_of(world, number, kinds.sittable, "is not sittable")
        or _crowded(world, number, kinds.seats)
    )
    if complaint:
        return complaint
    world.step += 1
    world.on.add(world.character, number, world.step)
    for faced in bits(world.facing.targets(number)):
        world.facing.add(world.character, faced, world.step)
    world.take_posture(SITTING)
    return None


def _lie(world: World, number: int, _: int) -> Complaint:
    kinds = world.kinds
    complaint = (
        _not_close(world, number)
        or _was_in(world, LYING)
        or _not_of(world, number, kinds.lieable, "is not lieable")
        or _crowded(world, number, kinds.berths)
    )
    if complaint:
        return complaint
    world.step += 1
    world.on.add(world.character, number, world.step)
    world.take_posture(LYING)
    return None


def _stand_up(world: World, _: int, __: int) -> Complaint:
    if not world.is_resting:
        return False, f"{_me(world)} is not sitting"
    world.step += 1
    world.take_posture(None)
    if world.repaired:
        world.on.release(world.kinds.sittable | world.kinds.lieable, world.step)
    return None


def _sleep(world: World, _: int, __: int) -> Complaint:
    if not world.is_resting:
        return False, f"{_me(world)} is not lying or sitting"
    return _done(world)


# --- hands ---


def _grab(world: World, number: int, _: int) -> Complaint:
    bit = world.apartment.bit[number]
    if not world.kinds.grabbable & bit:
        return False, f"{_label(world, number)} is not grabbable"
    if number in world.grabbed:
        return False, f"{_label(world, number)} already grabbed"
    complaint = _not_close(world, number) or _shut_in(world, number) or _no_free_hand(world)
    if complaint:
        return complaint
    room = world.room_of(world.character)
    origin = _origin(world, number)
    world.step += 1
    step, close = world.step, world.close
    world.move(number, room)
    world.on.detach(number, step)
    close.detach(number, step)
    close.meet(bit, step)
    world.take(number)
    if origin is not None:
        close.meet(world.apartment.bit[origin[0]], step)
        world.grabbed[number] = origin
    return None


def _origin(world: World, number: int) -> tuple[int, Relation] | None:
    """The first node, other than a room, that a thing is on, inside or close to."""
    no_rooms, step = world.kinds.no_rooms, world.step
    if among := world.on.targets(number) & no_rooms:
        return world.on.first(number, among, step), ON
    if among := world.inside.targets(number) & no_rooms:
        # INSIDE was read before, to see whether the thing is shut in.
        return world.inside.first(number, among, step, readings=2), INSIDE
    if among := world.close.targets(number) & no_rooms:
        return world.close.first(number, among, step), CLOSE
    return None


def _drop(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_held(world, number):
        return complaint
    room = world.room_of(world.character)
    world.step += 1
    world.release(number)
    world.put_inside(number, room)
    world.grabbed.pop(number, None)
    return None


def _unputtable(world: World, number: int, place: int, relation: Relation) -> Complaint:
    complaint = _not_held(world, number) or _not_close(world, place)
    if complaint:
        return complaint
    if relation is INSIDE and world.kinds.can_open & ~world.in_state[OPEN] & world.apartment.bit[place]:
        return False, f"{_label(world, place)} is not open or is not openable"
    return None


def _put(world: World, number: int, place: int, relation: Relation) -> Complaint:
    world.step += 1
    world.release(number)
    world.close.meet(world.apartment.bit[place], world.step)
    world.come_close(number, place)
    if relation is ON:
        world.on.add(number, place, world.step)
    elif relation is INSIDE:
        world.put_inside(number, place)
    world.grabbed.pop(number, None)
    return None


def _put_back(world: World, number: int, place: int) -> Complaint:
    if complaint := _unputtable(world, number, place, ON):
        return complaint
    return _put(world, number, place, ON)


def _put_in(world: World, number: int, place: int) -> Complaint:
    if complaint := _unputtable(world, number, place, INSIDE):
        return complaint
    return _put(world, number, place, INSIDE)


def _put_object_back(world: World, number: int, _: int) -> Complaint:
    if number not in world.grabbed:
        return False, f"{_label(world, number)} not grabbed"
    place, relation = world.grabbed[number]
    if complaint := _unputtable(world, number, place, relation):
        return True, complaint[1]
    return _put(world, number, place, relation)


def _pour(world: World, number: int, place: int) -> Complaint:
    complaint = (
        _not_of(world, number, world.kinds.pourable, "is not pourable or drinkable")
        or _not_of(world, place, world.kinds.recipients, "is not recipient")
        or _not_held(world, number)
        or _not_close(world, place)
    )
    if complaint:
        return complaint
    world.step += 1
    world.put_inside(number, place)
    if world.apartment.nodes[number].class_name == "water":
        world.release(number)
    return None


def _put_on(world: World, number: int, _: int) -> Complaint:
    complaint = _not_held(world, number) or _not_of(world, number, world.kinds.clothes, "is not clothes")
    if complaint:
        return complaint
    world.step += 1
    world.on.add(number, world.character, world.step)
    world.release(number)
    return None


def _put_off(world: World, number: int, _: int) -> Complaint:
    if not world.repaired:
        raise UndefinedStepError(f"{_label(world, number)} cannot be put off")
    if not world.on.incoming & world.apartment.bit[number]:
        return False, f"{_label(world, number)} is not on {_me(world)}"
    if complaint := _not_of(world, number, world.kinds.clothes, "is not clothes"):
        return complaint
    world.step += 1
    world.on.lose(number, world.step)
    return None


# --- appliances, doors, plugs ---


def _open(world: World, number: int, _: int) -> Complaint:
    complaint = (
        _not_of(world, number, world.kinds.openable, "can not be opened")
        or _not_close(world, number)
        or _no_free_hand(world)
        or _not_in(world, number, CLOSED)
    )
    if complaint:
        return complaint
    if world.has(IS_ON, number):
        return False, f"{_label(world, number)} is still on"
    return _switch(world, number, CLOSED, OPEN)


def _close(world: World, number: int, _: int) -> Complaint:
    complaint = (
        _not_of(world, number, world.kinds.openable, "can not be opened")
        or _not_close(world, number)
        or _not_in(world, number, OPEN)
    )
    return complaint or _switch(world, number, OPEN, CLOSED)


def _switch_on(world: World, number: int, _: int) -> Complaint:
    if complaint := _unswitchable(world, number, IS_OFF):
        return complaint
    if world.has(PLUGGED_OUT, number):
        return False, f"{_label(world, number)} is unplugged"
    return _switch(world, number, IS_OFF, IS_ON)


def _switch_off(world: World, number: int, _: int) -> Complaint:
    return _unswitchable(world, number, IS_ON) or _switch(world, number, IS_ON, IS_OFF)


def _unswitchable(world: World, number: int, now: State) -> Complaint:
    return (
        _not_of(world, number, world.kinds.switched, "does not have a switch")
        or _not_close(world, number)
        or _not_in(world, number, now)
    )


def _plug_in(world: World, number: int, _: int) -> Complaint:
    return _unpluggable(world, number, PLUGGED_OUT) or _switch(world, number, PLUGGED_OUT, PLUGGED_IN)


def _plug_out(world: World, number: int, _: int) -> Complaint:
    if complaint := _unpluggable(world, number, PLUGGED_IN):
        return complaint
    _switch(world, number, PLUGGED_IN, PLUGGED_OUT)
    return (True, f"{_label(world, number)} is still on") if world.has(IS_ON, number) else None


def _unpluggable(world: World, number: int, now: State) -> Complaint:
    return (
        _not_of(world, number, world.kinds.plugged, "does not have a plug")
        or _not_close(world, number)
        or _no_free_hand(world)
        or _not_in(world, number, now)
    )


# --- cleaning ---


def _wipe(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    if not world.held():
        return False, f"{_me(world)} does not hold anything in hands"
    return _switch(world, number, DIRTY, CLEAN)


def _wash(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    return _switch(world, number, DIRTY, CLEAN)


# --- what changes nothing ---


def _greet(world: World, number: int, _: int) -> Complaint:
    return _not_of(world, number, world.kinds.people, "is not person") or _done(world)


def _drink(world: World, number: int, _: int) -> Complaint:
    complaint = _not_of(world, number, world.kinds.drinkable, "is not drinkable or not recipient")
    return complaint or _not_held(world, number) or _done(world)


def _look_at(world: World, number: int, _: int) -> Complaint:
    return _not_faced(world, number) or _done(world)


def _watch(world: World, number: int, _: int) -> Complaint:
    # Both rooms are looked up first, and asked for their ids only after the property.
    here, there = world.room(world.character), world.room(number)
    if complaint := _not_of(world, number, world.kinds.lookable, "not lookable"):
        return complaint
    if there is None or here is None:
        raise UndefinedStepError(f"{_label(world, number if there is None else world.character)} is in no room")
    if there != here:
        return False, f"char room {_label(world, here)} is not node room {_label(world, there)}"
    if complaint := _not_faced(world, number):
        return complaint
    faced = world.kinds.computers | world.facing.outgoing
    if not faced & world.apartment.bit[number] and world.is_resting:
        return False, f"{_me(world)} is not facing {_label(world, number)} while sitting"
    complaint = _shut_in(world, number)
    world.step += 1
    return (True, complaint[1]) if complaint else None


def _read(world: World, number: int, _: int) -> Complaint:
    complaint = _not_of(world, number, world.kinds.readable, "is not readable")
    return complaint or _not_held(world, number) or _done(world)


def _touch(world: World, number: int, _: int) -> Complaint:
    return _not_close(world, number) or _shut_in(world, number) or _done(world)


def _type(world: World, number: int, _: int) -> Complaint:
    complaint = _not_close(world, number)
    return complaint or _not_of(world, number, world.kinds.typeable, "does not have switch") or _done(world)


def _push(world: World, number: int, _: int) -> Complaint:
    return _not_close(world, number) or _shut_in(world, number) or _no_free_hand(world) or _done(world)


def _move(world: World, number: int, second: int) -> Complaint:
    return _not_of(world, number, world.kinds.movable, "is not movable") or _push(world, number, second)


def _squeeze(world: World, number: int, _: int) -> Complaint:
    complaint = _no_free_hand(world) or _not_close(world, number)
    return complaint or _not_of(world, number, world.kinds.squeezable, "is not clothes") or _done(world)


def _cut(world: World, number: int, _: int) -> Complaint:
    complaint = (
        _no_free_hand(world)
        or _not_close(world, number)
        or _not_of(world, number, world.kinds.eatable, "is not eatable")
        or _not_of(world, number, world.kinds.cuttable, "is not cuttable")
    )
    if complaint:
        return complaint
    if not world.held() & world.kinds.knives:
        return False, f"{_me(world)} is not holding a knife"
    return _done(world)


def _eat(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    eatable = world.kinds.eatable
    if eatable & world.apartment.bit[number]:
        return _done(world)
    on_it = world.on.sources(number)
    if not on_it:
        return False, f"{_label(world, number)} is not eatable"
    if not on_it & eatable:
        return False, f"none of object on {_label(world, number)} is eatable"
    return _done(world)


ACTIONS: Final[dict[Action, Execute]] = {
    Action.CLOSE: _close,
    Action.DRINK: _drink,
    Action.FIND: _find,
    Action.WALK: _walk,
    Action.GRAB: _grab,
    Action.LOOKAT: _look_at,
    Action.OPEN: _open,
    Action.POINTAT: _look_at,
    Action.PUTBACK: _put_back,
    Action.PUTIN: _put_in,
    Action.PUTOBJBACK: _put_object_back,
    Action.RUN: _walk,
    Action.SIT: _sit,
    Action.STANDUP: _stand_up,
    Action.SWITCHOFF: _switch_off,
    Action.SWITCHON: _switch_on,
    Action.TOUCH: _touch,
    Action.TURNTO: _turn_to,
    Action.WATCH: _watch,
    Action.WIPE: _wipe,
    Action.PUTON: _put_on,
    Action.PUTOFF: _put_off,
    Action.GREET: _greet,
    Action.DROP: _drop,
    Action.READ: _read,
    Action.LIE: _lie,
    Action.POUR: _pour,
    Action.TYPE: _type,
    Action.PUSH: _push,
    Action.PULL: _move,
    Action.MOVE: _move,
    Action.WASH: _wash,
    Action.RINSE: _wash,
    Action.SCRUB: _wash,
    Action.SQUEEZE: _squeeze,
    Action.PLUGIN: _plug_in,
    Action.PLUGOUT: _plug_out,
    Action.CUT: _cut,
    Action.EAT: _eat,
    Action.SLEEP: _sleep,
    Action.WAKEUP: _sleep,
    Action.RELEASE: _drop,
}
"""What can be executed; the other names can only be written."""
