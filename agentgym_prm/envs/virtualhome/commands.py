"""Text commands: ``walk to kitchen``, ``put cup on table``, ``stand up``; from words to an action and back.

The forms are those of the source system. A line has to fit exactly one of them; one that fits none or several is read
word by word, as there: the action as scripts spell it, then its objects (``putback cup table``, ``release cup``). Of a
line with a colon only what follows the first one counts. Beyond the source system, an object may be followed by its id
in round brackets, ``grab cup (1001)``, to tell things of the same name apart, and ``release`` has a form of its own.

What a name means in an apartment, and which of several things of that name, is decided in ``naming.py``.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agentgym_prm.envs.virtualhome.script import Action

FORMS: Final = {
    Action.CLOSE: "close {}",
    Action.DRINK: "drink {}",
    Action.FIND: "find {}",
    Action.WALK: "walk to {}",
    Action.GRAB: "grab {}",
    Action.LOOKAT: "look at {}",
    Action.OPEN: "open {}",
    Action.POINTAT: "point at {}",
    Action.PUTBACK: "put {} on {}",
    Action.PUTIN: "put {} in {}",
    Action.PUTOBJBACK: "put back {}",
    Action.RUN: "run to {}",
    Action.SIT: "sit on {}",
    Action.STANDUP: "stand up",
    Action.SWITCHOFF: "switch off {}",
    Action.SWITCHON: "switch on {}",
    Action.TOUCH: "touch {}",
    Action.TURNTO: "turn to {}",
    Action.WATCH: "watch {}",
    Action.WIPE: "wipe {}",
    Action.PUTON: "put on {}",
    Action.PUTOFF: "take off {}",
    Action.GREET: "greet {}",
    Action.DROP: "drop {}",
    Action.READ: "read {}",
    Action.LIE: "lie on {}",
    Action.POUR: "pour {} into {}",
    Action.TYPE: "type on {}",
    Action.PUSH: "push {}",
    Action.PULL: "pull {}",
    Action.MOVE: "move {}",
    Action.WASH: "wash {}",
    Action.RINSE: "rinse {}",
    Action.SCRUB: "scrub {}",
    Action.SQUEEZE: "squeeze {}",
    Action.PLUGIN: "plug in {}",
    Action.PLUGOUT: "plug out {}",
    Action.CUT: "cut {}",
    Action.EAT: "eat {}",
    Action.SLEEP: "sleep",
    Action.WAKEUP: "wake up",
    Action.RELEASE: "release {}",
}
"""How each action is written; ``{}`` stands for an object."""

CORE: Final = frozenset(
    {
        Action.CLOSE, Action.GRAB, Action.LIE, Action.OPEN, Action.PLUGIN, Action.PLUGOUT, Action.POUR, Action.PUTBACK,
        Action.PUTIN, Action.PUTON, Action.SIT, Action.STANDUP, Action.SWITCHOFF, Action.SWITCHON, Action.WALK,
    }
)  # fmt: skip
"""Actions that change what most goals ask for, each effect once: no ``run`` beside ``walk``, no ``touch``.

With ``stand up``, without which the other commands can lead where nothing is left to do.
"""

_LONGEST: Final = 1_000
_PATTERNS: Final = {
    action: re.compile(re.escape(form).replace(r"\{\}", "(.+?)"), re.DOTALL) for action, form in FORMS.items()
}
_NUMBERED: Final = re.compile(r"(.*\S)\s*\((\d{1,18})\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Name:
    """An object as a command names it: in class form (``coffee_maker``), with an id if one was given."""

    name: str
    id: int | None = None

    def __str__(self) -> str:
        return self.name if self.id is None else f"{self.name} ({self.id})"


@dataclass(frozen=True, slots=True)
class Command:
    """An action and the names of its objects, as many as it takes."""

    action: Action
    names: tuple[Name, ...] = ()

    def __str__(self) -> str:
        return FORMS[self.action].format(*self.names)


def parse_command(text: str) -> Command | None:
    """Read a command; ``None`` if it is none, or has more than a thousand characters.

    >>> str(parse_command("Put Coffee cup on kitchen counter"))
    'put coffee_cup on kitchen_counter'
    >>> parse_command("putback cup table (7)").names
    (Name(name='cup', id=None), Name(name='table', id=7))
    >>> parse_command("dance") is None
    True
    """
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(2**14)
def _parsed(text: str) -> Command | None:
    line = text.lower().strip()
    line = line.partition(":")[2].strip() if ":" in line else line
    found = [(action, match.groups()) for action, pattern in _PATTERNS.items() if (match := pattern.fullmatch(line))]
    if len(found) == 1:
        action, words = found[0]
        return Command(action, tuple(map(_name, words)))
    return _word_by_word(line)


def _word_by_word(line: str) -> Command | None:
    spelled, *words = re.sub(r"\s+\((\d+)\)", r"(\1)", line).split() or [""]
    action = Action.__members__.get(spelled.upper())
    if action is None or action not in FORMS:
        return None
    if len(words) > 2:
        words = ["_".join(words)]
    return Command(action, tuple(map(_name, words))) if len(words) == action.parameters else None


def _name(words: str) -> Name:
    match = _NUMBERED.fullmatch(words.strip())
    name, number = (match[1], int(match[2])) if match else (words.strip(), None)
    return Name("_".join(name.split(" ")), number)
