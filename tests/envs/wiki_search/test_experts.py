import pytest

from agentgym_prm.envs.wiki_search.experts import OracleExpert
from agentgym_prm.envs.wiki_search.moves import Answer, Malformed, Search
from agentgym_prm.envs.wiki_search.question import Question

QUESTION = Question(
    "1", "Where was the author of Silent Door born?", ("Amber Hill", "Hill"), "two_hop", ("Silent Door", "Mara Velin")
)


def played(expert):
    moves = []
    while not moves or isinstance(moves[-1], Search):
        moves.append(expert.choose())
        expert.observe(moves[-1], "whatever")
    return moves


def test_the_oracle_searches_each_support_in_order_and_answers_in_the_first_form():
    assert played(OracleExpert(QUESTION)) == [Search("Silent Door"), Search("Mara Velin"), Answer("Amber Hill")]


def test_without_supports_the_oracle_searches_the_question():
    question = Question("2", "Who wrote it?", ("Mara Velin",))
    assert played(OracleExpert(question)) == [Search("Who wrote it?"), Answer("Mara Velin")]


def test_the_oracle_plays_on_from_what_others_did():
    expert = OracleExpert(QUESTION)
    expert.observe(Search("silly"), "")
    expert.observe(Malformed("what?"), "")
    expert.observe(Search("Silent Door"), "")
    assert played(expert) == [Search("Mara Velin"), Answer("Amber Hill")]


@pytest.mark.parametrize(("most", "searches"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_the_oracle_answers_when_no_search_is_left(most, searches):
    moves = played(OracleExpert(QUESTION, max_searches=most))
    assert len(moves) == searches + 1
    assert moves[-1] == Answer("Amber Hill")


def test_searches_of_others_count_towards_the_most():
    expert = OracleExpert(QUESTION, max_searches=2)
    expert.observe(Search("silly"), "")
    assert played(expert) == [Search("Silent Door"), Answer("Amber Hill")]
