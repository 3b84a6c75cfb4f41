"""Who knows how to answer: ``OracleExpert`` knows the supports; ``Reader`` (``reader.py``) reads the texts alone."""

from agentgym_prm.envs.wiki_search.moves import Answer, Malformed, Search
from agentgym_prm.envs.wiki_search.question import Question


class OracleExpert:
    """Searches for the title of each supporting passage, in their order, and gives the answer.

    Without supports it searches for the question. It plays on from any state: what was searched for already, by
    whomever, it does not search for again.

    Args:
        question: What is to be answered.
        max_searches: After so many it answers; by default it takes what it needs.
    """

    def __init__(self, question: Question, *, max_searches: int | None = None) -> None:
        self._question = question
        self._queries = question.supports or (question.text,)
        self._max_searches = max_searches
        self._searched: list[str] = []

    def observe(self, move: Search | Answer | Malformed, result: str) -> None:
        """Take note of a move, whoever chose it; what it brought does not matter."""
        if isinstance(move, Search):
            self._searched.append(move.query)

    def choose(self) -> Search | Answer:
        """The next move."""
        missing = [query for query in self._queries if query not in self._searched]
        if missing and (self._max_searches is None or len(self._searched) < self._max_searches):
            return Search(missing[0])
        return Answer(self._question.answers[0])
