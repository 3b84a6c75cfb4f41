"""A few passages, questions about them, and a search so plain that its results can be told by hand."""

from collections.abc import Sequence

from agentgym_prm.envs.wiki_search.env import WikiSearchEnv
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.search.core import Found, Passage

PASSAGES = (
    Passage("p0", "Anna Ek", "Anna Ek (born 1901) was a painter. She was born in Falun. She died in Oslo."),
    Passage("p1", "Falun", "Falun is a town on the river Runn. Its mayor is Bo Lind."),
    Passage("p2", "Oslo", "Oslo is a city on the river Aker."),
    Passage("p3", "The Red Door", "The Red Door is a novel by Anna Ek. It appeared in 1930."),
)
BIRTH = "On which river is the town where Anna Ek was born?"
QUESTIONS = (
    Question("q0", BIRTH, ("Runn", "river Runn"), "two_hop", ("Anna Ek", "Falun")),
    Question("q1", "When did The Red Door appear?", ("1930",), "one_hop", ("The Red Door",)),
    Question("q2", "Is Oslo a city?", ("yes",), "comparison"),
)  # fmt: skip


class SharedWords:
    """Passages by how many different words of the query stand in title or text, whatever their case, then by number."""

    def __init__(self, passages: Sequence[Passage] = PASSAGES) -> None:
        self.passages = passages
        self.asked: list[str] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Found]]:
        self.asked += queries
        return [self._found(query, k) for query in queries]

    def _found(self, query: str, k: int) -> list[Found]:
        words = {*query.casefold().split()}
        found = [Found(each, len(words & {*f"{each.title} {each.text}".casefold().split()})) for each in self.passages]
        return sorted((each for each in found if each.score), key=lambda each: -each.score)[:k]


def make(**kwargs) -> WikiSearchEnv:
    return WikiSearchEnv(**{"data": QUESTIONS, "split": "all", "index": SharedWords(), **kwargs})
