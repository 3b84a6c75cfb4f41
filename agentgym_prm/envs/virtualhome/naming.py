"""What a name means: which class of the apartment, and which of several things of that class.

A class name of the apartment means itself; any other name means the first class of the apartment that ``names.txt``
pairs with it, in the order of that file (``fridge`` for a ``freezer``). The source system loads such a table too, but
does not use it.

Of several things of a class a command means, in this order:

1. the one that it names by its id;
2. the one that an executed command meant before, or that the task introduces (the source system's ``object_id_dict``);
3. one that is close to, or inside, or around what the last executed command meant;
4. one that is close to the character;
5. any.

Among equals the lowest id counts. What is to be put or poured has to be in the hands, whatever else is called so. The
source system differs in two points: among equals it draws at random, and it remembers what a command meant that then
failed as well.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from agentgym_prm.envs.virtualhome.commands import CORE, FORMS, Command, Name
from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment, bits
from agentgym_prm.envs.virtualhome.world import World


@cache
def equivalents(name: str) -> tuple[str, ...]:
    """Other names for the same kind of thing.

    >>> equivalents("couch")
    ('sofa',)
    """
    return tuple(_pairs().get(name, ()))


@cache
def _pairs() -> Mapping[str, list[str]]:
    table = files("agentgym_prm.envs.virtualhome").joinpath("names.txt").read_text(encoding="utf-8")
    paired: defaultdict[str, list[str]] = defaultdict(list)
    for line in table.splitlines():
        if not line.startswith("#"):
            name, *others = line.split()
            for other in others:
                paired[name].append(other)
                paired[other].append(name)
    return {name: list(dict.fromkeys(others)) for name, others in paired.items()}


class Vocabulary:
    """The classes of an apartment, in the form of commands (``coffee_maker``). Immutable; made once for a task.

    Attributes:
        names: For each node its class.
        numbers: For each class the numbers of its nodes, by id.
        masks: For each class the mask of its nodes.
    """

    def __init__(self, apartment: Apartment) -> None:
        # Colons and round brackets mean something in a command.
        self.names = tuple(re.sub(r"[ :()]", "_", node.class_name.lower()) for node in apartment.nodes)
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for number in sorted(range(len(apartment.nodes)), key=lambda number: apartment.nodes[number].id):
            numbers[self.names[number]].append(number)
        self.apartment = apartment
        self.numbers = dict(numbers)
        self.masks = {name: sum(1 << number for number in each) for name, each in numbers.items()}

    def class_of(self, name: str) -> str | None:
        """The class that a name means here; ``None`` if there is no such thing."""
        if name in self.numbers:
            return name
        return next((other for other in equivalents(name) if other in self.numbers), None)


class UnknownReferenceError(Exception):
    """A name means nothing here; the message says why."""


class Naming:
    """Which things the names mean, as an episode goes on.

    Args:
        vocabulary: The classes of the apartment.
        introduced: Ids that the task introduces; the first of a class counts.
    """

    __slots__ = ("_last", "_named", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, introduced: Iterable[int] = ()) -> None:
        self._vocabulary = vocabulary
        self._named: dict[str, int] = {}
        self._last: int | None = None
        for node_id in introduced:
            number = vocabulary.apartment.number(node_id)
            self._named.setdefault(vocabulary.names[number], number)

    def copy(self) -> "Naming":
        """An independent one that remembers as much."""
        twin = Naming.__new__(Naming)
        twin._vocabulary, twin._named, twin._last = self._vocabulary, self._named.copy(), self._last
        return twin

    def meant(self, command: Command, world: World) -> tuple[int, ...]:
        """The numbers of the nodes that a command means now.

        Raises:
            UnknownReferenceError: One of its names means nothing.
        """
        if len(command.names) == 2:
            first = self._node(command.names[0], world, held=True)
            second = self._node(command.names[1], world)
            if first == second:
                raise UnknownReferenceError(f"{command.names[0]} cannot be put or poured into itself")
            return first, second
        return tuple(self._node(name, world) for name in command.names)

    def remember(self, numbers: Iterable[int]) -> None:
        """Note what an executed command meant."""
        for number in numbers:
            self._named[self._vocabulary.names[number]] = number
            self._last = number

    def of_class(self, class_name: str, world: World) -> int:
        """The number of the node that a class of the apartment means now."""
        if class_name in self._named:
            return self._named[class_name]
        numbers = self._vocabulary.numbers[class_name]
        if len(numbers) == 1:
            return numbers[0]
        return self._chosen(class_name, self._surroundings(world))

    def name_of(self, number: int, world: World, *, held: bool = False) -> Name:
        """The shortest name that means a node: its class alone, if that is enough.

        Args:
            number: The node.
            world: The present state.
            held: Whether it is to be put or poured.
        """
        name = self._vocabulary.names[number]
        try:
            enough = self._node(Name(name), world, held=held) == number
        except UnknownReferenceError:
            enough = False
        return Name(name, None if enough else self._vocabulary.apartment.nodes[number].id)

    def admissible(self, engine: Engine, *, in_view: bool = False, core: bool = False) -> tuple[str, ...]:
        """Every command, by class names, that would be executed now, sorted.

        Args:
            engine: The present state.
            in_view: Only commands about what the character sees.
            core: Only actions of ``CORE``.
        """
        apartment, world = self._vocabulary.apartment, engine.world
        meant = self._meant_by_classes(world)
        held = {
            apartment.nodes[number].id: name
            for name, mask in self._vocabulary.masks.items()
            if mask & world.held()
            for number in [self._held(name, mask & world.held())]
        }
        found: list[str] = []
        for action, objects, places in engine.admissible_choices(in_view=in_view):
            form = FORMS.get(action)
            if form is None or (core and action not in CORE):
                continue
            if action.parameters == 0:
                found.append(form)
            elif action.parameters == 1:
                found.extend([form.format(meant[each]) for each in objects if each in meant])
            else:
                named = [(each, meant[each]) for each in places if each in meant]
                found.extend(
                    form.format(held[each], name)
                    for each in objects
                    if each in held
                    for place, name in named
                    if place != each
                )
        return tuple(sorted(found))

    def _meant_by_classes(self, world: World) -> dict[int, str]:
        """The id that each class means now, to the class."""
        nodes, named, surroundings = self._vocabulary.apartment.nodes, self._named, None
        meant = {}
        for name, numbers in self._vocabulary.numbers.items():
            number = named.get(name)
            if number is None:
                number = numbers[0]
                if len(numbers) > 1:
                    surroundings = surroundings or self._surroundings(world)
                    number = self._chosen(name, surroundings)
            meant[nodes[number].id] = name
        return meant

    def _node(self, name: Name, world: World, *, held: bool = False) -> int:
        class_name = self._vocabulary.class_of(name.name)
        if class_name is None:
            raise UnknownReferenceError(f"there is no {name.name:.80} here")
        if name.id is not None:
            number = self._vocabulary.apartment.numbers.get(name.id)
            if number is None or number not in self._vocabulary.numbers[class_name]:
                raise UnknownReferenceError(f"there is no {name} here")
            return number
        if not held:
            return self.of_class(class_name, world)
        mask = self._vocabulary.masks[class_name] & world.held()
        if not mask:
            raise UnknownReferenceError(f"{class_name} is not in hand")
        return self._held(class_name, mask)

    def _held(self, class_name: str, mask: int) -> int:
        named = self._named.get(class_name)
        if named is not None and mask >> named & 1:
            return named
        return next(number for number in self._vocabulary.numbers[class_name] if mask >> number & 1)

    def _surroundings(self, world: World) -> tuple[int, int]:
        """Masks of what is about the thing meant last, and of what is close to the character."""
        about = 0
        if self._last is not None:
            for edges in (world.close, world.inside):
                about |= edges.targets(self._last) | edges.sources(self._last)
        return about, world.close.targets(world.character) | world.close.sources(world.character)

    def _chosen(self, class_name: str, surroundings: tuple[int, int]) -> int:
        mask, numbers = self._vocabulary.masks[class_name], self._vocabulary.numbers[class_name]
        for preferred in surroundings:
            if mask & preferred:
                if not mask & preferred & (mask & preferred) - 1:
                    return bits(mask & preferred)[0]
                return next(number for number in numbers if preferred >> number & 1)
        return numbers[0]
