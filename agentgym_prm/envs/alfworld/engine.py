"""ALFWorld's game engine as a plain state machine: observation, feedback and admissible commands of the original.

The state is a handful of integers and three short lists of bit masks, so a step costs microseconds and a copy less.
What the original derives from PDDL facts by unification is read off masks here. Its quirks are kept, each with a test:

* ``inReceptacle`` is a relation: an object may lie in several receptacles, and is taken from one of them at a time.
* Receptacles may share a location: from there all of them can be handled, and none can be gone to.
* ``look`` names an object as lying "next to" the receptacles if it was taken out of one of them and then put down at
  the same location: the original lists what is at the location and is *known not to be* in a receptacle there.
* ``look`` before the first move sees nothing; lamps never go off; heating and cooling work with the door closed;
  slicing needs the object's own location, which may differ from its receptacle's.

Not in here: the step cap, rewards and ``info`` (see ``env.py``), and the interpretation of PDDL (see ``dialect.py``).
"""

import re
from collections.abc import Iterator
from typing import Final, TypeVar

from agentgym_prm.envs.alfworld.game import Game, bits

NOTHING_HAPPENS: Final = "Nothing happens."
PUT_GRAMMARS: Final = ("move", "put")

_HELP: Final = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""
_GREETING: Final = "-= Welcome to TextWorld, ALFRED! =-"
_EMPTY_HANDED: Final = -1

# Operations, as indices into Engine._OPERATIONS.
_LOOK, _INVENTORY, _HELP_OP, _GO, _OPEN, _CLOSE, _EXAMINE_RECEPTACLE, _EXAMINE_OBJECT = range(8)
_TAKE, _PUT, _USE, _HEAT, _CLEAN, _COOL, _SLICE = range(8, 15)
_UNKNOWN: Final = (-1, 0, 0)
_BARE_COMMANDS: Final = {"look": (_LOOK, 0, 0), "inventory": (_INVENTORY, 0, 0), "help": (_HELP_OP, 0, 0)}


class Engine:
    """One game in progress.

    Attributes:
        game: What is being played; shared, read-only.
        put_grammar: Whether the *listed* commands say ``move X to Y`` or ``put X in/on Y``; both are understood.
        valid: Whether the last command was executed.
        location: Number of the location where the agent stands.
        held: Number of the object in hand, or -1.
        contents: For each receptacle the mask of the objects in it.
        toggled: Mask of the objects that have been switched on.
    """

    __slots__ = (
        "_clean",
        "_cool",
        "_hot",
        "_objects_at",
        "_opened",
        "_removed",
        "_sliced",
        "contents",
        "game",
        "held",
        "location",
        "put_grammar",
        "toggled",
        "valid",
    )

    def __init__(self, put_grammar: str | None = None) -> None:
        """``put_grammar`` of ``None`` lists the form that the game file itself uses."""
        self.put_grammar = put_grammar

    def reset(self, game: Game) -> str:
        """Start ``game`` and return the opening text."""
        self.game = game
        self.location, self.held, self.valid = game.start_location, _EMPTY_HANDED, True
        self._opened, self.toggled = game.start_opened, game.start_toggled
        self._clean, self._hot, self._cool = game.start_clean, game.start_hot, game.start_cool
        self._sliced = game.start_sliced
        self.contents = list(game.start_contents)
        self._removed = [0] * len(game.receptacle_names)
        self._objects_at = list(game.start_objects_at)
        return f"{_GREETING}\n\n{self._opening_look()}\n\nYour task is to: {game.task}"

    def step(self, command: str) -> str:
        """Execute ``command`` and return the feedback; anything not executable changes nothing."""
        command = command.strip()
        operation, first, second = self.game.parsed.get(command) or self._parse(command)
        feedback = self._OPERATIONS[operation](self, first, second) if operation >= 0 else ""
        self.valid = bool(feedback)
        return feedback or NOTHING_HAPPENS

    def clone(self) -> "Engine":
        """An independent copy that goes on from the present state."""
        copy = Engine.__new__(Engine)
        copy.game, copy.put_grammar, copy.valid = self.game, self.put_grammar, self.valid
        copy.location, copy.held = self.location, self.held
        copy._opened, copy.toggled = self._opened, self.toggled
        copy._clean, copy._hot, copy._cool, copy._sliced = self._clean, self._hot, self._cool, self._sliced
        copy.contents = self.contents.copy()
        copy._removed = self._removed.copy()
        copy._objects_at = self._objects_at.copy()
        return copy

    def state_key(self) -> tuple[object, ...]:
        """A hashable value that two engines of one game share exactly when they will behave alike from here on."""
        return (
            self.location,
            self.held,
            self._opened,
            self.toggled,
            self._clean,
            self._hot,
            self._cool,
            self._sliced,
            tuple(self.contents),
            tuple(self._removed),
            tuple(self._objects_at),
        )

    # --- what holds now ---

    @property
    def won(self) -> bool:
        """Whether the goal holds."""
        return self.goal_condition_success_rate == 1.0

    @property
    def done(self) -> bool:
        """Whether the task ended: only winning does that."""
        return self.won

    @property
    def outcome(self) -> float:
        """1.0 if the goal holds, else 0.0."""
        return float(self.won)

    @property
    def goal_condition_success_rate(self) -> float:
        """Share of the goal's conditions that hold under the best choice of objects (see ``goal.py``)."""
        game, goal, contents = self.game, self.game.goal, self.contents
        if goal.lamp_type:
            return self._look_at_share()
        in_place, most = 0, 0
        for receptacle in game.target_receptacles:
            if inside := contents[receptacle] & game.target_objects:
                in_place |= inside
                most = max(most, inside.bit_count())
        if goal.count == 2:
            return min(most, 2) / 2
        if not goal.condition:
            return 1.0 if in_place else 0.0
        prepared = game.target_objects & self.in_state(goal.condition)
        # If no object satisfies both conditions, one that satisfies either is as near as it gets.
        return 1.0 if in_place & prepared else 0.5 if in_place or prepared else 0.0

    def _look_at_share(self) -> float:
        lamps, here = self.game.lamps, 0
        for receptacle in self.game.receptacles_at[self.location]:
            here |= self.contents[receptacle]
        holds = self.held >= 0 and bool(self.game.target_objects >> self.held & 1)
        both = bool(lamps & self.toggled & here)
        either = bool(lamps & (self.toggled | here))
        return (both + either + holds) / 3

    def in_state(self, condition: str) -> int:
        """Mask of the objects that are ``"clean"``, ``"hot"`` or ``"cool"``."""
        return self._clean if condition == "clean" else self._hot if condition == "hot" else self._cool

    def admissible_commands(self) -> tuple[str, ...]:
        """Every command that would be executed now, sorted, without repeats."""
        game, held, location = self.game, self.held, self.location
        slices = game.sliceable & self._objects_at[location] if held >= 0 and game.knives >> held & 1 else 0
        contents = [self.contents[receptacle] for receptacle in game.receptacles_at[location]]
        # Nothing else than what is here and in the hand decides; and walks come back to the same few places.
        key = (location, held, self._opened & game.receptacle_masks[location], slices, self.put_grammar, *contents)
        commands = game.commands.get(key)
        if commands is None:
            commands = self._list_commands(slices)
            _remember(game.commands, key, commands, limit=_COMMANDS_LIMIT)
        return commands

    def _list_commands(self, slices: int) -> tuple[str, ...]:
        game, held = self.game, self.held
        here = game.receptacles_at[self.location]
        before: list[str] = []  # clean, close, cool, examine: before "go to" in the alphabet
        heat: list[str] = []
        after: list[str] = []  # move, open, put, slice, take, use: after "look"
        names = game.receptacle_names
        open_here = [r for r in here if self.is_open(r)]
        closed_here = [r for r in here if r not in open_here]

        if held < 0:
            before.extend(sorted(f"close {names[r]}" for r in open_here if game.openable >> r & 1))
            before.extend(sorted(f"examine {names[r]}" for r in here))
            after.extend(sorted(f"open {names[r]}" for r in closed_here))
            if len(open_here) == 1:
                after.extend(self._take_commands(open_here[0]))
            else:
                after.extend(sorted(command for r in open_here for command in self._take_commands(r)))
        else:
            thing = game.object_names[held]
            before.extend(self._tool_commands("clean", game.cleanable, game.sinks, here))
            before.extend(sorted(f"close {names[r]}" for r in open_here if game.openable >> r & 1))
            before.extend(self._tool_commands("cool", game.coolable, game.fridges, here))
            before.extend(sorted([f"examine {thing}", *(f"examine {names[r]}" for r in here)]))
            heat = self._tool_commands("heat", game.heatable, game.microwaves, here)
            places = [names[r] for r in open_here if game.accepts[r] >> held & 1]
            if self.listed_put_grammar == "move":
                after.extend(sorted(self.put_command(thing, place) for place in places))
            after.extend(sorted(f"open {names[r]}" for r in closed_here))
            if self.listed_put_grammar == "put":
                after.extend(sorted(self.put_command(thing, place) for place in places))
            after.extend(sorted(f"slice {game.object_names[o]} with {thing}" for o in bits(slices)))
        after.extend(self._use_commands(here))
        middle = ("help", "inventory", "look") if game.dialect.has_help else ("inventory", "look")
        return (*before, *self._go_commands(), *heat, *middle, *after)

    @property
    def listed_put_grammar(self) -> str:
        """The form in which puts are listed: the one asked for, else the game file's."""
        return self.put_grammar or self.game.dialect.put_grammar

    def put_command(self, thing: str, place: str) -> str:
        """The command for putting ``thing`` in or on ``place``, in the grammar that is listed."""
        return f"move {thing} to {place}" if self.listed_put_grammar == "move" else f"put {thing} in/on {place}"

    def is_open(self, receptacle: int) -> bool:
        """Whether things can be put into and taken from it."""
        return not self.game.openable >> receptacle & 1 or bool(self._opened >> receptacle & 1)

    def _go_commands(self) -> tuple[str, ...]:
        game = self.game
        commands = game.go_commands.get(self.location)
        if commands is None:
            pairs = zip(game.receptacle_names, game.receptacle_location, strict=True)
            commands = tuple(sorted(f"go to {name}" for name, location in pairs if location != self.location))
            game.go_commands[self.location] = commands
        return commands

    def _take_commands(self, receptacle: int) -> tuple[str, ...]:
        game, contents = self.game, self.contents[receptacle]
        commands = game.take_commands.get((receptacle, contents))
        if commands is None:
            place, names = game.receptacle_names[receptacle], game.object_names
            commands = tuple(sorted(f"take {names[o]} from {place}" for o in bits(contents & game.pickupable)))
            _remember(game.take_commands, (receptacle, contents), commands)
        return commands

    def _tool_commands(self, verb: str, able: int, tools: int, here: tuple[int, ...]) -> list[str]:
        if not able >> self.held & 1:
            return []
        thing, names = self.game.object_names[self.held], self.game.receptacle_names
        return sorted(f"{verb} {thing} with {names[r]}" for r in here if tools >> r & 1)

    def _use_commands(self, here: tuple[int, ...]) -> list[str]:
        lamps = 0
        for receptacle in here:
            lamps |= self.contents[receptacle] & self.game.toggleable
        return sorted(f"use {self.game.object_names[o]}" for o in bits(lamps)) if lamps else []

    # --- texts ---

    def _opening_look(self) -> str:
        if self.game.receptacles_at[self.location]:
            return self._look(0, 0)
        seen = _enumerate([f"a {name}" for name in self.game.receptacle_names])
        return f"You are in the middle of a room. Looking quickly around you, you see {seen}."

    def _receptacle_text(self, receptacle: int) -> str:
        game, name = self.game, self.game.receptacle_names[receptacle]
        if not self.is_open(receptacle):
            return f"The {name} is closed."
        contents = self.contents[receptacle]
        text = game.receptacle_texts.get((receptacle, contents))
        if text is None:
            seen = _enumerate([f"a {game.object_names[o]}" for o in bits(contents)])
            is_openable = game.openable >> receptacle & 1
            opening = f"The {name} is open. In it, you see" if is_openable else f"On the {name}, you see"
            text = f"{opening} {seen}."
            _remember(game.receptacle_texts, (receptacle, contents), text)
        return text

    # --- operations: each returns its feedback, or "" if its precondition fails ---

    def _look(self, _first: int, _second: int) -> str:
        game, here = self.game, self.game.receptacles_at[self.location]
        if not here:
            return "You are in the middle of a room. Looking quickly around you, you see nothing."
        facing = _enumerate([game.receptacle_names[r] for r in here])
        # One entry for each receptacle that the object is known to have left, as the original lists them.
        floor = [
            f"a {game.object_names[o]}"
            for o in bits(self._objects_at[self.location])
            for r in here
            if self._removed[r] >> o & 1
        ]
        return f"You are facing the {facing}. Next to it, you see {_enumerate(floor)}."

    def _inventory(self, _first: int, _second: int) -> str:
        if self.held < 0:
            return "You are not carrying anything."
        return f"You are carrying: a {self.game.object_names[self.held]}."

    def _help(self, _first: int, _second: int) -> str:
        return _HELP if self.game.dialect.has_help else ""

    def _go(self, receptacle: int, _second: int) -> str:
        game = self.game
        location = game.receptacle_location[receptacle]
        if location == self.location:
            return ""
        self.location = location
        named = game.dialect.arrival_names_location
        place = game.location_names[location] if named else game.receptacle_names[receptacle]
        return f"You arrive at {place}. {self._receptacle_text(receptacle)}"

    def _open(self, receptacle: int, _second: int) -> str:
        if not self._is_here(receptacle) or self.is_open(receptacle):
            return ""
        self._opened |= 1 << receptacle
        return f"You open the {self.game.receptacle_names[receptacle]}. {self._receptacle_text(receptacle)}"

    def _close(self, receptacle: int, _second: int) -> str:
        if not self._is_here(receptacle) or not self.game.openable & self._opened & 1 << receptacle:
            return ""
        self._opened &= ~(1 << receptacle)
        return f"You close the {self.game.receptacle_names[receptacle]}."

    def _examine_receptacle(self, receptacle: int, _second: int) -> str:
        return self._receptacle_text(receptacle) if self._is_here(receptacle) else ""

    def _examine_object(self, obj: int, _second: int) -> str:
        if obj != self.held:
            return ""
        game, name = self.game, self.game.object_names[obj]
        if game.containers >> obj & 1:
            seen = _enumerate([f"a {inner}" for inner in game.inner_objects.get(obj, ())])
            return f"This is a normal {name}. In it, you see {seen}."
        clean, sliced = self._clean >> obj & 1, self._sliced >> obj & 1
        hot, cool = self._hot >> obj & 1, self._cool >> obj & 1
        warmth = "hot" if hot else "cool" if cool else ""
        if clean or sliced or hot or cool:
            if warmth == "cool" and not clean and not sliced:
                warmth = "cold"
            prepared = " and ".join(word for word in (warmth, "clean" if clean else "") if word)
            return f"This is a {' '.join(word for word in (prepared, 'sliced' if sliced else '', name) if word)}."
        if game.toggleable & self.toggled & 1 << obj:
            return f"This {name} is on."
        return f"There's nothing special about {name}."

    def _take(self, obj: int, receptacle: int) -> str:
        bit = 1 << obj
        if self.held >= 0 or not self._is_here(receptacle) or not self.is_open(receptacle):
            return ""
        if not self.contents[receptacle] & self.game.pickupable & bit:
            return ""
        self.contents[receptacle] ^= bit
        self._removed[receptacle] |= bit
        self._objects_at[self.location] &= ~bit
        self.held = obj
        return f"You pick up the {self.game.object_names[obj]} from the {self.game.receptacle_names[receptacle]}."

    def _put(self, obj: int, receptacle: int) -> str:
        game, bit = self.game, 1 << obj
        if obj != self.held or not self._is_here(receptacle) or not self.is_open(receptacle):
            return ""
        if not game.accepts[receptacle] & bit:
            return ""
        self.contents[receptacle] |= bit
        self._removed[receptacle] &= ~bit
        self._objects_at[self.location] |= bit
        self.held = _EMPTY_HANDED
        thing, place = game.object_names[obj], game.receptacle_names[receptacle]
        if game.dialect.put_grammar == "put":
            return f"You put the {thing} in/on the {place}."
        return f"You move the {thing} to the {place}."

    def _use(self, obj: int, _second: int) -> str:
        bit = 1 << obj
        if not self.game.toggleable & bit:
            return ""
        if not any(self.contents[r] & bit for r in self.game.receptacles_at[self.location]):
            return ""
        self.toggled |= bit
        return f"You turn on the {self.game.object_names[obj]}."

    def _heat(self, obj: int, receptacle: int) -> str:
        if not self._can_prepare(obj, receptacle, self.game.heatable, self.game.microwaves):
            return ""
        self._hot |= 1 << obj
        self._cool &= ~(1 << obj)
        return f"You heat the {self.game.object_names[obj]} using the {self.game.receptacle_names[receptacle]}."

    def _clean_object(self, obj: int, receptacle: int) -> str:
        if not self._can_prepare(obj, receptacle, self.game.cleanable, self.game.sinks):
            return ""
        self._clean |= 1 << obj
        return f"You clean the {self.game.object_names[obj]} using the {self.game.receptacle_names[receptacle]}."

    def _cool_object(self, obj: int, receptacle: int) -> str:
        if not self._can_prepare(obj, receptacle, self.game.coolable, self.game.fridges):
            return ""
        self._cool |= 1 << obj
        self._hot &= ~(1 << obj)
        return f"You cool the {self.game.object_names[obj]} using the {self.game.receptacle_names[receptacle]}."

    def _slice(self, obj: int, knife: int) -> str:
        game = self.game
        if knife != self.held or not game.knives >> knife & 1:
            return ""
        if not game.sliceable & self._objects_at[self.location] & 1 << obj:
            return ""
        self._sliced |= 1 << obj
        return f"You sliced the {game.object_names[obj]} with the {game.object_names[knife]}."

    def _can_prepare(self, obj: int, receptacle: int, able: int, tools: int) -> bool:
        return bool(obj == self.held and able >> obj & 1 and tools >> receptacle & 1 and self._is_here(receptacle))

    def _is_here(self, receptacle: int) -> bool:
        return self.game.receptacle_location[receptacle] == self.location

    _OPERATIONS: Final = (
        _look,
        _inventory,
        _help,
        _go,
        _open,
        _close,
        _examine_receptacle,
        _examine_object,
        _take,
        _put,
        _use,
        _heat,
        _clean_object,
        _cool_object,
        _slice,
    )

    # --- commands ---

    def _parse(self, command: str) -> tuple[int, int, int]:
        """Operation and entity numbers; remembered if the command names entities of this game."""
        parsed = next(self._readings(command), _UNKNOWN)
        if parsed is not _UNKNOWN:
            _remember(self.game.parsed, command, parsed)
        return parsed

    def _readings(self, command: str) -> Iterator[tuple[int, int, int]]:
        game = self.game
        if command in _BARE_COMMANDS:
            yield _BARE_COMMANDS[command]
        verb, _, rest = command.partition(" ")
        receptacles, objects = game.receptacle_index, game.object_index
        if verb == "go":
            operation, kind = _GO, receptacles
            rest = rest.removeprefix("to ") if rest.startswith("to ") else ""
        elif verb in _RECEPTACLE_VERBS:
            operation, kind = _RECEPTACLE_VERBS[verb], receptacles
        elif verb == "use":
            operation, kind = _USE, objects
        elif verb == "examine":
            operation, kind = (_EXAMINE_OBJECT, objects) if rest in objects else (_EXAMINE_RECEPTACLE, receptacles)
        else:
            for operation, preposition in _PAIR_VERBS.get(verb, ()):
                first, _, second = rest.partition(preposition)
                others = objects if operation == _SLICE else receptacles
                if first in objects and second in others:
                    yield operation, objects[first], others[second]
            return
        if rest in kind:
            yield operation, kind[rest], 0


_RECEPTACLE_VERBS: Final = {"open": _OPEN, "close": _CLOSE}
_PAIR_VERBS: Final = {
    "take": ((_TAKE, " from "),),
    "move": ((_PUT, " to "),),
    "put": ((_PUT, " in/on "), (_PUT, " in "), (_PUT, " on ")),
    "heat": ((_HEAT, " with "),),
    "clean": ((_CLEAN, " with "),),
    "cool": ((_COOL, " with "),),
    "slice": ((_SLICE, " with "),),
}

_ANY_PUT: Final = re.compile(r"move (.+) to (.+)|put (.+?) (?:in/on|in|on) (.+)")


def in_put_grammar(command: str, put_grammar: str) -> str:
    """``command``, with its put, if it is one, in the form ``"move"`` or ``"put"``.

    >>> in_put_grammar("move mug 1 to shelf 2", "put"), in_put_grammar("put mug 1 in shelf 2", "move")
    ('put mug 1 in/on shelf 2', 'move mug 1 to shelf 2')
    """
    match = _ANY_PUT.fullmatch(command)
    if match is None:
        return command
    thing, place = match[1] or match[3], match[2] or match[4]
    return f"move {thing} to {place}" if put_grammar == "move" else f"put {thing} in/on {place}"


_CACHE_LIMIT: Final = 4096
_COMMANDS_LIMIT: Final = 256  # lists of commands are the largest entries: half a megabyte a game at most
_K = TypeVar("_K")
_V = TypeVar("_V")


def _remember(cache: dict[_K, _V], key: _K, value: _V, limit: int = _CACHE_LIMIT) -> None:
    """Keep ``value``; a cache that has grown too large starts anew, which costs less than tracking use."""
    if len(cache) >= limit:
        cache.clear()
    cache[key] = value


def _enumerate(parts: list[str]) -> str:
    if not parts:
        return "nothing"
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + ", and " + parts[-1]
