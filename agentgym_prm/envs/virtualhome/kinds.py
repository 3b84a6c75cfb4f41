"""What the nodes of an apartment are good for, by their properties and class names: masks that never change."""

from typing import Final

from agentgym_prm.envs.virtualhome.graph import Apartment, Property, bits

_OPENABLE: Final = ("desk", "window")
_MOVABLE: Final = ("chair", "curtain", "button")
_RECIPIENTS: Final = ("hands_both", "sponge", "face")
_SQUEEZABLE: Final = (
    "cleaning_solution", "tooth_paste", "shampoo", "food_peanut_butter", "dish_soap", "soap", "towel", "rag", "paper",
    "sponge", "food_lemon", "check",
)  # fmt: skip
_SEATS: Final = {
    "couch": 4, "bed": 4, "chair": 1, "loveseat": 2, "sofa": 4, "toilet": 1, "pianobench": 2, "bench": 2,
}  # fmt: skip
_BERTHS: Final = {"couch": 2, "bathtub": 2, "bed": 3, "loveseat": 2, "sofa": 2, "bench": 1}


class Kinds:
    """The nodes of an apartment by what they are good for, each attribute a mask unless it says otherwise.

    Attributes:
        no_rooms: All but the rooms.
        grabbable: Can be taken in the hand: water and children too, whatever their properties.
        openable: ``OPEN`` and ``CLOSE`` accept it; ``can_open``: has the property, so what is in it comes near, too.
        movable, squeezable, typeable, cuttable: The action of that name accepts it.
        pourable, drinkable: What ``POUR`` and ``DRINK`` accept; ``recipients``: into which ``POUR`` pours.
        seats: For each number that can be sat on, how many things have room on it.
        berths: The same of what can be lain on.
    """

    def __init__(self, apartment: Apartment) -> None:
        having, of_class = apartment.having, apartment.of_class
        self.no_rooms = apartment.everything & ~apartment.rooms
        self.grabbable = apartment.grabbable
        self.knives = apartment.knives
        self.computers = of_class("computer")
        self.clothes = having[Property.CLOTHES]
        self.body_parts = having[Property.BODY_PART]
        self.people = having[Property.PERSON]
        self.eatable = having[Property.EATABLE]
        self.readable = having[Property.READABLE]
        self.lookable = having[Property.LOOKABLE]
        self.can_open = having[Property.CAN_OPEN]
        self.switched = having[Property.HAS_SWITCH]
        self.plugged = having[Property.HAS_PLUG]
        self.openable = self.can_open | of_class(*_OPENABLE)
        self.movable = having[Property.MOVABLE] | of_class(*_MOVABLE)
        self.squeezable = self.clothes | of_class(*_SQUEEZABLE)
        self.typeable = self.switched | of_class("keyboard")
        self.cuttable = having[Property.CUTTABLE]
        self.pourable = having[Property.POURABLE] | having[Property.DRINKABLE]
        self.drinkable = having[Property.RECIPIENT] | having[Property.DRINKABLE]
        self.recipients = having[Property.RECIPIENT] | of_class(*_RECIPIENTS)
        self.sittable, self.lieable = having[Property.SITTABLE], having[Property.LIEABLE]
        self.seats = _places(apartment, self.sittable, _SEATS)
        self.berths = _places(apartment, self.lieable, _BERTHS)


def _places(apartment: Apartment, mask: int, by_class: dict[str, int]) -> dict[int, int]:
    return {number: by_class.get(apartment.nodes[number].class_name, 1) for number in bits(mask)}
