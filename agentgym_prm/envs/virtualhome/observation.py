"""What the character is told: the source system's words, and a list with ids for those who want to see more.

``partial`` is the source system's observation. Of the things that the character has come close to and sees it tells the
class and states, ``cup is CLEAN, table is DIRTY``, then what of them lies on what, then what the hands hold. Seen from
outside, three things are odd, and kept: a thing that is near lends its class to all of its kind, wherever they are
(all chairs are told of beside one); what is *inside* what is not told; and no thing is told twice in the same words.
The source system lists both parts in no fixed order; here, things come in the order of the graph's nodes.

It takes a thing for hidden if what it is in, the last of several, is neither a room nor open: so a coin in a bowl,
which cannot be opened, is hidden as well.
"""

from typing import Final

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Relation, State, bits
from agentgym_prm.envs.virtualhome.world import INSIDE, ON, World

NOTHING: Final = "Nothing happens."
OBSERVATIONS: Final = ("partial", "graph")
_TOLD: Final = (Relation.ON, Relation.BETWEEN, Relation.SITTING)


def partial(engine: Engine) -> str:
    """The source system's observation of the present state, with its space at the end; "" if there is nothing near.

    ``"cup is CLEAN, table is CLEAN, cup ON table. You have knife. "``
    """
    world = engine.world
    nodes = world.apartment.nodes
    close = world.close.targets(world.character)
    seen = {nodes[number].class_name for number in bits(close) if _is_observed(world, number)}
    things = dict.fromkeys(_described(world, number) for number, node in enumerate(nodes) if node.class_name in seen)
    told = sum(1 << number for number in bits(close) if nodes[number].class_name in seen)
    relations = dict.fromkeys(
        f"{nodes[number].class_name} {relation.name} {nodes[other].class_name}"
        for relation in _TOLD
        for edges in [world.edges(relation)]
        for number in bits(told)
        for other in bits(edges.targets(number) & told)
    )
    parts = [*things, *relations]
    hands = [nodes[number].class_name for number in bits(world.held())]
    return (f"{', '.join(parts)}. " if parts else "") + (f"You have {', '.join(hands)}. " if hands else "")


def graph(engine: Engine) -> str:
    """The room, and everything that the character is close to and sees: ids, states, what it is on or in; its hands.

    One thing a line. What it lists can be named with the id, ``grab cup (1001)``.
    """
    world = engine.world
    apartment = world.apartment
    room = world.room(world.character)
    lines = [f"You are in {_named(world, room)}." if room is not None else "You are nowhere."]
    near = world.close.targets(world.character) & world.visible() & ~apartment.bit[world.character]
    lines += [_line(world, number) for number in bits(near)]
    if held := world.held():
        lines.append(f"You have {', '.join(_named(world, number) for number in bits(held))}.")
    return "\n".join(lines)


def _described(world: World, number: int) -> str:
    name = world.apartment.nodes[number].class_name
    states = [state.name for state in State if world.in_state[state] >> number & 1]
    return f"{name} is {' and '.join(states)}" if states else name


def _line(world: World, number: int) -> str:
    states = [state.name for state in State if world.in_state[state] >> number & 1]
    places = [
        f"{relation.name} {_named(world, other)}"
        for relation in (ON, INSIDE)
        for other in bits(world.edges(relation).targets(number) & ~world.apartment.rooms)
    ]
    told = ", ".join(states + places)
    return _named(world, number) + (f": {told}" if told else "")


def _named(world: World, number: int) -> str:
    node = world.apartment.nodes[number]
    return f"{node.class_name} ({node.id})"


def _is_observed(world: World, number: int) -> bool:
    apartment = world.apartment
    if apartment.rooms >> number & 1 or world.held() >> number & 1:
        return True
    room = _last_container(world, world.character)
    container = _last_container(world, number)
    if room is None or container is None or not _is_within(world, number, room):
        return False
    return bool(apartment.rooms >> container & 1 or world.has(State.OPEN, container))


def _last_container(world: World, number: int) -> int | None:
    return next(reversed([*world.inside.ordered_targets(number, world.step)]), None)


def _is_within(world: World, number: int, room: int) -> bool:
    """Whether a node is in the room, directly or in something that is."""
    passed, above = 0, world.inside.targets(number)
    while above & ~passed:
        if above >> room & 1:
            return True
        passed |= above
        above = 0
        for other in bits(passed):
            above |= world.inside.targets(other)
    return False
