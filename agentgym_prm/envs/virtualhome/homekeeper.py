"""An expert that acts from the text alone: it reads the description clause by clause and does what each says.

What it knows beforehand is which verbs mean which action, what an action needs (a free hand, an open door, a plug in
its socket) and what things can be opened and searched. The rest it reads: what is on offer, what is near and in which
state (``memory.py``). It does the first clause that is not done yet; what is missing for it comes first, and what is
nowhere to be seen is searched for, room by room, then behind closed doors.

What it would do is a function of its memory, so it plays on from any state, whoever led there. Of descriptions in free
words it understands what is said in so many words, and does the rest not at all.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from agentgym_prm.envs.virtualhome.commands import Command, Name
from agentgym_prm.envs.virtualhome.memory import STORES, HomeMemory
from agentgym_prm.envs.virtualhome.naming import equivalents
from agentgym_prm.envs.virtualhome.script import Action

NO_ANSWER: Final = ""
_VERBS: Final = (
    (Action.POUR, r"pour"),
    (Action.PLUGIN, r"plug in"),
    (Action.PLUGOUT, r"(?:plug out|unplug)"),
    (Action.SWITCHON, r"(?:turn(?:ing)? on|switch(?:ing)? on|start)"),
    (Action.SWITCHOFF, r"(?:turn(?:ing)? off|switch(?:ing)? off)"),
    (Action.PUTBACK, r"(?:put|place|set|lay|store)"),
    (Action.GRAB, r"(?:grab|grasp|take|pick up|pick|get|collect|hold|fetch|bring)"),
    (Action.OPEN, r"open"),
    (Action.CLOSE, r"(?:close|shut)"),
    (Action.SIT, r"(?:sit down|sit|relax)"),
    (Action.LIE, r"(?:lie down|lie|lay down)"),
    (Action.STANDUP, r"(?:stand up|get up)"),
    (Action.PUTON, r"(?:wear|put on)"),
    (Action.DRINK, r"drink"),
    (Action.READ, r"read"),
    (Action.WATCH, r"watch"),
    (Action.LOOKAT, r"look at"),
    (Action.TYPE, r"type"),
    (Action.WASH, r"(?:wash|clean)"),
    (Action.RINSE, r"rinse"),
    (Action.SCRUB, r"scrub"),
    (Action.WIPE, r"(?:wipe|dry)"),
    (Action.TOUCH, r"(?:touch|pet|stroke|answer)"),
    (Action.PUSH, r"push|press"),
    (Action.PULL, r"pull"),
    (Action.TURNTO, r"turn to"),
    (Action.SLEEP, r"(?:sleep|go to sleep)"),
    (Action.EAT, r"eat"),
    (Action.CUT, r"cut"),
    (Action.WALK, r"(?:walk|go|run|move|enter|head|find|locate|look for)"),
)
"""What verbs mean; the first that a clause begins with counts."""
_CLAUSES: Final = re.compile(r"[,.;!?:]+|\band\b|\bthen\b|\bafter that\b")
_FILLER: Final = re.compile(
    r"\b(?:the|a|an|my|your|his|her|their|some|i|you|we|he|she|it|will|would|should|down|over|up|back|there|first|finally|next)\b"
)
_SUBJECT: Final = re.compile(r"^(?:(?:i|you|we|he|she|the person|will|would|should|am going to|going to|to|then) )+")
_INTO: Final = re.compile(r"\b(?:inside of|inside|into|in)\b")
_ONTO: Final = re.compile(r"\b(?:onto|on top of|on|upon)\b")
_PREPOSITION: Final = re.compile(r"^(?:to|into|in|inside|onto|on|at|for|towards?|from|with|near|next to|up to)\b")
_PLACING: Final = (Action.PUTIN, Action.PUTBACK, Action.POUR)
_HELD: Final = (Action.DRINK, Action.READ)
_FACED: Final = (Action.WATCH, Action.LOOKAT)
_STATES: Final = {
    Action.OPEN: "OPEN",
    Action.CLOSE: "CLOSED",
    Action.SWITCHON: "ON",
    Action.SWITCHOFF: "OFF",
    Action.PLUGIN: "PLUGGED_IN",
    Action.PLUGOUT: "PLUGGED_OUT",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """What a part of the description asks for: an action, with its objects in the words of the description."""

    action: Action
    words: tuple[str, ...] = ()


@lru_cache(4096)
def clauses(task: str) -> tuple[Clause, ...]:
    """What the description in a task asks for, in order.

    >>> [(clause.action.name, clause.words) for clause in clauses("Tidy up (put the soap in box, close box.)")]
    [('PUTIN', ('soap', 'box')), ('CLOSE', ('box',))]
    """
    text = task[task.find("(") + 1 :].removesuffix(")") if "(" in task else task
    found = []
    for part in _CLAUSES.split(text.lower().replace("_", " ")):
        clause = _clause(" ".join(part.split()))
        if clause is not None:
            found.append(clause)
    return tuple(found)


def _clause(part: str) -> Clause | None:
    part = _SUBJECT.sub("", part)
    if match := re.fullmatch(r"(?:turn|switch) (.+) (on|off)", part):
        return Clause(Action.SWITCHON if match[2] == "on" else Action.SWITCHOFF, (_thing(match[1]),))
    if match := re.fullmatch(r"(?:put|set|place|lay) on (.+)", part):
        return Clause(Action.PUTON, (_thing(match[1]),))
    for action, verb in _VERBS:
        match = re.match(rf"(?:{verb})\b", part)
        if match:
            return _with_objects(action, part[match.end() :].strip())
    return None


def _with_objects(action: Action, rest: str) -> Clause | None:
    if action is Action.PUTBACK or action is Action.POUR:
        for preposition, put in ((_INTO, Action.PUTIN), (_ONTO, Action.PUTBACK)):
            thing, found, place = _split(preposition, rest)
            if found and thing and place:
                return Clause(Action.POUR if action is Action.POUR else put, (_thing(thing), _thing(place)))
        return None
    if action.parameters == 0:
        return Clause(action)
    name = _thing(_PREPOSITION.sub("", rest).strip())
    name = _thing(_PREPOSITION.split(name)[-1]) if name else name
    return Clause(action, (name,)) if name else None


def _split(preposition: re.Pattern[str], text: str) -> tuple[str, bool, str]:
    match = preposition.search(text)
    return (text[: match.start()], True, text[match.end() :]) if match else (text, False, "")


def _thing(words: str) -> str:
    return " ".join(_FILLER.sub(" ", words).split())


class Homekeeper(HomeMemory):
    """Told everything that happens in an episode; ``choose`` says what it would do next."""

    def __init__(self) -> None:
        super().__init__()
        self._clauses: tuple[Clause, ...] = ()

    @classmethod
    def begin(cls, task: str, observation: str, admissible: Sequence[str]) -> Self:
        """After the opening."""
        keeper = super().begin(task, observation, admissible)
        keeper._clauses = clauses(task)
        return keeper

    def choose(self) -> str:
        """A command for the present state, ``""`` if nothing is left that it understands."""
        for clause in self._clauses:
            names = tuple(self._named(words) for words in clause.words)
            if None in names or self._is_done(clause.action, names):  # type: ignore[arg-type]
                continue
            for command in self._towards(clause.action, names):  # type: ignore[arg-type]
                return command
        return NO_ANSWER

    def _named(self, words: str) -> str | None:
        """The name that words of the description stand for; ``None`` if nothing known is called so.

        Where only what is in view is listed, what was never seen may be there all the same.
        """
        known = {*self.where, *self.rooms, *self.held, *self.near, *self.on, *self.inside}
        parts = words.split(" ")
        shorter = ["_".join(parts[start:stop]) for start in range(len(parts)) for stop in range(len(parts), start, -1)]
        hidden = not self.lists_all and (len(self.rooms) > len(self.visited) or self.unopened)
        # Part of the words ("floor" of a floor lamp) counts only if the whole is not to be found.
        for candidate in shorter[:1] if hidden else shorter:
            for each in (candidate, candidate.removesuffix("s")):
                if each in known:
                    return each
        if hidden:
            return shorter[0]
        return next((each for candidate in shorter for each in equivalents(candidate) if each in known), None)

    # --- what is done already ---

    def _is_done(self, action: Action, names: tuple[str, ...]) -> bool:
        first = names[0] if names else ""
        if action in (Action.PUTIN, Action.POUR):
            return self.inside.get(first) == names[1]
        if action is Action.PUTBACK:
            return self.on.get(first) == names[1] and first not in self.held
        if action is Action.GRAB:
            return first in self.held or self._is_put_away(first)
        if action is Action.PUTON:
            return first in self.worn
        if action in (Action.SIT, Action.LIE):
            return self.posture == first
        if action in _STATES:
            return _STATES[action] in self.states.get(first, ())
        return (action, names) in self.done

    def _is_put_away(self, name: str) -> bool:
        """Whether the description asks for a thing to be put somewhere, and it was."""
        for clause in self._clauses:
            if clause.action in (*_PLACING, Action.PUTON) and self._named(clause.words[0]) == name:
                names = tuple(self._named(words) or "" for words in clause.words)
                return self._is_done(clause.action, names)
        return False

    # --- what comes next ---

    def _towards(self, action: Action, names: tuple[str, ...]) -> Iterator[str]:
        """Commands that bring an action nearer, the best first."""
        if action in _PLACING:
            yield from self._put(action, *names)
            return
        if not names:
            yield from self._if_offered(action)
            return
        name = names[0]
        if action is Action.GRAB:
            yield from self._get(name)
            return
        if action in (Action.PUTON, *_HELD) and name not in self.held:
            yield from self._get(name)
            return
        yield from self._if_offered(action, name)
        if action is Action.SWITCHON:
            yield from self._with_free_hand(Action.PLUGIN, name)
        if action is Action.OPEN and name in self.near:
            yield from self._if_offered(Action.SWITCHOFF, name)
        if action in (Action.OPEN, Action.PLUGIN, Action.PLUGOUT) and name in self.near:
            yield from self._put_down(name)
        if action in _FACED and name in self.near:
            yield _command(Action.TURNTO, name)
        if action in (Action.SIT, Action.LIE):
            yield from self._stand_up()
        if name not in self.near or action is Action.WALK:
            yield from self._go(name)

    def _put(self, action: Action, thing: str, place: str) -> Iterator[str]:
        if thing not in self.held:
            yield from self._get(thing)
            return
        yield from self._if_offered(action, thing, place)
        if place in self.near:
            yield from self._with_free_hand(Action.OPEN, place)
            yield from self._if_offered(Action.SWITCHOFF, place)
            yield _command(action, thing, place)
        yield from self._go(place)

    def _get(self, thing: str) -> Iterator[str]:
        yield from self._if_offered(Action.GRAB, thing)
        if len(self.held) == 2:
            yield from self._put_down(thing)
        if thing in self.near or (Action.WALK, (thing,)) in self.done:
            for name in self.closed:
                if name in self.near:
                    yield from self._if_offered(Action.OPEN, name)
        yield from self._go(thing)

    def _stand_up(self) -> Iterator[str]:
        """Where posture is what it seems to be, who has sat down goes nowhere and sits nowhere else."""
        if self.posture:
            yield from self._if_offered(Action.STANDUP)

    def _go(self, name: str) -> Iterator[str]:
        yield from self._stand_up()
        if name not in self.near or not self.failed:
            yield from self._if_offered(Action.WALK, name)
        room = self.where.get(name, "")
        if room and room != self.room:
            yield from self._if_offered(Action.WALK, room)
        if not self.where.get(name) and name not in self.held:
            yield from self._search()

    def _search(self) -> Iterator[str]:
        """Look behind what is closed and near, then into rooms not yet seen, then behind what is closed elsewhere."""
        for name in self.near:
            if name in STORES and "CLOSED" in self.states.get(name, ()):
                yield from self._with_free_hand(Action.OPEN, name)
        for room in self.rooms:
            if room not in self.visited:
                yield from self._if_offered(Action.WALK, room)
        for name in sorted(self.unopened, key=lambda name: self.where[name] != self.room):
            yield from self._if_offered(Action.WALK, name)
            yield from self._if_offered(Action.WALK, self.where[name])

    def _with_free_hand(self, action: Action, name: str) -> Iterator[str]:
        yield from self._if_offered(action, name)
        if name in self.near and len(self.held) == 2 and self._would_help(action, name):
            yield from self._put_down(name)

    def _would_help(self, action: Action, name: str) -> bool:
        return {Action.OPEN: "CLOSED", Action.PLUGIN: "PLUGGED_OUT"}.get(action, "") in self.states.get(name, ())

    def _put_down(self, kept: str) -> Iterator[str]:
        """Free a hand: put something that is not needed onto something near."""
        needed = {self._named(clause.words[0]) for clause in self._clauses if clause.words}
        for thing in sorted(self.held, key=lambda name: (name == kept, name in needed)):
            for action in (Action.PUTBACK, Action.DROP, Action.RELEASE):
                for names in self.offers.get(action, ()):
                    if names[0] == thing:
                        yield _command(action, *names)

    def _if_offered(self, action: Action, *names: str) -> Iterator[str]:
        if self.offered(action, *names):
            yield _command(action, *names)


def _command(action: Action, *names: str) -> str:
    return str(Command(action, tuple(map(Name, names))))
