"""What builtin apartments hold, and what is done in them: the tables of the generator.

Classes and properties are VirtualHome's own vocabulary; which of them stand where, and the activities, are ours.
"""

from dataclasses import dataclass
from typing import Final

CONTAINER: Final = ("CAN_OPEN", "CONTAINERS")
MACHINE: Final = ("CAN_OPEN", "CONTAINERS", "HAS_SWITCH", "HAS_PLUG")
DEVICE: Final = ("HAS_SWITCH", "HAS_PLUG")
SURFACE: Final = ("SURFACES",)
CHEST: Final = ("CAN_OPEN", "CONTAINERS", "SURFACES")

FURNITURE: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "kitchen": {
        "fridge": (*CONTAINER, "HAS_PLUG"),
        "kitchen_table": SURFACE,
        "microwave": MACHINE,
        "kitchen_counter": SURFACE,
        "cupboard": CONTAINER,
        "oven": MACHINE,
        "dishwasher": MACHINE,
        "coffee_maker": DEVICE,
        "toaster": DEVICE,
        "trashcan": CONTAINER,
    },
    "bathroom": {
        "washing_machine": MACHINE,
        "bathroom_counter": SURFACE,
        "bathroom_cabinet": CONTAINER,
        "basket_for_clothes": CONTAINER,
        "bathtub": ("LIEABLE", "SITTABLE"),
        "hairdryer": DEVICE,
        "toilet": ("SITTABLE", "CAN_OPEN"),
    },
    "bedroom": {
        "bed": ("SITTABLE", "LIEABLE", "SURFACES"),
        "closet": CONTAINER,
        "nightstand": CHEST,
        "tablelamp": DEVICE,
        "dresser": CHEST,
        "desk": SURFACE,
        "chair": ("SITTABLE", "MOVABLE"),
        "computer": (*DEVICE, "LOOKABLE"),
    },
    "living_room": {
        "couch": ("SITTABLE", "LIEABLE", "SURFACES", "MOVABLE"),
        "television": (*DEVICE, "LOOKABLE"),
        "coffee_table": SURFACE,
        "bookshelf": SURFACE,
        "cabinet": CONTAINER,
        "floor_lamp": DEVICE,
        "radio": DEVICE,
        "armchair": ("SITTABLE", "MOVABLE"),
        "box": CONTAINER,
    },
}
"""For each room its furniture, one piece of a class; small apartments draw a few, full ones lack a few."""

_FOOD, _DISH = ("GRABBABLE", "EATABLE", "CUTTABLE"), ("GRABBABLE", "RECIPIENT")
_DRINK, _CLOTHES = ("GRABBABLE", "DRINKABLE", "POURABLE"), ("GRABBABLE", "CLOTHES", "HANGABLE")
_READING, _SMALL = ("GRABBABLE", "READABLE", "MOVABLE"), ("GRABBABLE", "MOVABLE")

THINGS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "apple": (_FOOD, ("kitchen_table", "kitchen_counter", "fridge", "coffee_table")),
    "bread": (_FOOD, ("kitchen_counter", "cupboard", "kitchen_table")),
    "cheese": (_FOOD, ("fridge", "kitchen_table", "kitchen_counter")),
    "chicken": (_FOOD, ("fridge", "kitchen_counter", "oven")),
    "carrot": (_FOOD, ("kitchen_counter", "fridge", "cupboard")),
    "milk": (_DRINK, ("fridge", "kitchen_table", "kitchen_counter")),
    "juice": (_DRINK, ("fridge", "coffee_table", "cupboard")),
    "plate": (_DISH, ("cupboard", "dishwasher", "kitchen_counter", "coffee_table")),
    "bowl": (_DISH, ("cupboard", "kitchen_counter", "dishwasher", "desk")),
    "cup": (_DISH, ("cupboard", "coffee_table", "desk", "kitchen_counter")),
    "water_glass": (_DISH, ("cupboard", "nightstand", "kitchen_table", "bathroom_counter")),
    "shirt": (_CLOTHES, ("closet", "bed", "basket_for_clothes", "dresser", "couch")),
    "jacket": (_CLOTHES, ("closet", "couch", "bed", "dresser")),
    "dress": (_CLOTHES, ("closet", "dresser", "bed", "basket_for_clothes")),
    "pajamas": (_CLOTHES, ("bed", "dresser", "basket_for_clothes", "bathroom_counter")),
    "towel": (_SMALL, ("bathroom_cabinet", "bathroom_counter", "bed", "basket_for_clothes")),
    "soap": (_SMALL, ("bathroom_counter", "bathroom_cabinet", "kitchen_counter")),
    "toothbrush": (_SMALL, ("bathroom_counter", "bathroom_cabinet")),
    "novel": (_READING, ("bookshelf", "nightstand", "coffee_table", "desk")),
    "newspaper": (_READING, ("coffee_table", "kitchen_table", "couch", "desk")),
    "magazine": (_READING, ("coffee_table", "bookshelf", "nightstand", "bathroom_counter")),
    "phone": (_SMALL, ("desk", "nightstand", "coffee_table", "kitchen_counter")),
    "keys": (_SMALL, ("cabinet", "desk", "coffee_table", "nightstand")),
    "pencil": (_SMALL, ("desk", "box", "bookshelf", "cabinet")),
    "toy": (_SMALL, ("box", "couch", "bed", "cabinet", "bookshelf")),
}
"""What can be carried: properties, and the furniture that it usually lies on or in."""

FOOD: Final = ("apple", "bread", "cheese", "chicken", "carrot")
DRINKS: Final = ("milk", "juice")
DISHES: Final = ("plate", "bowl", "cup", "water_glass")
CLOTHES: Final = ("shirt", "jacket", "dress", "pajamas")
READING: Final = ("novel", "newspaper", "magazine")
ODDS: Final = ("phone", "keys", "pencil", "toy", "towel", "soap", "toothbrush")

LAMPS: Final = ("tablelamp", "floor_lamp")
SEATS: Final = ("couch", "armchair", "chair", "bed")
DEVICES: Final = (
    "coffee_maker", "toaster", "radio", "television", "computer", "hairdryer", "tablelamp", "floor_lamp", "microwave",
    "oven", "dishwasher", "washing_machine",
)  # fmt: skip
STORES: Final = (
    "cupboard", "cabinet", "box", "closet", "dresser", "nightstand", "bathroom_cabinet", "fridge", "oven", "microwave",
)  # fmt: skip
TABLES: Final = ("kitchen_table", "coffee_table", "desk", "kitchen_counter", "bathroom_counter", "bookshelf")


@dataclass(frozen=True, slots=True)
class Activity:
    """What is to be done: a name, classes to draw from, and clauses that state the goal.

    Attributes:
        name: As VirtualHome names activities.
        slots: For each letter the classes that it may stand for; all letters stand for different ones.
        clauses: ``VERB SLOT`` or ``VERB SLOT SLOT``; verbs are keys of ``CLAUSES``.
    """

    name: str
    slots: dict[str, tuple[str, ...]]
    clauses: tuple[str, ...]


CLAUSES: Final[dict[str, tuple[str, ...]]] = {
    "in": ("put {} in {}", "place {} in {}", "store {} inside {}"),
    "on": ("put {} on {}", "place {} on {}", "set {} down on {}"),
    "close": ("close {}", "shut {}"),
    "switch_on": ("turn on {}", "switch on {}", "start {}"),
    "switch_off": ("turn off {}", "switch off {}"),
    "hold": ("grab {}", "take {}", "pick up {}"),
    "sit": ("sit on {}", "sit down on {}"),
    "lie": ("lie on {}", "lie down on {}"),
    "wear": ("put on {}", "wear {}"),
    "pour": ("pour {} into {}",),
}
"""How the goals of a description are worded; small tasks use the first wording throughout."""

ACTIVITIES: Final = (
    Activity("Put groceries in fridge", {"a": FOOD + DRINKS, "b": ("fridge",)}, ("in a b", "close b")),
    Activity("Wash clothes", {"a": CLOTHES, "b": ("washing_machine",)}, ("in a b", "close b", "switch_on b")),
    Activity("Cook food", {"a": FOOD, "b": ("oven", "microwave")}, ("in a b", "close b", "switch_on b")),
    Activity("Wash dishes", {"a": DISHES, "b": ("dishwasher",)}, ("in a b", "close b", "switch_on b")),
    Activity("Set up table", {"a": DISHES, "b": DISHES, "c": ("kitchen_table", "coffee_table")}, ("on a c", "on b c")),
    Activity("Read book", {"a": READING, "b": SEATS}, ("hold a", "sit b")),
    Activity("Turn on light", {"a": LAMPS}, ("switch_on a",)),
    Activity("Use appliance", {"a": DEVICES}, ("switch_on a",)),
    Activity("Save energy", {"a": DEVICES}, ("switch_off a",)),
    Activity("Get dressed", {"a": CLOTHES}, ("wear a",)),
    Activity("Drink", {"a": DRINKS, "b": DISHES[2:]}, ("pour a b",)),
    Activity(
        "Listen to music", {"a": ("radio", "computer"), "b": ("couch", "bed", "bathtub")}, ("switch_on a", "lie b")
    ),
    Activity("Tidy up", {"a": ODDS + READING + FOOD + CLOTHES, "b": STORES}, ("in a b", "close b")),
    Activity("Bring things", {"a": ODDS + READING + FOOD + CLOTHES, "b": TABLES}, ("on a b",)),
    Activity("Pick up phone", {"a": ("phone",)}, ("hold a",)),
)
"""Activities of the splits ``train`` and ``valid_seen``."""

UNSEEN_ACTIVITIES: Final = (
    Activity("Go to sleep", {"a": LAMPS, "b": ("bed", "couch")}, ("switch_off a", "lie b")),
    Activity("Put away clothes", {"a": CLOTHES, "b": ("closet", "dresser")}, ("in a b", "close b")),
    Activity("Watch TV", {"a": ("television",), "b": ("couch", "armchair")}, ("switch_on a", "sit b")),
    Activity("Work", {"a": ("pencil", "novel"), "b": ("desk",), "c": ("computer",)}, ("on a b", "switch_on c")),
)
"""Activities that only ``valid_unseen`` has; their words and clauses occur in others too."""

STRUCTURE: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "floor": (5, ("SURFACES",)),
    "wall": (5, ()),
    "ceiling": (5, ()),
    "doorjamb": (1, ()),
    "door": (1, ("CAN_OPEN",)),
    "window": (1, ()),
    "curtain": (1, ("CAN_OPEN", "COVER_OBJECT", "MOVABLE")),
    "ceilinglamp": (1, ()),
    "light": (1, ("HAS_SWITCH", "HAS_PLUG")),
    "drawing": (3, ()),
    "wallshelf": (2, ("SURFACES",)),
    "powersocket": (1, ()),
    "mat": (1, ("GRABBABLE", "SURFACES", "MOVABLE", "SITTABLE", "LIEABLE")),
    "pillow": (1, ("GRABBABLE", "MOVABLE")),
    "hanger": (3, ("GRABBABLE", "HANGABLE")),
    "photoframe": (1, ("GRABBABLE",)),
}
"""What else each room of a full apartment holds: how many, and properties."""
