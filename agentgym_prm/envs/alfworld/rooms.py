"""Tables of the builtin games: object and receptacle classes, what fits where, and what the four kinds of room hold.

Class names, affordances and the relation "a receptacle of this class may hold an object of that class" are the
benchmark's. Which rooms have what, how much of it and where things lie at the start are our own choice, made so that
the rooms look like the benchmark's: an apple is mostly on a countertop or in the fridge, never in a drawer.

Data only; ``generate.py`` draws games from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _rows(text: str) -> dict[str, str]:
    """First word and rest of every line."""
    return {name: rest for name, _, rest in (line.partition(" ") for line in text.strip().splitlines())}


def _weights(text: str) -> dict[str, int]:
    """``"Sofa 3, Bed 1"`` as ``{"Sofa": 3, "Bed": 1}``."""
    pairs = (item.split() for item in text.split(",") if item.strip())
    return {name: int(weight) for name, weight in pairs}


# --- classes ---

AFFORDANCES: Final[Mapping[str, tuple[str, ...]]] = {
    "pickupable": _names(
        "AlarmClock Apple BaseballBat BasketBall Book Boots Bowl Box Bread ButterKnife CD Candle CellPhone Cloth "
        "CreditCard Cup DishSponge Egg Fork Glassbottle HandTowel Kettle KeyChain Knife Ladle Laptop Lettuce Mug "
        "Newspaper Pan PaperTowelRoll Pen Pencil PepperShaker Pillow Plate Plunger Pot Potato RemoteControl SaltShaker "
        "ScrubBrush SoapBar SoapBottle Spatula Spoon SprayBottle Statue TeddyBear TennisRacket TissueBox ToiletPaper "
        "Tomato Towel Vase Watch WateringCan WineBottle"
    ),
    "isreceptacleobject": _names("Bowl Box Cup Mug Pan Plate Pot"),
    "cleanable": _names(
        "Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Kettle Knife Ladle Lettuce Mug Pan Plate Pot Potato "
        "SoapBar Spatula Spoon Tomato"
    ),
    "heatable": _names("Apple Bread Cup Egg Mug Plate Potato Tomato"),
    "coolable": _names("Apple Bowl Bread Cup Egg Lettuce Mug Pan Plate Pot Potato Tomato WineBottle"),
    "toggleable": _names("DeskLamp FloorLamp"),
    "sliceable": _names("Apple Bread Egg Lettuce Potato Tomato"),
}
"""Object classes by what can be done with them."""

LAMP: Final = "DeskLamp"
"""The lamp to look at things with. Floor lamps stand in no receptacle, and only what lies in one can be switched on."""

DOORS: Final[Mapping[str, float]] = {"Cabinet": 0.85, "Drawer": 0.85, "Fridge": 1.0, "Microwave": 1.0, "Safe": 0.85}
"""Receptacle classes with doors, and the share of their receptacles that have one; the others are always open."""

ACCEPTS: Final[Mapping[str, tuple[str, ...]]] = {
    receptacle: _names(objects)
    for receptacle, objects in _rows("""
ArmChair Book Box CellPhone Cloth CreditCard KeyChain Laptop Newspaper Pillow RemoteControl
BathtubBasin Cloth DishSponge HandTowel SoapBar
Bed BaseballBat BasketBall Book CellPhone Laptop Pillow TennisRacket
Cabinet Book Bowl Box CD Candle Cloth Cup DishSponge Glassbottle HandTowel Kettle Ladle Mug Newspaper Pan \
    PepperShaker Plate Plunger Pot SaltShaker SoapBar SoapBottle SprayBottle TissueBox ToiletPaper Vase \
    WateringCan WineBottle
Cart Candle Cloth DishSponge HandTowel Plunger SoapBar SoapBottle SprayBottle TissueBox ToiletPaper
CoffeeMachine Mug
CoffeeTable Book Bowl Box Candle CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil Plate RemoteControl \
    Statue TissueBox Vase Watch WateringCan
CounterTop AlarmClock Apple Book Bowl Bread ButterKnife CD Candle CellPhone Cloth CreditCard Cup DishSponge Egg \
    Fork Glassbottle HandTowel Kettle KeyChain Knife Ladle Laptop Lettuce Mug Pan Pen Pencil \
    PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBar SoapBottle Spatula Spoon SprayBottle \
    Statue TissueBox ToiletPaper Tomato Vase WineBottle
Desk AlarmClock BasketBall Book Bowl Box CD CellPhone Cloth CreditCard KeyChain Laptop Mug Pen Pencil \
    RemoteControl Statue TennisRacket TissueBox Vase Watch WateringCan
DiningTable AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle CellPhone Cloth \
    CreditCard Cup DishSponge Egg Fork Glassbottle Kettle KeyChain Knife Ladle Laptop Lettuce Mug \
    Newspaper Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBottle Spatula \
    Spoon SprayBottle Statue TennisRacket TissueBox Tomato Vase Watch WateringCan WineBottle
Drawer Book ButterKnife CD Candle CellPhone Cloth CreditCard DishSponge Fork HandTowel KeyChain Knife Ladle \
    Newspaper Pen Pencil PepperShaker RemoteControl SaltShaker SoapBar SoapBottle Spatula Spoon \
    SprayBottle TissueBox ToiletPaper Watch WateringCan
Dresser AlarmClock BasketBall Book Bowl Box CD Candle CellPhone Cloth CreditCard KeyChain Laptop Mug \
    Newspaper Pen Pencil Plate RemoteControl SprayBottle Statue TennisRacket TissueBox ToiletPaper Vase \
    Watch WateringCan
Fridge Apple Bowl Bread Cup Egg Glassbottle Lettuce Mug Pan Plate Pot Potato Tomato WineBottle
GarbageCan Apple Bread CD Cloth DishSponge Egg HandTowel Lettuce Newspaper Pen Pencil Potato SoapBar SoapBottle \
    SprayBottle TissueBox ToiletPaper Tomato WineBottle
HandTowelHolder HandTowel
LaundryHamper Cloth
Microwave Apple Bowl Bread Cup Egg Glassbottle Mug Plate Potato Tomato
Ottoman Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl
Safe CD CellPhone CreditCard KeyChain Statue Vase
Shelf AlarmClock Book Bowl Box CD Candle CellPhone Cloth CreditCard Cup DishSponge Glassbottle HandTowel \
    Kettle KeyChain Mug Newspaper Pen Pencil PepperShaker Plate Pot RemoteControl SaltShaker SoapBar \
    SoapBottle SprayBottle Statue TissueBox ToiletPaper Vase Watch WateringCan WineBottle
SideTable AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle CellPhone Cloth \
    CreditCard Cup DishSponge Egg Fork HandTowel Kettle KeyChain Knife Laptop Lettuce Mug Newspaper Pan \
    Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBar SoapBottle Spatula Spoon \
    SprayBottle Statue TennisRacket TissueBox ToiletPaper Tomato Vase Watch WateringCan WineBottle
SinkBasin Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Glassbottle HandTowel Kettle Knife Ladle \
    Lettuce Mug Pan Plate Pot Potato SoapBar Spatula Spoon Tomato
Sofa Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl
StoveBurner Kettle Pan Pot
TVStand TissueBox
Toaster
Toilet Candle Cloth DishSponge HandTowel SoapBar SoapBottle SprayBottle TissueBox ToiletPaper
ToiletPaperHanger ToiletPaper
TowelHolder Towel
""").items()
}
"""Receptacle classes and the object classes that one may put there: the benchmark's ``canContain``."""

GOAL_RECEPTACLES: Final = _names(
    "ArmChair Bed Cabinet Cart CoffeeMachine CoffeeTable CounterTop Desk DiningTable Drawer Dresser Fridge GarbageCan "
    "Microwave Ottoman Safe Shelf SideTable Sofa StoveBurner Toilet ToiletPaperHanger"
)
"""Receptacle classes that the benchmark's tasks ask to put things into."""

# --- where things lie at the start ---

_PLACES: Final = _rows("""
AlarmClock      Desk 4, SideTable 3, DiningTable 1, CounterTop 1 | Shelf 3, Dresser 2
Apple           CounterTop 4, Fridge 4, DiningTable 3, Microwave 2, GarbageCan 2, SideTable 1 | SinkBasin 2
Book            Bed 4, Desk 3, CounterTop 3, Drawer 2, SideTable 2, CoffeeTable 2, Sofa 2, Cabinet 1, Shelf 1 \
                | Dresser 2, DiningTable 2, ArmChair 1
Bowl            Cabinet 4, CounterTop 3, Fridge 3, DiningTable 3, Desk 3, Shelf 2, Dresser 2, CoffeeTable 2, \
                Microwave 1 \
                | SinkBasin 2, SideTable 2
Box             Sofa 3, DiningTable 3, CoffeeTable 3, Shelf 2, SideTable 2, Cabinet 1, Ottoman 1 \
                | Desk 2, Dresser 2, ArmChair 2
Bread           CounterTop 5, Fridge 2, SideTable 2, GarbageCan 1 | DiningTable 3, Microwave 1
ButterKnife     CounterTop 5, DiningTable 3, Drawer 3, SideTable 2 | SinkBasin 2
CD              Drawer 4, Desk 3, Shelf 2, GarbageCan 2, DiningTable 1, Cabinet 1, Safe 1 | SideTable 2, Dresser 2
Candle          CounterTop 4, Cabinet 2, Drawer 2, CoffeeTable 2, Shelf 1, DiningTable 1, Dresser 1, Cart 1 \
                | Toilet 4, SideTable 2
CellPhone       Bed 4, Drawer 3, Desk 3, Dresser 2, SideTable 2, CounterTop 2, CoffeeTable 1, Sofa 1, Safe 1 \
                | Shelf 2, DiningTable 2, ArmChair 2
Cloth           Cabinet 3, CounterTop 2, Drawer 2, SinkBasin 1, Toilet 1, Shelf 1, Cart 1 \
                | BathtubBasin 4, GarbageCan 2
CreditCard      Drawer 4, Desk 3, Dresser 2, SideTable 2, Sofa 2, CoffeeTable 2, DiningTable 2, CounterTop 2, Safe 1 \
                | Shelf 3, ArmChair 2
Cup             Cabinet 4, CounterTop 4, DiningTable 3, SinkBasin 2, Shelf 1, SideTable 1 | Fridge 3, Microwave 2
DishSponge      CounterTop 3, Cabinet 3, Drawer 3, SinkBasin 2, Shelf 1, SideTable 1, BathtubBasin 1, Toilet 1, \
                Cart 1 \
                | DiningTable 2, GarbageCan 2
Egg             Fridge 4, CounterTop 4, Microwave 2, SinkBasin 2, SideTable 1 | DiningTable 2, GarbageCan 2
Fork            CounterTop 4, Drawer 3, SinkBasin 2 | DiningTable 3, SideTable 1
Glassbottle     Cabinet 3, CounterTop 3, DiningTable 2, Shelf 1 | SinkBasin 2, Fridge 1
HandTowel       HandTowelHolder 5, CounterTop 1, Shelf 1, Toilet 1 | BathtubBasin 1, SinkBasin 1
Kettle          StoveBurner 4, Cabinet 3, DiningTable 2, SinkBasin 1, Shelf 1 | CounterTop 3
KeyChain        Drawer 3, Desk 3, Shelf 2, Dresser 2, CoffeeTable 2, ArmChair 2, DiningTable 1, Safe 1 \
                | SideTable 3, Sofa 2
Knife           CounterTop 5, DiningTable 3, Drawer 3 | SinkBasin 2, SideTable 1
Ladle           CounterTop 4, Cabinet 3, Drawer 2 | DiningTable 2, SinkBasin 1
Laptop          Bed 5, Desk 3, Sofa 3, DiningTable 2, SideTable 1 | CoffeeTable 3, Dresser 2, ArmChair 1
Lettuce         CounterTop 4, DiningTable 3, SinkBasin 2, SideTable 1, GarbageCan 1 | Fridge 3
Mug             CounterTop 4, CoffeeMachine 3, Cabinet 3, Desk 3, Fridge 2, DiningTable 2, SideTable 2, Microwave 1 \
                | SinkBasin 2, Shelf 2, Dresser 2
Newspaper       Sofa 3, CoffeeTable 3, DiningTable 3, Shelf 1, Dresser 1, Drawer 1, Ottoman 1 \
                | SideTable 3, ArmChair 2
Pan             StoveBurner 5, CounterTop 3, Cabinet 2, Fridge 1 | DiningTable 2, SinkBasin 1
Pen             Desk 4, Drawer 3, Dresser 2, Shelf 2, CoffeeTable 2, CounterTop 1, GarbageCan 1 \
                | SideTable 2, DiningTable 2
Pencil          Drawer 3, SideTable 3, Shelf 2, Dresser 2, CounterTop 1, DiningTable 1, CoffeeTable 1 \
                | Desk 3, GarbageCan 2
PepperShaker    CounterTop 3, Cabinet 3, Drawer 2, Shelf 1, SideTable 1 | DiningTable 2
Pillow          Bed 5, Sofa 4, Ottoman 2 | ArmChair 2
Plate           Cabinet 4, CounterTop 3, DiningTable 3, Fridge 2, CoffeeTable 2, Microwave 1 \
                | SinkBasin 2, Shelf 2, SideTable 2
Pot             StoveBurner 5, CounterTop 3, Fridge 2, DiningTable 1, Cabinet 1 | SinkBasin 1, Shelf 1
Potato          CounterTop 4, Fridge 4, DiningTable 3, SinkBasin 2, GarbageCan 2 | Microwave 2, SideTable 1
RemoteControl   CoffeeTable 3, SideTable 3, DiningTable 2, Drawer 2, ArmChair 2, Desk 2, Ottoman 1 | Sofa 3, Dresser 2
SaltShaker      CounterTop 3, Cabinet 3, DiningTable 2, Drawer 2 | Shelf 1, SideTable 1
SoapBar         CounterTop 3, Toilet 2, Cabinet 2, Drawer 2, GarbageCan 1, Shelf 1, SideTable 1, Cart 1 \
                | SinkBasin 3, BathtubBasin 2
SoapBottle      CounterTop 3, Cabinet 3, GarbageCan 2, Drawer 1, Shelf 1, SideTable 1, Cart 1 \
                | Toilet 3, DiningTable 2
Spatula         CounterTop 4, DiningTable 3, Drawer 3, SideTable 1 | SinkBasin 2
Spoon           Drawer 4, DiningTable 3, SinkBasin 2, SideTable 1 | CounterTop 4
SprayBottle     CounterTop 4, Toilet 3, Cabinet 2, DiningTable 1, Drawer 1, Shelf 1, Cart 1 \
                | GarbageCan 2, SideTable 1
Statue          Shelf 4, CoffeeTable 3, CounterTop 3, Dresser 2, Desk 1 | DiningTable 2, SideTable 2
TissueBox       CoffeeTable 3, CounterTop 2, Shelf 2, Drawer 2, DiningTable 2, Dresser 1, Cabinet 1, Toilet 1, Cart 1 \
                | SideTable 2, Desk 2, GarbageCan 1
ToiletPaper     Toilet 3, ToiletPaperHanger 2, Cabinet 2, Drawer 2, GarbageCan 1, Shelf 1, Cart 1 \
                | CounterTop 3, SideTable 1
Tomato          CounterTop 4, DiningTable 3, GarbageCan 2, SinkBasin 2, Microwave 1, SideTable 1 | Fridge 4
Vase            Shelf 4, CounterTop 2, Cabinet 2, CoffeeTable 2, Dresser 2, Desk 1, Safe 1 \
                | SideTable 2, DiningTable 2
Watch           Drawer 3, CoffeeTable 3, Dresser 2, DiningTable 2, Desk 1 | SideTable 3, Shelf 2
WateringCan     CoffeeTable 3, Shelf 2, Dresser 1, Drawer 1, DiningTable 1 | SideTable 2
WineBottle      CounterTop 4, Cabinet 3, GarbageCan 2, Shelf 1, Fridge 1 | DiningTable 3, SideTable 1
DeskLamp        Desk 3, SideTable 3, Dresser 2, Shelf 1, CoffeeTable 1
HousePlant      CounterTop 3, SideTable 2, DiningTable 1, CoffeeTable 1, Shelf 1, Desk 1, Dresser 1
PaperTowelRoll  CounterTop 3, DiningTable 1, GarbageCan 1, Toilet 1
TeddyBear       Bed 1
Television      TVStand 3, Dresser 3, CoffeeTable 1
Towel           TowelHolder 1
""")

PLACES: Final[Mapping[str, Mapping[str, int]]] = {
    kind: _weights(places.partition("|")[0]) for kind, places in _PLACES.items()
}
"""Where an object of a class may lie at the start of any game: receptacle classes and their weights."""

HELD_OUT: Final[Mapping[str, Mapping[str, int]]] = {
    kind: _weights(places.partition("|")[2]) for kind, places in _PLACES.items()
}
"""The same, right of the bar above: placements kept for valid_unseen, met neither in train nor in valid_seen."""

# --- rooms ---

Range = tuple[int, int]
"""Least and greatest number, both included."""


@dataclass(frozen=True)
class Size:
    """One difficulty of a room: how many receptacles of each class, how many in all and of ``DOORS`` classes."""

    counts: Mapping[str, Range]
    total: Range
    doors: Range


@dataclass(frozen=True)
class Room:
    """A kind of room: its receptacles by difficulty, and the classes of objects in it.

    ``common`` classes are in every full room, ``rare`` ones in some; ``fixtures`` furnish full rooms only and stand on
    the floor if the room has none of the receptacles that ``PLACES`` names for them.
    """

    sizes: Mapping[str, Size]
    common: tuple[str, ...]
    rare: tuple[str, ...]
    fixtures: Mapping[str, Range]


def _counts(text: str) -> dict[str, Range]:
    """``"Bed 1, Desk 0-2"`` as ``{"Bed": (1, 1), "Desk": (0, 2)}``."""
    counts = {}
    for item in text.split(","):
        name, number = item.split()
        low, _, high = number.partition("-")
        counts[name] = int(low), int(high or low)
    return counts


ROOMS: Final[Mapping[str, Room]] = {
    "kitchen": Room(
        sizes={
            "small": Size(
                _counts(
                    "CounterTop 1-2, SinkBasin 1, Fridge 0-1, Microwave 0-1, Cabinet 0-1, Drawer 0-1, "
                    "DiningTable 0-1, GarbageCan 0-1, CoffeeMachine 0-1, StoveBurner 0-2, Shelf 0-1, "
                    "SideTable 0-1"
                ),
                total=(5, 8),
                doors=(0, 2),
            ),
            "full": Size(
                _counts(
                    "CounterTop 1-4, SinkBasin 1, Fridge 1, Microwave 1, Cabinet 4-20, Drawer 2-14, "
                    "DiningTable 0-2, GarbageCan 1, CoffeeMachine 1, StoveBurner 4-6, Toaster 1, Shelf 0-3, "
                    "SideTable 0-1"
                ),
                total=(24, 45),
                doors=(8, 32),
            ),
        },
        common=_names(
            "Apple Bowl Bread ButterKnife Cup DishSponge Egg Fork Knife Lettuce Mug Pan PepperShaker Plate Pot Potato "
            "SaltShaker SoapBottle Spatula Spoon Tomato"
        ),
        rare=_names("Book CellPhone CreditCard Glassbottle Kettle Ladle Pen Pencil SprayBottle Statue Vase WineBottle"),
        fixtures=_counts(
            "LightSwitch 1, StoveKnob 4-6, Window 0-2, Chair 0-4, HousePlant 0-1, PaperTowelRoll 0-1, "
            "Blinds 0-1, Curtains 0-1, Mirror 0-1"
        ),
    ),
    "bathroom": Room(
        sizes={
            "small": Size(
                _counts(
                    "Toilet 1, SinkBasin 1, CounterTop 0-1, GarbageCan 0-1, HandTowelHolder 0-1, "
                    "ToiletPaperHanger 0-1, TowelHolder 0-1, BathtubBasin 0-1, Cabinet 0-2, Drawer 0-2, "
                    "Shelf 0-2, SideTable 0-1, Cart 0-1"
                ),
                total=(5, 8),
                doors=(0, 2),
            ),
            "full": Size(
                _counts(
                    "Toilet 1, SinkBasin 1-2, CounterTop 0-2, GarbageCan 1, HandTowelHolder 1-4, "
                    "ToiletPaperHanger 1, TowelHolder 1-2, BathtubBasin 0-1, Cabinet 0-8, Drawer 0-8, Shelf 0-4, "
                    "SideTable 0-1, Cart 0-1, Dresser 0-1"
                ),
                total=(10, 24),
                doors=(0, 12),
            ),
        },
        common=_names("Candle Cloth HandTowel SoapBar SoapBottle SprayBottle ToiletPaper"),
        rare=_names("DishSponge TissueBox"),
        fixtures=_counts(
            "LightSwitch 1, Mirror 1-2, Plunger 1, ScrubBrush 1, Towel 1-2, ShowerDoor 0-1, ShowerGlass 0-1, "
            "Window 0-2, Painting 0-1, HousePlant 0-1, PaperTowelRoll 0-1"
        ),
    ),
    "bedroom": Room(
        sizes={
            "small": Size(
                _counts(
                    "Bed 1, Desk 0-1, Dresser 0-1, SideTable 0-2, Shelf 0-2, Drawer 0-2, ArmChair 0-1, "
                    "GarbageCan 0-1, Safe 0-1"
                ),
                total=(5, 8),
                doors=(0, 2),
            ),
            "full": Size(
                _counts(
                    "Bed 1-2, Desk 0-2, Dresser 0-2, SideTable 0-2, Shelf 0-10, Drawer 0-14, ArmChair 0-2, "
                    "GarbageCan 1, Safe 0-1, Cabinet 0-3, DiningTable 0-1, LaundryHamper 0-1"
                ),
                total=(10, 28),
                doors=(0, 16),
            ),
        },
        common=_names("AlarmClock Book CD CellPhone CreditCard KeyChain Laptop Pen Pencil Pillow"),
        rare=_names("Bowl Box DeskLamp Mug RemoteControl Statue TissueBox Vase Watch"),
        fixtures=_counts(
            "LightSwitch 1, Mirror 1, Window 1-3, Blinds 0-3, Chair 0-3, Painting 0-2, Poster 0-2, Curtains 0-1, "
            "TeddyBear 0-1, Television 0-1, HousePlant 0-1, BaseballBat 0-1, BasketBall 0-1, TennisRacket 0-1, "
            "Boots 0-1"
        ),
    ),
    "livingroom": Room(
        sizes={
            "small": Size(
                _counts(
                    "Sofa 1, ArmChair 0-2, CoffeeTable 0-1, SideTable 0-2, DiningTable 0-1, Dresser 0-1, "
                    "Shelf 0-2, Drawer 0-2, TVStand 0-1, Ottoman 0-1, GarbageCan 0-1"
                ),
                total=(5, 8),
                doors=(0, 2),
            ),
            "full": Size(
                _counts(
                    "Sofa 1-2, ArmChair 0-3, CoffeeTable 0-2, SideTable 0-4, DiningTable 0-2, Dresser 0-2, "
                    "Shelf 0-10, Drawer 0-14, Cabinet 0-6, TVStand 0-1, Ottoman 0-1, Desk 0-1, Safe 0-1, "
                    "GarbageCan 1"
                ),
                total=(8, 30),
                doors=(0, 18),
            ),
        },
        common=_names("Box CreditCard KeyChain Laptop Pillow RemoteControl Statue"),
        rare=_names("Book Bowl Candle CellPhone DeskLamp Newspaper Pen Pencil Plate TissueBox Vase Watch WateringCan"),
        fixtures=_counts(
            "LightSwitch 1, FloorLamp 1, Television 1, HousePlant 1-2, Painting 1-3, Window 1-4, Chair 0-4, "
            "Curtains 0-2, Boots 0-1"
        ),
    ),
}
"""The four kinds of room."""
