"""The builtin encyclopedia: a small consistent world of our own, with questions about it; every name is invented.

Every entity (a person, town, work, …) belongs to one split, and so does everything that facts about it lead to. The
splits share one corpus, but no question asks about, leads through or is answered by an entity of another split, nor is
it supported by its passage. What splits have in common are values that are no entities (years, numbers, occupations,
wares) and words that names are made of.

====== ======== ====================================================================================================
world  passages what it is like
====== ======== ====================================================================================================
small  504      two or three short sentences each, about 20 words; names of two words, which all stand in names of
                every split; questions of one and two hops, half and half
full   3,635    about 45 words each; three or more sentences for each fact, and some that tell none; homonyms, initials,
                pen and former names, accents, things named after people; also comparisons and yes or no
====== ======== ====================================================================================================

Every question has one answer. That of a question of one or two hops stands in the passage of the last support, and
neither it nor the name of what lies between stands in the question; that of a comparison is one of the two names.

Everything is drawn by ``agentgym_prm.draws`` and so the same on every machine. A change of the tables or of the order
of draws changes the world, and so the tasks of environments that play in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Final

from agentgym_prm.envs.wiki_search.asking import Draft, comparisons, one_hop, two_hop
from agentgym_prm.envs.wiki_search.facts import SPLITS, Draws, Entity, Fact, Knowledge, Query
from agentgym_prm.envs.wiki_search.full_wording import FULL_WORDING
from agentgym_prm.envs.wiki_search.full_world import full_facts
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.envs.wiki_search.small_world import SMALL_WORDING, small_facts
from agentgym_prm.envs.wiki_search.wording import Wording, passage_text
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.search.core import Passage

DIFFICULTIES: Final = ("small", "full")
NUM_QUESTIONS: Final[Mapping[str, Mapping[str, Mapping[str, int]]]] = {
    "small": {
        "train": {"one_hop": 1100, "two_hop": 1100},
        "valid": {"one_hop": 300, "two_hop": 300},
        "test": {"one_hop": 300, "two_hop": 300},
    },
    "full": {
        "train": {"one_hop": 2400, "two_hop": 2400, "comparison": 800, "yes_no": 400},
        "valid": {"one_hop": 400, "two_hop": 400, "comparison": 133, "yes_no": 67},
        "test": {"one_hop": 400, "two_hop": 400, "comparison": 133, "yes_no": 67},
    },
}
"""By difficulty, split and kind."""


class World:
    """Entities and facts, passages that state them, and questions about them. Made by ``builtin_world``.

    Attributes:
        difficulty: ``small`` or ``full``.
        entities: All that have a passage.
        facts: All that is so.
    """

    def __init__(self, difficulty: str, entities: Sequence[Entity], facts: Sequence[Fact], wording: Wording) -> None:
        self.difficulty = difficulty
        self.entities = tuple(entities)
        self.facts = tuple(facts)
        self._known = Knowledge(entities, facts)
        self._wording = wording
        self._asked = cache(self._draw_questions)

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """One for each entity, of all splits."""
        draws = Draws(DIFFICULTIES.index(self.difficulty), 0)
        # Shuffled, so that neither ids nor ties in a search tell a split.
        return tuple(
            Passage(
                f"{self.difficulty}-{number}", entity.title, passage_text(entity, self._known, self._wording, draws)
            )
            for number, entity in enumerate(draws.shuffled(self.entities))
        )

    def questions(self, split: str) -> tuple[Question, ...]:
        """Those of a split, kinds mixed.

        Raises:
            UnknownNameError: No such split.
        """
        return tuple(question for question, _ in self._asked(split))

    def meanings(self, split: str) -> Mapping[str, Query]:
        """What the questions of a split ask for, by their ids.

        Raises:
            UnknownNameError: No such split.
        """
        return {question.id: query for question, query in self._asked(split)}

    def _draw_questions(self, split: str) -> list[tuple[Question, Query]]:
        if split not in SPLITS:
            raise UnknownNameError.of("split", split, SPLITS)
        draws = Draws(DIFFICULTIES.index(self.difficulty), 1, SPLITS.index(split))
        drafts = draws.shuffled(self._drafts(split, draws))
        return [
            (
                Question(
                    f"builtin-{self.difficulty}/{split}/{number}",
                    draft.text,
                    self._known.names(draft.value),
                    draft.kind,
                    draft.supports,
                ),
                draft.query,
            )
            for number, draft in enumerate(drafts)
        ]

    def _drafts(self, split: str, draws: Draws) -> list[Draft]:
        """As many of each kind as there should be, no text twice."""
        entities = [entity for entity in self.entities if entity.split == split]
        drafts: dict[str, Draft] = {}
        for kind, size in NUM_QUESTIONS[self.difficulty][split].items():
            wanted = len(drafts) + size
            for draft in _MAKERS[kind](entities, self._known, self._wording, draws):
                drafts.setdefault(draft.text, draft)
                if len(drafts) == wanted:
                    break
            assert len(drafts) == wanted, f"{self.difficulty} {split} has too few questions of kind {kind}"
        return list(drafts.values())


_MAKERS: Final[Mapping[str, Callable[[Sequence[Entity], Knowledge, Wording, Draws], Iterator[Draft]]]] = {
    "one_hop": one_hop,
    "two_hop": two_hop,
    "comparison": partial(comparisons, operation="ordered"),
    "yes_no": partial(comparisons, operation="same"),
}


@cache
def builtin_world(difficulty: str) -> World:
    """The builtin world of a difficulty, the same one whenever it is asked for.

    Raises:
        UnknownNameError: No such difficulty.
    """
    if difficulty not in DIFFICULTIES:
        raise UnknownNameError.of("difficulty", difficulty, DIFFICULTIES)
    if difficulty == "small":
        return World(difficulty, *small_facts(), SMALL_WORDING)
    return World(difficulty, *full_facts(), FULL_WORDING)
