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
  ``SLEEP`` and ``WAKEUP`` work only for one that sits or lies at the start. Repaired: posture is the present one.
* ``FIND`` of something far raises ``TypeError``; here the character is just not close to it. Repaired: it walks there.
* ``PUTOFF`` raises ``TypeError``; here it is refused. Repaired: it takes off what is worn.
"""

from collections.abc import Callable
from typing import Final

from agentgym_prm.envs.virtualhome.graph import Property, Relation, State, bits
from agentgym_prm.envs.virtualhome.script import Action
from agentgym_prm.envs.virtualhome.world import CLOSE, INSIDE, ON, UndefinedStepError, World

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
_DIRTY: Final = State.DIRTY
_CLEAN: Final = State.CLEAN
_LYING: Final = State.LYING
_PLUGGED_IN: Final = State.PLUGGED_IN
_PLUGGED_OUT: Final = State.PLUGGED_OUT

Complaint = tuple[bool, str] | None
"""Whether the step succeeds all the same, and what is said; ``None`` for a success without a word."""
Execute = Callable[[World, int, int], Complaint]

OPENABLE_CLASSES: Final = ("desk", "window")
MOVABLE_CLASSES: Final = ("chair", "curtain", "button")
RECIPIENT_CLASSES: Final = ("hands_both", "sponge", "face")
SQUEEZABLE_CLASSES: Final = (
    "cleaning_solution", "tooth_paste", "shampoo", "food_peanut_butter", "dish_soap", "soap", "towel", "rag", "paper",
    "sponge", "food_lemon", "check",
)  # fmt: skip
SEATS: Final = {
    "couch": 4, "bed": 4, "chair": 1, "loveseat": 2, "sofa": 4, "toilet": 1, "pianobench": 2, "bench": 2,
}  # fmt: skip
BERTHS: Final = {"couch": 2, "bathtub": 2, "bed": 3, "loveseat": 2, "sofa": 2, "bench": 1}


# --- what several actions ask ---


def _is(world: World, number: int, quality: Property) -> bool:
    return bool(world.apartment.having[quality] >> number & 1)


def _class_name(world: World, number: int) -> str:
    return world.apartment.nodes[number].class_name


def _label(world: World, number: int) -> str:
    return world.apartment.labels[number]


def _me(world: World) -> str:
    return world.apartment.labels[world.character]


def _not_close(world: World, number: int) -> Complaint:
    if world.is_close(number):
        return None
    return False, f"{_me(world)} is not close to {_label(world, number)}"


def _shut_in(world: World, number: int) -> Complaint:
    if not world.is_shut_in(number):
        return None
    return False, f"{_label(world, number)} is inside other closed thing"


def _no_free_hand(world: World) -> Complaint:
    if world.free_hand() is not None:
        return None
    return False, f"{_me(world)} does not have a free hand"


def _not_held(world: World, number: int) -> Complaint:
    if world.held() >> number & 1:
        return None
    return False, f"{_me(world)} is not holding {_label(world, number)}"


def _not_in(world: World, number: int, state: State) -> Complaint:
    if world.has(state, number):
        return None
    return False, f"{_label(world, number)} is not {state.name.lower()}"


def _lacks(world: World, number: int, quality: Property, what: str) -> Complaint:
    if _is(world, number, quality):
        return None
    return False, f"{_label(world, number)} {what}"


def _not_faced(world: World, number: int) -> Complaint:
    if world.is_faced(number):
        return None
    return False, f"{_me(world)} does not face {_label(world, number)}"


def _crowded(world: World, number: int, places: dict[str, int]) -> Complaint:
    if world.on.sources(number).bit_count() < places.get(_class_name(world, number), 1):
        return None
    return False, f"Too many things on {_label(world, number)}"


def _done(world: World) -> Complaint:
    world.step += 1
    return None


# --- moving about ---


def _walk(world: World, number: int, _: int) -> Complaint:
    room = world.room(number)
    if world.is_resting():
        return False, f"{_me(world)} is sitting"
    left = world.room_of(world.character)
    if room is None:
        return False, ""
    _done(world)
    _go(world, number, room, left)
    return None


def _go(world: World, number: int, room: int, left: int) -> None:
    apartment, me, held = world.apartment, world.character, world.held()
    if room == left and world.inside.targets(me) == 1 << room and not world.inside.sources(me):
        world.close.detach(me, world.step)  # it stays where it is: out of the room and back in changes nothing
        world.facing.detach(me, world.step)
    else:
        _leave(world, me)
        world.put_inside(me, room)
    if room != number:
        near = world.inside.targets(number) & ~apartment.rooms | apartment.having[_BODY_PART] | 1 << number
        world.close.join(me, near, world.step)
    if held:
        for thing in bits(held):
            _leave(world, thing)
        for thing in bits(held):
            world.come_close(me, thing)
            world.put_inside(thing, left)
    near = world.on.targets(number)
    if _is(world, number, _CAN_OPEN):
        near |= world.inside.sources(number)
    if near:
        world.close.join(me, near, world.step)


def _leave(world: World, number: int) -> None:
    world.take_out(number)
    world.close.detach(number, world.step)
    world.facing.detach(number, world.step)


def _find(world: World, number: int, second: int) -> Complaint:
    if world.repaired and not world.is_close(number):
        is_worn = world.on.targets(number) >> world.character & 1
        stays = is_worn or _is(world, number, _BODY_PART) or world.is_resting()
        if not stays and _walk(world, number, second) is None:
            return None
    if complaint := _not_close(world, number):
        return complaint
    _done(world)
    world.face_nothing()
    world.come_close(world.character, number)
    return None


def _turn_to(world: World, number: int, _: int) -> Complaint:
    _done(world)
    world.face_nothing()
    world.facing.add(world.character, number, world.step)
    return None


def _sit(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    if world.was_in(_SITTING):
        return False, f"{_me(world)} is sitting"
    complaint = _lacks(world, number, _SITTABLE, "is not sittable") or _crowded(world, number, SEATS)
    if complaint:
        return complaint
    _done(world)
    world.on.add(world.character, number, world.step)
    for faced in bits(world.facing.targets(number)):
        world.facing.add(world.character, faced, world.step)
    world.take_posture(_SITTING)
    return None


def _lie(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    if world.was_in(_LYING):
        return False, f"{_me(world)} is lying"
    complaint = _lacks(world, number, _LIEABLE, "is not lieable") or _crowded(world, number, BERTHS)
    if complaint:
        return complaint
    _done(world)
    world.on.add(world.character, number, world.step)
    world.take_posture(_LYING)
    return None


def _stand_up(world: World, _: int, __: int) -> Complaint:
    if not world.is_resting():
        return False, f"{_me(world)} is not sitting"
    _done(world)
    world.take_posture(None)
    return None


def _sleep(world: World, _: int, __: int) -> Complaint:
    if not world.is_resting():
        return False, f"{_me(world)} is not lying or sitting"
    return _done(world)


# --- hands ---


def _grab(world: World, number: int, _: int) -> Complaint:
    if not world.apartment.grabbable >> number & 1:
        return False, f"{_label(world, number)} is not grabbable"
    if number in world.grabbed:
        return False, f"{_label(world, number)} already grabbed"
    complaint = _not_close(world, number) or _shut_in(world, number) or _no_free_hand(world)
    if complaint:
        return complaint
    hand = world.free_hand()
    assert hand is not None
    room = world.room_of(world.character)
    origin = _origin(world, number)
    _done(world)
    world.take_out(number)
    for edges in (world.on, world.close, world.left, world.right):
        edges.detach(number, world.step)
    world.come_close(world.character, number)
    hand.add(world.character, number, world.step)
    world.put_inside(number, room)
    if origin is not None:
        world.come_close(world.character, origin[0])
        world.grabbed[number] = origin
    return None


def _origin(world: World, number: int) -> tuple[int, Relation] | None:
    """The first node, other than a room, that a thing is on, inside or close to."""
    rooms = world.apartment.rooms
    # INSIDE was read before, to see whether the thing is shut in.
    for edges, relation, readings in ((world.on, ON, 1), (world.inside, INSIDE, 2), (world.close, CLOSE, 1)):
        if edges.targets(number) & ~rooms:
            ordered = edges.ordered_targets(number, world.step, readings)
            return next(other for other in ordered if not rooms >> other & 1), relation
    return None


def _drop(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_held(world, number):
        return complaint
    room = world.room_of(world.character)
    _done(world)
    world.release(number)
    world.put_inside(number, room)
    world.grabbed.pop(number, None)
    return None


def _unputtable(world: World, number: int, place: int, relation: Relation) -> Complaint:
    complaint = _not_held(world, number) or _not_close(world, place)
    if complaint:
        return complaint
    if relation is INSIDE and _is(world, place, _CAN_OPEN) and not world.has(_OPEN, place):
        return False, f"{_label(world, place)} is not open or is not openable"
    return None


def _put(world: World, number: int, place: int, relation: Relation) -> Complaint:
    _done(world)
    world.release(number)
    world.come_close(world.character, place)
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
    if not (_is(world, number, _POURABLE) or _is(world, number, _DRINKABLE)):
        return False, f"{_label(world, number)} is not pourable or drinkable"
    if not _is(world, place, _RECIPIENT) and _class_name(world, place) not in RECIPIENT_CLASSES:
        return False, f"{_label(world, place)} is not recipient"
    complaint = _not_held(world, number) or _not_close(world, place)
    if complaint:
        return complaint
    _done(world)
    world.put_inside(number, place)
    if _class_name(world, number) == "water":
        world.release(number)
    return None


def _put_on(world: World, number: int, _: int) -> Complaint:
    complaint = _not_held(world, number) or _lacks(world, number, _CLOTHES, "is not clothes")
    if complaint:
        return complaint
    _done(world)
    world.on.add(number, world.character, world.step)
    world.release(number)
    return None


def _put_off(world: World, number: int, _: int) -> Complaint:
    if not world.repaired:
        raise UndefinedStepError(f"{_label(world, number)} cannot be put off")
    if not world.on.targets(number) >> world.character & 1:
        return False, f"{_label(world, number)} is not on {_me(world)}"
    if complaint := _lacks(world, number, _CLOTHES, "is not clothes"):
        return complaint
    _done(world)
    world.on.remove(number, world.character, world.step)
    return None


# --- appliances, doors, plugs ---


def _open_or_close(world: World, number: int, opens: bool) -> Complaint:
    if not _is(world, number, _CAN_OPEN) and _class_name(world, number) not in OPENABLE_CLASSES:
        return False, f"{_label(world, number)} can not be opened"
    now, then = (_CLOSED, _OPEN) if opens else (_OPEN, _CLOSED)
    complaint = _not_close(world, number) or (_no_free_hand(world) if opens else None) or _not_in(world, number, now)
    if complaint:
        return complaint
    if opens and world.has(_IS_ON, number):
        return False, f"{_label(world, number)} is still on"
    _done(world)
    world.switch(number, now, then)
    return None


def _open(world: World, number: int, _: int) -> Complaint:
    return _open_or_close(world, number, True)


def _close(world: World, number: int, _: int) -> Complaint:
    return _open_or_close(world, number, False)


def _switch(world: World, number: int, now: State, then: State) -> Complaint:
    complaint = (
        _lacks(world, number, _HAS_SWITCH, "does not have a switch")
        or _not_close(world, number)
        or _not_in(world, number, now)
    )
    if complaint:
        return complaint
    if then is _IS_ON and world.has(_PLUGGED_OUT, number):
        return False, f"{_label(world, number)} is unplugged"
    _done(world)
    world.switch(number, now, then)
    return None


def _switch_on(world: World, number: int, _: int) -> Complaint:
    return _switch(world, number, _OFF, _IS_ON)


def _switch_off(world: World, number: int, _: int) -> Complaint:
    return _switch(world, number, _IS_ON, _OFF)


def _plug(world: World, number: int, now: State, then: State) -> Complaint:
    complaint = (
        _lacks(world, number, _HAS_PLUG, "does not have a plug")
        or _not_close(world, number)
        or _no_free_hand(world)
        or _not_in(world, number, now)
    )
    if complaint:
        return complaint
    _done(world)
    world.switch(number, now, then)
    if then is _PLUGGED_OUT and world.has(_IS_ON, number):
        return True, f"{_label(world, number)} is still on"
    return None


def _plug_in(world: World, number: int, _: int) -> Complaint:
    return _plug(world, number, _PLUGGED_OUT, _PLUGGED_IN)


def _plug_out(world: World, number: int, _: int) -> Complaint:
    return _plug(world, number, _PLUGGED_IN, _PLUGGED_OUT)


# --- cleaning ---


def _wipe(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    if not world.held():
        return False, f"{_me(world)} does not hold anything in hands"
    _done(world)
    world.switch(number, _DIRTY, _CLEAN)
    return None


def _wash(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    _done(world)
    world.switch(number, _DIRTY, _CLEAN)
    return None


# --- what changes nothing ---


def _greet(world: World, number: int, _: int) -> Complaint:
    return _lacks(world, number, _PERSON, "is not person") or _done(world)


def _drink(world: World, number: int, _: int) -> Complaint:
    if not (_is(world, number, _DRINKABLE) or _is(world, number, _RECIPIENT)):
        return False, f"{_label(world, number)} is not drinkable or not recipient"
    return _not_held(world, number) or _done(world)


def _look_at(world: World, number: int, _: int) -> Complaint:
    return _not_faced(world, number) or _done(world)


def _watch(world: World, number: int, _: int) -> Complaint:
    # Both rooms are looked up first, and asked for their ids only after the property.
    here, there = world.room(world.character), world.room(number)
    if complaint := _lacks(world, number, _LOOKABLE, "not lookable"):
        return complaint
    if there is None or here is None:
        raise UndefinedStepError(f"{_label(world, number if there is None else world.character)} is in no room")
    if there != here:
        return False, f"char room {_label(world, here)} is not node room {_label(world, there)}"
    if complaint := _not_faced(world, number):
        return complaint
    rests = _class_name(world, number) != "computer" and world.is_resting()
    if rests and not world.facing.targets(world.character) >> number & 1:
        return False, f"{_me(world)} is not facing {_label(world, number)} while sitting"
    complaint = _shut_in(world, number)
    _done(world)
    return (True, complaint[1]) if complaint else None


def _read(world: World, number: int, _: int) -> Complaint:
    return _lacks(world, number, _READABLE, "is not readable") or _not_held(world, number) or _done(world)


def _touch(world: World, number: int, _: int) -> Complaint:
    return _not_close(world, number) or _shut_in(world, number) or _done(world)


def _type(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    if _class_name(world, number) == "keyboard":
        return _done(world)
    return _lacks(world, number, _HAS_SWITCH, "does not have switch") or _done(world)


def _push(world: World, number: int, _: int) -> Complaint:
    return _not_close(world, number) or _shut_in(world, number) or _no_free_hand(world) or _done(world)


def _move(world: World, number: int, second: int) -> Complaint:
    if not _is(world, number, _MOVABLE) and _class_name(world, number) not in MOVABLE_CLASSES:
        return False, f"{_label(world, number)} is not movable"
    return _push(world, number, second)


def _squeeze(world: World, number: int, _: int) -> Complaint:
    complaint = _no_free_hand(world) or _not_close(world, number)
    if complaint:
        return complaint
    if _class_name(world, number) in SQUEEZABLE_CLASSES:
        return _done(world)
    return _lacks(world, number, _CLOTHES, "is not clothes") or _done(world)


def _cut(world: World, number: int, _: int) -> Complaint:
    complaint = (
        _no_free_hand(world)
        or _not_close(world, number)
        or _lacks(world, number, _EATABLE, "is not eatable")
        or _lacks(world, number, _CUTTABLE, "is not cuttable")
    )
    if complaint:
        return complaint
    if not world.held() & world.apartment.knives:
        return False, f"{_me(world)} is not holding a knife"
    return _done(world)


def _eat(world: World, number: int, _: int) -> Complaint:
    if complaint := _not_close(world, number):
        return complaint
    if _is(world, number, _EATABLE):
        return _done(world)
    on_it = world.on.sources(number)
    if not on_it:
        return False, f"{_label(world, number)} is not eatable"
    if not on_it & world.apartment.having[_EATABLE]:
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
