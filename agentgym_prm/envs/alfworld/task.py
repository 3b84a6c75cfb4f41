"""What an ALFWorld task sentence asks for, in the words of the sentence.

Every game file states its task in one of the benchmark's twelve sentence forms, two for each task type. Classes keep
the names that the texts use (``"apple"``, ``"sinkbasin"``); ``goal.py`` has the PDDL side.
"""

import re
from dataclasses import dataclass
from typing import Final

from agentgym_prm.envs.alfworld.goal import CONDITION, TASK_TYPES


@dataclass(frozen=True, slots=True)
class TaskSentence:
    """A task as its sentence tells it. Classes are names without number; empty where the task type has none."""

    task_type: str
    object: str
    receptacle: str = ""
    lamp: str = ""

    @property
    def condition(self) -> str:
        """State that the object has to be brought into first: ``"clean"``, ``"hot"``, ``"cool"`` or ``""``."""
        return CONDITION.get(self.task_type, "")

    @property
    def count(self) -> int:
        """How many objects are asked for."""
        return 2 if self.task_type == "pick_two_obj_and_place" else 1


_SIMPLE, _LOOK_AT, _CLEAN, _HEAT, _COOL, _TWO = TASK_TYPES
_FORMS: Final = (
    (_SIMPLE, "put (?:an?|some) OBJECT (?:in|on) RECEPTACLE"),
    (_TWO, "put two OBJECT (?:in|on) RECEPTACLE"),
    (_TWO, "find two OBJECT and put them (?:in|on) RECEPTACLE"),
    (_LOOK_AT, "look at (?:the )?OBJECT under the LAMP"),
    (_LOOK_AT, "examine the OBJECT with the LAMP"),
    *((kind, f"put (?:an?|some) {CONDITION[kind]} OBJECT (?:in|on) RECEPTACLE") for kind in (_CLEAN, _HEAT, _COOL)),
    *(
        (kind, f"{verb} (?:an?|some) OBJECT and put it (?:in|on) RECEPTACLE")
        for kind, verb in ((_CLEAN, "clean"), (_HEAT, "heat"), (_COOL, "cool"))
    ),
)
_PATTERNS: Final = tuple(
    (kind, re.compile(re.sub("[A-Z]+", lambda name: rf"(?P<{name[0].lower()}>\w+)", form))) for kind, form in _FORMS
)


def parse_task(sentence: str) -> TaskSentence:
    """Read a task sentence; a full stop at its end, and letter case, do not matter.

    Raises:
        ValueError: The sentence has none of the benchmark's forms.

    >>> parse_task("put a hot mug in cabinet.")
    TaskSentence(task_type='pick_heat_then_place_in_recep', object='mug', receptacle='cabinet', lamp='')
    """
    words = " ".join(sentence.lower().split()).removesuffix(".")
    for task_type, pattern in _PATTERNS:
        if match := pattern.fullmatch(words):
            return TaskSentence(task_type, **match.groupdict())
    raise ValueError(
        f"no task of a known form: {sentence!r}; known are 'put some apple on countertop.', 'clean some mug and put it "
        "in cabinet.', 'find two pen and put them in desk.', 'look at book under the desklamp.' and the like"
    )
