"""Facts put into words: passages that state them, and questions whose answers they are.

Everything here is driven by a ``Wording``, of which each difficulty has its own. Templates have slots in braces: names
of relations for their values, and for the subject ``{S}`` (by name or pronoun), ``{name}``, ``{he}``, ``{his}``,
``{him}``, ``{kind}`` and ``{a_kind}`` (what it is), ``{made}`` and ``{maker}`` (of a work: written by its author).
Sentences are capitalised. Questions have ``{x}``, what they ask about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentgym_prm.envs.wiki_search.facts import Draws, Entity, Knowledge

_WITH_ARTICLE: Final = ("club", "river", "organisation", "landmark", "award")
_OFTEN: Final = 4
"""So many more sentences name what others are named after, so that a search for it finds its own passage first."""
DESCRIBED: Final = ("person", "work")
"""Kinds that have homonyms."""


class Asked(NamedTuple):
    """How a relation is asked for, of ``{x}``."""

    questions: tuple[str, ...]
    """For its value."""
    phrases: tuple[str, ...] = ()
    """What stands for the value within a longer question; empty: questions do not go through it."""
    same: tuple[str, ...] = ()
    """Whether ``{x}`` and ``{y}`` have the same value."""
    compared: tuple[tuple[str, str], ...] = ()
    """Operations of a ``Query`` on two numbers, and how they are asked for."""


class Group(NamedTuple):
    """Sentences that state the same facts."""

    relations: tuple[str, ...]
    templates: tuple[str, ...]
    unless: str = ""
    """A relation; where there is such a fact, these sentences are left out."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How a world is put into words.

    Attributes:
        groups: By the kind of the subject, in the order of the passage. A group of which a fact is lacking is left out.
        asked: By relation.
        fillers: By kind: sentences that state no fact.
        filler_chance: How likely one of these stands after a sentence.
        alias_chance: How likely another name than the usual one stands for something.
        described: How likely it is said of something what it is.
        named: By kind: how many sentences at the start name their subject in full; else one.
    """

    groups: Mapping[str, tuple[Group, ...]]
    asked: Mapping[str, Asked]
    fillers: Mapping[str, tuple[str, ...]]
    filler_chance: float
    alias_chance: float
    described: float
    named: Mapping[str, int]


_MADE: Final[Mapping[str, tuple[str, str]]] = {
    "novel": ("written", "author"),
    "poem": ("written", "author"),
    "play": ("written", "author"),
    "treatise": ("written", "author"),
    "opera": ("composed", "composer"),
    "symphony": ("composed", "composer"),
    "song": ("composed", "composer"),
    "painting": ("painted", "painter"),
    "film": ("directed", "director"),
}


def passage_text(entity: Entity, known: Knowledge, wording: Wording, draws: Draws) -> str:
    """What the encyclopedia says of an entity: all facts about it."""
    sentences: list[str] = []
    fillers = draws.shuffled(wording.fillers.get(entity.kind, ()))
    values = known.facts[entity.title]
    named = wording.named.get(entity.kind, 1)
    if entity.title in known.honoured:
        named += _OFTEN
    for group in wording.groups[entity.kind]:
        if group.unless in values or not all(relation in values for relation in group.relations):
            continue
        slots = _subject_slots(entity, draws, named=len(sentences) < named)
        slots |= {relation: _spoken(values[relation], entity, known, wording, draws) for relation in group.relations}
        templates = _naming(group.templates) if 0 < len(sentences) < named else group.templates
        sentences.append(_sentence(draws.pick(templates), slots))
        if fillers and draws.chance(wording.filler_chance):
            sentences.append(_sentence(fillers.pop(), _subject_slots(entity, draws, named=False)))
    if fillers and len(sentences) < named:
        sentences.append(_sentence(_naming(fillers)[0], _subject_slots(entity, draws, named=True)))
    return " ".join(sentences)


def _naming(templates: Sequence[str]) -> Sequence[str]:
    """Those that name their subject, if any do."""
    return [template for template in templates if "{S}" in template or "{name}" in template] or templates


def _sentence(template: str, slots: Mapping[str, str]) -> str:
    text = template.format_map(slots)
    return text[0].upper() + text[1:]


def _subject_slots(entity: Entity, draws: Draws, *, named: bool) -> dict[str, str]:
    he, his, him = ("she", "her", "her") if entity.female else ("he", "his", "him")
    if entity.kind != "person":
        he, his, him = "it", "its", "it"
    name = subject = noun_phrase(entity)
    if not named and (entity.kind != "person" or draws.chance(0.6)):
        subject = he
    elif not named and draws.chance(0.6):
        subject = entity.name.split()[-1]
    made, maker = creation(entity)
    return {
        "S": subject, "name": name, "he": he, "his": his, "him": him, "kind": entity.description,
        "a_kind": _with_indefinite_article(entity.description), "made": made, "maker": maker,
    }  # fmt: skip


def creation(entity: Entity) -> tuple[str, str]:
    """Of a work: what was done to make it, and by whom (``written``, ``author``); else two empty texts."""
    return _MADE.get(entity.description, ("", ""))


def noun_phrase(entity: Entity) -> str:
    """The usual name, as it stands within a sentence."""
    return f"the {entity.name}" if entity.kind in _WITH_ARTICLE else entity.name


def described(entity: Entity) -> str:
    """The usual name and what it belongs to, where kinds differ enough for that to help; else as ``noun_phrase``."""
    return f"the {entity.description} {entity.name}" if entity.kind in DESCRIBED else noun_phrase(entity)


def _with_indefinite_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"  # a university


def _spoken(value: str, subject: Entity, known: Knowledge, wording: Wording, draws: Draws) -> str:
    """A value as a passage says it: an entity by one of its names, with what it is where the name alone is unclear."""
    entity = known.entities.get(value)
    if entity is None:
        return value
    if entity.name == subject.name:
        return f"the {entity.description} of the same name"
    if known.is_ambiguous(entity.name) or draws.chance(wording.described):
        return described(entity)
    if len(entity.names) > 1 and draws.chance(wording.alias_chance):
        return draws.pick(entity.names[1:])
    return noun_phrase(entity)
