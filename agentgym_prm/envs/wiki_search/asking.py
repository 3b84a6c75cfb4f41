"""Questions about a world: what is asked, in which words, and that it has one answer."""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from agentgym_prm.envs.wiki_search.facts import Draws, Entity, Knowledge, Mention, Query
from agentgym_prm.envs.wiki_search.wording import DESCRIBED, Wording, creation, described, noun_phrase


class Draft(NamedTuple):
    """A question before it has a number."""

    text: str
    kind: str
    query: Query
    value: str
    supports: tuple[str, ...]


def one_hop(entities: Sequence[Entity], known: Knowledge, wording: Wording, draws: Draws) -> Iterator[Draft]:
    """A question for each fact about these entities, in random order."""
    asked = [(entity, each) for entity in entities for each in known.facts[entity.title] if each in wording.asked]
    for entity, relation in draws.shuffled(asked):
        mention, x = _mentioned(entity, known, wording, draws)
        text = _asked(wording.asked[relation].questions, entity, x, draws)
        query = Query("follow", (mention,), (relation,))
        draft = Draft(text, "one_hop", query, known.facts[entity.title][relation], (entity.title,))
        if _is_sound(draft, known):
            yield draft


def two_hop(entities: Sequence[Entity], known: Knowledge, wording: Wording, draws: Draws) -> Iterator[Draft]:
    """A question for each fact about something that a fact about one of these entities leads to, in random order."""
    asked = [
        (entity, first, known.entities[between], second)
        for entity in entities
        for first, between in known.facts[entity.title].items()
        if between in known.entities and wording.asked[first].phrases
        for second in known.facts[between]
        if second in wording.asked
    ]
    for entity, first, bridge, second in draws.shuffled(asked):
        mention, x = _mentioned(entity, known, wording, draws)
        phrase = _asked(wording.asked[first].phrases, entity, x, draws)
        text = _asked(wording.asked[second].questions, bridge, phrase, draws)
        query = Query("follow", (mention,), (first, second))
        draft = Draft(text, "two_hop", query, known.facts[bridge.title][second], (entity.title, bridge.title))
        if _is_sound(draft, known):
            yield draft


def comparisons(
    entities: Sequence[Entity], known: Knowledge, wording: Wording, draws: Draws, *, operation: str
) -> Iterator[Draft]:
    """Questions that compare two entities, without end: whether values are the ``same``, or ``ordered`` numbers."""
    relations = [
        each for each, asked in wording.asked.items() if (asked.same if operation == "same" else asked.compared)
    ]
    having = {each: [entity for entity in entities if each in known.facts[entity.title]] for each in relations}
    made = 0
    while True:
        relation = draws.pick(relations)
        others = having[relation]
        one = draws.pick(others)
        if operation == "same" and made % 2:
            value = known.facts[one.title][relation]
            others = [entity for entity in others if known.facts[entity.title][relation] == value]
        other = draws.pick(others)
        if one.name != other.name:
            for draft in _comparison(one, other, relation, known, wording, draws, operation=operation):
                made += 1
                yield draft


def _comparison(
    one: Entity, other: Entity, relation: str, known: Knowledge, wording: Wording, draws: Draws, *, operation: str
) -> Iterator[Draft]:
    asked = wording.asked[relation]
    exact, template = draws.pick([("same", text) for text in asked.same] if operation == "same" else asked.compared)
    (first, x), (second, y) = (_mentioned(entity, known, wording, draws) for entity in (one, other))
    query = Query(exact, (first, second), (relation,))
    answers = known.answers(query)
    if len(answers) == 1:
        kind = "yes_no" if operation == "same" else "comparison"
        yield Draft(template.format(x=x, y=y), kind, query, answers.pop(), (one.title, other.title))


def _mentioned(entity: Entity, known: Knowledge, wording: Wording, draws: Draws) -> tuple[Mention, str]:
    """The entity as a query has it and as a text says it."""
    if known.is_ambiguous(entity.name) or draws.chance(wording.described):
        return Mention(entity.name, entity.description if entity.kind in DESCRIBED else ""), described(entity)
    if len(entity.names) > 1 and draws.chance(wording.alias_chance):
        alias = draws.pick(entity.names[1:])
        return Mention(alias, ""), alias
    return Mention(entity.name, ""), noun_phrase(entity)


def _asked(templates: Sequence[str], entity: Entity, x: str, draws: Draws) -> str:
    made, maker = creation(entity)
    return draws.pick(templates).format(x=x, made=made, maker=maker)


def _is_sound(draft: Draft, known: Knowledge) -> bool:
    """Whether neither the answer nor what lies between stands in the question."""
    assert known.answers(draft.query) == {draft.value}, draft
    text = _words(draft.text)
    hidden = (draft.value, *draft.supports[1:])
    names = (name for value in hidden for name in known.names(value))
    return not any(_words(name) in text for name in names)


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.lower()))} "


_WORD: Final = re.compile(r"\w+")
