"""The six goals of ALFWorld: their PDDL form, and which share of their conditions holds.

A goal says that some binding of its variables satisfies all its literals. Literals about types and affordances never
change, so they only select the candidates; what remains are the *conditions* that playing can change:

=============================== ==========================================================================
task type                       conditions (of one choice of objects and receptacle)
=============================== ==========================================================================
pick_and_place_simple           the object is in the receptacle
pick_two_obj_and_place          the first is in the receptacle; the second is in the same receptacle
pick_{clean,heat,cool}_then_…   the object is clean / hot / cool; it is in the receptacle
look_at_obj_in_light            a lamp has been switched on; the agent is beside that lamp; it holds the object
=============================== ==========================================================================

The goal-condition success rate is the share of conditions that hold under the best choice: 1.0 exactly when won.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from agentgym_prm.errors import GameFormatError

_PLACE = (
    "(:goal (and (exists (?r - receptacle) (exists (?o - object) "
    "(and ({able} ?o) (objectType ?o {obj}) (receptacleType ?r {recep}) ({state} ?o) (inReceptacle ?o ?r))))))"
)
GOAL_FORMS: Final = {
    "pick_and_place_simple": (
        "(:goal (and (exists (?r - receptacle) (exists (?o - object) "
        "(and (inReceptacle ?o ?r) (objectType ?o {obj}) (receptacleType ?r {recep}))))))"
    ),
    "look_at_obj_in_light": (
        "(:goal (and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) "
        "(and (objectType ?ot {lamp}) (toggleable ?ot) (isToggled ?ot) "
        "(receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r))) "
        "(exists (?o - object ?a - agent) (and (objectType ?o {obj}) (holds ?a ?o)))))"
    ),
    "pick_clean_then_place_in_recep": _PLACE.replace("{able}", "cleanable").replace("{state}", "isClean"),
    "pick_heat_then_place_in_recep": _PLACE.replace("{able}", "heatable").replace("{state}", "isHot"),
    "pick_cool_then_place_in_recep": _PLACE.replace("{able}", "coolable").replace("{state}", "isCool"),
    "pick_two_obj_and_place": (
        "(:goal (and (exists (?r - receptacle) (exists (?o1 - object) "
        "(and (objectType ?o1 {obj}) (receptacleType ?r {recep}) (inReceptacle ?o1 ?r) "
        "(exists (?o2 - object) (and (not (= ?o1 ?o2)) (objectType ?o2 {obj}) (receptacleType ?r {recep}) "
        "(inReceptacle ?o2 ?r))))))))"
    ),
}
"""PDDL of each task type; ``{obj}``, ``{recep}`` and ``{lamp}`` stand for type names such as ``AppleType``."""

TASK_TYPES: Final = tuple(GOAL_FORMS)
CONDITION: Final = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "hot",
    "pick_cool_then_place_in_recep": "cool",
}
"""The state that an object has to be brought into first, by task type."""
_ABILITY_AND_STATE: Final = {
    "clean": ("cleanable", "isclean"),
    "hot": ("heatable", "ishot"),
    "cool": ("coolable", "iscool"),
}


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal. Types are PDDL type names in lower case (``"appletype"``); empty where the task type has none."""

    task_type: str
    object_type: str
    receptacle_type: str = ""
    lamp_type: str = ""

    @property
    def condition(self) -> str:
        """``"clean"``, ``"hot"``, ``"cool"`` or ``""``."""
        return CONDITION.get(self.task_type, "")

    @property
    def count(self) -> int:
        """How many objects have to be placed."""
        return 2 if self.task_type == "pick_two_obj_and_place" else 1


def _tokens(text: str) -> list[str]:
    return re.findall(r"[()]|[^\s()]+", text.lower())


def _form_pattern(form: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return rf"(?P<{name}>\S+)"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(" ".join(_tokens(form)))))


_PATTERNS = {task_type: _form_pattern(form) for task_type, form in GOAL_FORMS.items()}


def parse_goal(text: str) -> Goal:
    """Read ``(:goal …)`` and ignore what follows it.

    Raises:
        GameFormatError: The goal is cut off, or has none of the six forms.
    """
    tokens, depth, end = _tokens(text), 0, 0
    for position, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0:
            end = position + 1
            break
    canonical = " ".join(tokens[:end])
    for task_type, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(canonical):
            found = match.groupdict()
            return Goal(task_type, found["obj"], found.get("recep", ""), found.get("lamp", ""))
    what = f"has none of the six known forms: {canonical[:400]}" if end else "is cut off"
    raise GameFormatError(f"PDDL problem: the goal {what}")


def format_goal(goal: Goal) -> str:
    """PDDL text of ``goal``; inverse of ``parse_goal``."""
    return GOAL_FORMS[goal.task_type].format(obj=goal.object_type, recep=goal.receptacle_type, lamp=goal.lamp_type)


def goal_share(goal: Goal, facts: Collection[tuple[str, ...]]) -> float:
    """Goal-condition success rate read off PDDL facts, in ``[0, 1]``.

    Slow and literal: every choice of objects and receptacles is tried. The native engine computes the same from masks;
    this serves the original engine, and tests as the independent computation.

    Args:
        goal: What is to be reached.
        facts: What holds, in lower case: ``("inreceptacle", object, receptacle)``, ….
    """
    relations: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for predicate, *arguments in facts:
        relations[predicate].add(tuple(arguments))

    def objects(object_type: str, ability: str = "") -> list[str]:
        chosen = [o for o, kind in relations["objecttype"] if kind == object_type]
        return [o for o in chosen if not ability or (o,) in relations[ability]]

    def holds(predicate: str, *arguments: str) -> bool:
        return arguments in relations[predicate]

    if goal.lamp_type:
        agent, here = next(iter(relations["atlocation"]))
        receptacles_here = [r for r, place in relations["receptacleatlocation"] if place == here]
        lamps = [
            holds("istoggled", lamp) + any(holds("inreceptacle", lamp, r) for r in receptacles_here)
            for lamp in objects(goal.lamp_type, "toggleable")
        ]
        held = any(holds("holds", agent, o) for o in objects(goal.object_type))
        return (max(lamps, default=0) + held) / 3
    receptacles = [r for r, kind in relations["receptacletype"] if kind == goal.receptacle_type]
    if goal.condition:
        ability, state = _ABILITY_AND_STATE[goal.condition]
        return max(
            (
                (holds(state, o) + holds("inreceptacle", o, r)) / 2
                for o in objects(goal.object_type, ability)
                for r in receptacles
            ),
            default=0.0,
        )
    inside = [sum(holds("inreceptacle", o, r) for o in objects(goal.object_type)) for r in receptacles]
    return min(max(inside, default=0), goal.count) / goal.count
