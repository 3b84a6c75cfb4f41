import hashlib
import re
from collections import Counter
from itertools import chain, combinations

import pytest

from agentgym_prm.envs.wiki_search.facts import SPLITS, Mention, Query
from agentgym_prm.envs.wiki_search.full_wording import FULL_WORDING
from agentgym_prm.envs.wiki_search.world import DIFFICULTIES, NUM_QUESTIONS, builtin_world
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.search import BM25Index


def words(text):
    return re.findall(r"\w+", text.lower())


def occurs(form, text):
    return f" {' '.join(words(form))} " in f" {' '.join(words(text))} "


def some(world, split):
    """Questions of a split with what they mean; of many one in five."""
    questions, meanings = world.questions(split), world.meanings(split)
    return [(question, meanings[question.id]) for question in questions[:: 5 if len(questions) > 2000 else 1]]


def everything(world):
    return [pair for split in SPLITS for pair in some(world, split)]


def asked_of_facts(world, query):
    """All answers of a query, found by going through lists."""
    meant = []
    for name, description in query.mentions:
        named = [entity for entity in world.entities if name in entity.names]
        meant.append([entity.title for entity in named if description in ("", entity.description)])
    for relation in query.path:
        facts = [fact for fact in world.facts if fact.relation == relation]
        meant = [[fact.value for fact in facts if fact.subject in titles] for titles in meant]
    return meant


@pytest.fixture(scope="module", params=DIFFICULTIES)
def world(request):
    return builtin_world(request.param)


@pytest.fixture(scope="module")
def small():
    return builtin_world("small")


@pytest.fixture(scope="module")
def full():
    return builtin_world("full")


# --- what every world promises ---


def test_every_question_has_one_answer_in_the_facts(world):
    forms = names(world)
    for question, query in everything(world)[::6]:
        meant = asked_of_facts(world, query)
        assert all(len(values) == 1 for values in meant), question
        values = [values[0] for values in meant]
        if query.operation == "follow":
            assert question.answers == forms.get(values[0], question.answers)
            assert values[0] in forms or values[0] in question.answers
        elif query.operation == "same":
            assert question.answers == (("yes",) if values[0] == values[1] else ("no",))
        else:
            first, second = (int(value.replace(",", "")) for value in values)
            assert first != second
            place = int((first < second) == (query.operation == "higher"))
            assert question.answers == forms[question.supports[place]]


def names(world):
    return {entity.title: entity.names for entity in world.entities}


def test_a_name_that_two_have_does_not_suffice(full):
    """Negative control: without what the homonym is, the slow search finds several."""
    title = next(entity.title for entity in full.entities if entity.title.endswith("(painter)"))
    name = title.removesuffix(" (painter)")
    assert len(asked_of_facts(full, Query("follow", (Mention(name, ""),), ("birthplace",)))[0]) == 2
    assert len(asked_of_facts(full, Query("follow", (Mention(name, "painter"),), ("birthplace",)))[0]) == 1


def test_answers_stand_in_the_passages_that_support_them(world):
    texts = {passage.title: passage.text for passage in world.passages}
    for question in chain.from_iterable(world.questions(split) for split in SPLITS):
        if question.kind in ("one_hop", "two_hop"):
            assert any(occurs(form, texts[question.supports[-1]]) for form in question.answers), question
        elif question.kind == "comparison":
            assert any(occurs(form, texts[title]) for title in question.supports for form in question.answers), question


def test_every_fact_stands_in_the_passage_of_its_subject(world):
    texts = {passage.title: passage.text for passage in world.passages}
    forms = names(world)
    missing = [
        fact
        for fact in world.facts
        if not any(occurs(form, texts[fact.subject]) for form in forms.get(fact.value, (fact.value,)))
    ]
    assert missing == []


def test_passages_lead_from_hop_to_hop(world):
    texts = {passage.title: passage.text for passage in world.passages}
    forms = names(world)
    for question, _ in everything(world):
        if question.kind == "two_hop":
            start, bridge = question.supports
            assert any(occurs(form, texts[start]) for form in forms[bridge]), question


def test_questions_tell_neither_their_answer_nor_what_lies_between(world):
    forms = names(world)
    for question in chain.from_iterable(world.questions(split) for split in SPLITS):
        if question.kind in ("one_hop", "two_hop"):
            hidden = (*question.answers, *chain.from_iterable(forms[title] for title in question.supports[1:]))
            assert not any(occurs(form, question.text) for form in hidden), question


def test_splits_have_no_entity_in_common(world):
    """Neither as what is asked about, nor between, nor as an answer, nor as a passage that supports one."""
    titles = {passage.title for passage in world.passages}
    used = {}
    for split in SPLITS:
        questions, meanings = world.questions(split), world.meanings(split)
        used[split] = {title for question in questions for title in question.supports}
        assert used[split] <= titles
        named = {mention.name for query in meanings.values() for mention in query.mentions}
        answered = {question.answers[0] for question in questions}
        used[split] |= {
            entity.title for entity in world.entities if entity.names[0] in answered or named & set(entity.names)
        }
    assert all(used[one].isdisjoint(used[other]) for one, other in combinations(SPLITS, 2))
    owner = {entity.title: entity.split for entity in world.entities}
    assert all(owner[title] == split for split in SPLITS for title in used[split])


def test_facts_lead_to_entities_of_the_same_split(world):
    owner = {entity.title: entity.split for entity in world.entities}
    leading = [fact for fact in world.facts if fact.value in owner]
    assert len(leading) > 600
    assert all(owner[fact.subject] == owner[fact.value] for fact in leading)


def test_searching_a_title_finds_its_passage_first(world):
    """Those of homonyms too, whose titles say what they are."""
    passages = world.passages
    index = BM25Index.build([f"{passage.title} {passage.text}" for passage in passages])
    first = [passages[hits[0].document] for hits in index.search([passage.title for passage in passages], 1)]
    wrong = [(own.title, found.title) for own, found in zip(passages, first, strict=True) if own != found]
    assert wrong == []


def test_a_world_has_the_questions_that_it_promises(world):
    for split in SPLITS:
        questions = world.questions(split)
        assert Counter(question.kind for question in questions) == NUM_QUESTIONS[world.difficulty][split]
        assert len({question.id for question in questions}) == len(questions)
    texts = [question.text for split in SPLITS for question in world.questions(split)]
    assert len(set(texts)) == len(texts)


def test_titles_and_ids_of_passages_are_their_own(world):
    assert len({passage.title for passage in world.passages}) == len(world.passages) == len(world.entities)
    assert len({passage.id for passage in world.passages}) == len(world.passages)


def test_an_alias_is_the_name_of_one_entity_alone(world):
    owners = {}
    for entity in world.entities:
        assert len(set(entity.names)) == len(entity.names)
        for name in entity.names:
            owners.setdefault(name, []).append(entity)
    shared = {name: found for name, found in owners.items() if len(found) > 1}
    assert all(entity.name == name for name, found in shared.items() for entity in found)
    # Those of one name are of different kinds.
    assert all(len({entity.description for entity in found}) == len(found) for found in shared.values())


def test_a_relation_has_one_value(world):
    assert len({(fact.subject, fact.relation) for fact in world.facts}) == len(world.facts)


def test_nobody_does_anything_before_growing_up_or_after_death(world):
    values = {(fact.subject, fact.relation): fact.value for fact in world.facts}

    def year(title, relation, default):
        return int(values.get((title, relation), default))

    checked = Counter()
    for (subject, relation), value in values.items():
        born, died = year(value, "birth_year", 0), year(value, "death_year", 9999)
        if relation == "teacher":
            assert born + 14 <= year(subject, "birth_year", 0) <= died - 18 or died == 9999
        elif relation in ("author", "founder", "architect"):
            when = {"author": "year", "architect": "completed"}.get(relation)
            when = when or ("club_year" if (subject, "club_year") in values else "established")
            assert born + 23 <= year(subject, when, 0) <= min(died, born + 66)
        elif relation == "source_work":
            assert year(value, "year", 9999) < year(subject, "year", 0)
        elif relation == "school":
            assert year(value, "established", 9999) <= year(subject, "birth_year", 0) + 17
        elif relation == "spouse":
            assert values[value, "spouse"] == subject
        elif relation == "capital":
            region = values[value, "region"]
            assert values[region, "country"] == subject
        elif relation == "masterpiece":
            assert values[value, "author"] == subject
        else:
            continue
        checked[relation] += 1
    assert min(checked.values()) > 10
    assert len(checked) == (3 if world.difficulty == "small" else 9)


# The digests were taken when the worlds were written: they must be the same everywhere.
DIGESTS = {"small": "a3a578262e40852d", "full": "cafeb40a46309223"}


def test_worlds_are_the_same_on_every_machine(world):
    texts = [*map(str, world.passages), *(str(question) for split in SPLITS for question in world.questions(split))]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    assert digest == DIGESTS[world.difficulty]


def test_a_world_is_made_once():
    assert builtin_world("small") is builtin_world("small")
    assert builtin_world("small").questions("test") == builtin_world("small").questions("test")


def test_unknown_names_are_refused(small):
    with pytest.raises(UnknownNameError, match="small"):
        builtin_world("smal")
    with pytest.raises(UnknownNameError, match="valid"):
        small.questions("validation")


# --- the small world, for a model of few words ---


def test_small_passages_questions_and_names_are_short(small):
    for passage in small.passages:
        assert len(passage.text.split()) <= 30
        assert 2 <= passage.text.count(". ") + 1 <= 3
        assert len(passage.title.split()) == 2
    questions = [question for split in SPLITS for question in small.questions(split)]
    assert max(len(question.text.split()) for question in questions) <= 15
    assert max(len(answer.split()) for question in questions for answer in question.answers) <= 2
    assert all(len(entity.name.split()) == 2 for entity in small.entities)


def test_words_of_small_names_stand_in_names_of_every_split(small):
    for split in SPLITS:
        counts = Counter(word for entity in small.entities if entity.split == split for word in entity.name.split())
        if split == "train":
            assert min(counts.values()) >= 5
        for other in SPLITS:
            assert {word for entity in small.entities if entity.split == other for word in entity.name.split()} == set(
                counts
            )


def test_small_test_questions_bring_no_new_word_but_new_names(small):
    texts = {passage.title: passage.text for passage in small.passages}

    def seen(split):
        for question in small.questions(split):
            yield from words(
                " ".join((question.text, *question.answers, *(texts[title] for title in question.supports)))
            )

    assert set(seen("valid")) <= set(seen("train"))
    assert set(seen("test")) <= set(seen("train"))
    train = " ".join(question.text for question in small.questions("train"))
    assert not any(entity.name in train for entity in small.entities if entity.split == "test")


# --- the full world ---


def test_there_are_three_sentences_for_each_fact_of_the_full_world():
    assert all(len(group.templates) >= 3 for groups in FULL_WORDING.groups.values() for group in groups)


def test_every_fact_of_the_full_world_is_asked_for_in_some_way(full):
    relations = {fact.relation for fact in full.facts}
    assert relations == set(FULL_WORDING.asked)
    asked = {query.path[-1] for query in full.meanings("train").values()}
    assert asked == relations


def test_the_full_world_has_homonyms_aliases_and_accents(full):
    names = Counter(entity.name for entity in full.entities)
    assert sum(count > 1 for count in names.values()) > 60
    train = full.questions("train")
    assert sum(len(question.answers) > 1 for question in train) > 1000
    assert sum(not question.answers[0].isascii() for question in train) > 100
    described = [query for query in full.meanings("train").values() if query.mentions[0].description]
    assert len(described) > 500


def test_yes_and_no_are_about_equally_often_right(full):
    answers = Counter(question.answers for question in full.questions("train") if question.kind == "yes_no")
    # 400 draws: three standard deviations are 30.
    assert answers[("yes",)] == pytest.approx(200, abs=30)
