"""Script lines: ``[GRAB] <apple> (12)``, ``[PUTIN] <apple> (12) <fridge> (3)``, ``[STANDUP]``.

The number in round brackets is the node's id. Programs of the benchmark write ``(1.12)``: the first apple of the
script, node 12; only the id counts. Reading is as lenient as the original's, which looks for ``<name> (number)``
anywhere after the action and compares the action without regard to case.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agentgym_prm.errors import ScriptError

_ACTION: Final = re.compile(r"^\[(\w+)\]")
_PARAMETER: Final = re.compile(r"\<(.+?)\>\s*\((.+?)\)")
_NUMBERED: Final = re.compile(r"\s*\d+\.(\d+)\s*", re.ASCII)


class Action(Enum):
    """What a script can ask for; the value is the humanised name, ``parameters`` how many objects it takes.

    ``LOOKAT_SHORT`` and ``LOOKAT_LONG`` can be written but not executed, as in the original.
    """

    CLOSE = ("Close", 1)
    DRINK = ("Drink", 1)
    FIND = ("Find", 1)
    WALK = ("Walk", 1)
    GRAB = ("Grab", 1)
    LOOKAT = ("Look at", 1)
    LOOKAT_SHORT = ("Look at short", 1)
    LOOKAT_MEDIUM = LOOKAT
    LOOKAT_LONG = ("Look at long", 1)
    OPEN = ("Open", 1)
    POINTAT = ("Point at", 1)
    PUTBACK = ("Put", 2)
    PUTIN = ("Put in", 2)
    PUTOBJBACK = ("Put back", 1)
    RUN = ("Run", 1)
    SIT = ("Sit", 1)
    STANDUP = ("Stand up", 0)
    SWITCHOFF = ("Switch off", 1)
    SWITCHON = ("Switch on", 1)
    TOUCH = ("Touch", 1)
    TURNTO = ("Turn to", 1)
    WATCH = ("Watch", 1)
    WIPE = ("Wipe", 1)
    PUTON = ("PutOn", 1)
    PUTOFF = ("PutOff", 1)
    GREET = ("Greet", 1)
    DROP = ("Drop", 1)
    READ = ("Read", 1)
    LIE = ("Lie", 1)
    POUR = ("Pour", 2)
    TYPE = ("Type", 1)
    PUSH = ("Push", 1)
    PULL = ("Pull", 1)
    MOVE = ("Move", 1)
    WASH = ("Wash", 1)
    RINSE = ("Rinse", 1)
    SCRUB = ("Scrub", 1)
    SQUEEZE = ("Squeeze", 1)
    PLUGIN = ("PlugIn", 1)
    PLUGOUT = ("PlugOut", 1)
    CUT = ("Cut", 1)
    EAT = ("Eat", 1)
    SLEEP = ("Sleep", 0)
    WAKEUP = ("WakeUp", 0)
    RELEASE = ("Release", 1)

    @property
    def parameters(self) -> int:
        """How many objects it takes: 0, 1 or 2."""
        return self.value[1]


@dataclass(frozen=True)
class ScriptObject:
    """A name as written (lower case, ``_`` for spaces) and the id of the node; only the id decides."""

    name: str
    id: int

    def __str__(self) -> str:
        return f"<{self.name}> ({self.id})"


@dataclass(frozen=True)
class ScriptLine:
    """One action on its objects."""

    action: Action
    objects: tuple[ScriptObject, ...]

    def __str__(self) -> str:
        return " ".join([f"[{self.action.name}]", *map(str, self.objects)])


def parse_line(text: str) -> ScriptLine:
    """Read one script line.

    Raises:
        ScriptError: There is no action, an unknown one, a wrong number of objects (these three in the original's
            words), or an id that is not a whole number (where the original raises whatever ``int`` does).

    >>> str(parse_line("[putin] <Coffee maker> (1.12) <fridge> (3)"))
    '[PUTIN] <coffee_maker> (12) <fridge> (3)'
    """
    match = _ACTION.search(text.strip())
    if match is None:
        raise ScriptError("Cannot parse action")
    name = match[1].upper()
    if name not in Action.__members__:
        raise ScriptError(f'Unknown action "{name}"')
    action = Action[name]
    found = _PARAMETER.findall(match.string[match.end(1) :])
    if len(found) != action.parameters:
        expected = action.parameters
        raise ScriptError(f'Wrong number of parameters for "{action.name}". Got {len(found)}, expected {expected}')
    return ScriptLine(action, tuple(ScriptObject(_name(raw), _id(number)) for raw, number in found))


def _name(raw: str) -> str:
    return raw.lower().replace(" ", "_")


def _id(number: str) -> int:
    numbered = _NUMBERED.fullmatch(number)
    try:
        return int(numbered[1] if numbered else number)
    except ValueError:
        raise ScriptError(f'Not the number of a node: "({number:.40})"') from None
