"""What the texts of a household episode have told so far, in a form short enough to be shown at every turn.

It reads observations (mode ``partial``), admissible commands and the commands given; the task is not looked at. Names
stand for whatever they mean: two chairs are one here.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Self

from agentgym_prm.envs.virtualhome.commands import parse_command
from agentgym_prm.envs.virtualhome.graph import Relation, State
from agentgym_prm.envs.virtualhome.homes import FURNITURE
from agentgym_prm.envs.virtualhome.observation import NOTHING
from agentgym_prm.envs.virtualhome.script import Action

ROOMS: Final = (
    "bathroom", "bedroom", "dining_room", "entrance_hall", "home_office", "kids_bedroom", "kitchen", "living_room",
)  # fmt: skip
STORES: Final = frozenset(
    {
        "basket_for_clothes", "bathroom_cabinet", "bookshelf", "box", "cabinet", "closet", "cupboard", "dishwasher",
        "drawer", "dresser", "filing_cabinet", "freezer", "fridge", "kitchen_cabinet", "microwave", "nightstand",
        "oven", "trashcan", "washing_machine",
    }
)  # fmt: skip
"""Classes taken to be worth opening in search of something."""
_RELATIONS: Final = frozenset(relation.name for relation in Relation)
_STATES: Final = frozenset(state.name for state in State)
_HANDS: Final = re.compile(r"(?:^|(?<=\. ))You have ([^.]*)\. $")
_CHANGES: Final = {
    Action.OPEN: ("OPEN", "CLOSED"),
    Action.CLOSE: ("CLOSED", "OPEN"),
    Action.SWITCHON: ("ON", "OFF"),
    Action.SWITCHOFF: ("OFF", "ON"),
    Action.PLUGIN: ("PLUGGED_IN", "PLUGGED_OUT"),
    Action.PLUGOUT: ("PLUGGED_OUT", "PLUGGED_IN"),
}
_USUAL_ROOMS: Final = {name: room for room, pieces in FURNITURE.items() for name in pieces}
_GOING: Final = (Action.WALK, Action.RUN, Action.FIND)


class HomeMemory:
    """Reads an episode turn by turn.

    Attributes:
        rooms: Names of the rooms that can be walked to.
        lists_all: Whether things of several rooms are on offer from the start, so not only those in view.
        visited: Those that the character has been in.
        room: Where it is, as far as known; at first the room where things like those on offer usually stand, if they
            agree on one; else "".
        where: For each thing the room in which it could last be walked to; tells nothing if ``lists_all``.
        states: For each thing that was near: its states, as words; none if none were told.
        near: What it is near to now, in the order told.
        held: What the hands hold.
        on: For each thing told to lie on something, or put on it: on what.
        inside: For each thing put or poured into something: into what.
        worn: What was put on.
        posture: What it sat or lay down on last; "" after standing up.
        done: Actions that were executed, with the names of their objects as written.
        failed: Whether the last command was refused.
        last: The last two commands.
        offers: What can be done now: for each action the objects as written.
    """

    def __init__(self) -> None:
        self.rooms: tuple[str, ...] = ()
        self.visited: tuple[str, ...] = ()
        self.lists_all = False
        self.room = ""
        self.where: dict[str, str] = {}
        self.states: dict[str, tuple[str, ...]] = {}
        self.near: tuple[str, ...] = ()
        self.held: tuple[str, ...] = ()
        self.on: dict[str, str] = {}
        self.inside: dict[str, str] = {}
        self.worn: tuple[str, ...] = ()
        self.posture = ""
        self.done: frozenset[tuple[Action, tuple[str, ...]]] = frozenset()
        self.failed = False
        self.last: tuple[str, ...] = ()
        self.offers: Mapping[Action, tuple[tuple[str, ...], ...]] = {}

    @classmethod
    def begin(cls, task: str, observation: str, admissible: Sequence[str]) -> Self:
        """After the opening; the task is not looked at."""
        memory = cls()
        offers = _offers(tuple(admissible))
        names = [names[0] for names in offers.get(Action.WALK, ())]
        memory.rooms = tuple(name for name in names if name in ROOMS)
        usual = {_USUAL_ROOMS[name] for name in names if name in _USUAL_ROOMS}
        memory.lists_all = len(usual) > 1
        if len(usual) == 1 and usual & set(memory.rooms):
            memory.room = usual.pop()
            memory.visited = (memory.room,)
        memory._stand(tuple(admissible))
        return memory

    def copy(self) -> Self:
        """An independent one that has read as much."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        for name in ("where", "states", "on", "inside"):
            setattr(twin, name, getattr(self, name).copy())
        return twin

    def observe(self, command: str, observation: str, admissible: Sequence[str]) -> None:
        """Take in a turn."""
        self.last = (*self.last[-1:], command)
        self.failed = observation == NOTHING
        if not self.failed:
            self._acted(command)
            self._read(observation)
        self._stand(tuple(admissible))

    @property
    def closed(self) -> tuple[str, ...]:
        """Things last told to be closed."""
        return tuple(name for name, states in self.states.items() if "CLOSED" in states)

    @property
    def unopened(self) -> tuple[str, ...]:
        """Things in which something may be hidden: not seen from near yet, or closed when they were."""
        return tuple(
            name for name in self.where if name in STORES and (name not in self.states or "CLOSED" in self.states[name])
        )

    def offered(self, action: Action, *names: str) -> bool:
        """Whether a command can be executed now, as far as it is listed."""
        return names in self.offers.get(action, ())

    def _acted(self, text: str) -> None:
        command = parse_command(text)
        if command is None:
            return
        names = tuple(name.name for name in command.names)
        self.done |= {(command.action, names)}
        if command.action in _GOING:
            self._went(names[0])
        elif command.action in _CHANGES:
            entered, left = _CHANGES[command.action]
            kept = [state for state in self.states.get(names[0], ()) if state not in (entered, left)]
            self.states[names[0]] = (entered, *kept)
        elif command.action in (Action.PUTBACK, Action.PUTIN, Action.POUR):
            where = self.on if command.action is Action.PUTBACK else self.inside
            where[names[0]] = names[1]
        elif command.action is Action.GRAB:
            self.on.pop(names[0], None)
            self.inside.pop(names[0], None)
        elif command.action is Action.PUTON:
            self.worn = (*self.worn, names[0])
        elif command.action in (Action.SIT, Action.LIE):
            self.posture = names[0]
        elif command.action is Action.STANDUP:
            self.posture = ""

    def _went(self, name: str) -> None:
        room = name if name in self.rooms else self.where.get(name, "")
        if room or name not in self.where:
            self.room = room
        if room and room not in self.visited:
            self.visited = (*self.visited, room)

    def _read(self, observation: str) -> None:
        hands = _HANDS.search(observation)
        self.held = tuple(hands[1].split(", ")) if hands else ()
        near = observation[: hands.start()] if hands else observation
        names = []
        for part in near.strip().removesuffix(".").split(", "):
            name, _, rest = part.partition(" ")
            relation, _, other = rest.partition(" ")
            if relation == "is" and set(states := other.split(" and ")) <= _STATES:
                self.states[name] = tuple(states)
                names.append(name)
            elif relation in _RELATIONS and other:
                self.on[name] = other
            elif name and not rest:
                self.states[name] = ()
                names.append(name)
        self.near = tuple(dict.fromkeys(names))

    def _stand(self, admissible: tuple[str, ...]) -> None:
        self.offers = _offers(admissible)
        names = [names[0] for names in self.offers.get(Action.WALK, ())]
        for name in names:
            if name not in self.rooms:
                self.where[name] = self.room
        for name in self.held:
            self.where.pop(name, None)
        # Of several things of a name the one that commands mean counts.
        for action, (entered, left) in _CHANGES.items():
            for names_ in self.offers.get(action, ()):
                if entered in (states := self.states.get(names_[0], ())):
                    self.states[names_[0]] = tuple(left if state == entered else state for state in states)


@lru_cache(512)
def _offers(admissible: tuple[str, ...]) -> Mapping[Action, tuple[tuple[str, ...], ...]]:
    """The commands by action; several read the same list in a turn. In a full apartment it takes some 40 kB."""
    offers: defaultdict[Action, list[tuple[str, ...]]] = defaultdict(list)
    for text in admissible:
        if command := parse_command(text):
            offers[command.action].append(tuple(name.name for name in command.names))
    return {action: tuple(names) for action, names in offers.items()}
