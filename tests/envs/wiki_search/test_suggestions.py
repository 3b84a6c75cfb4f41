import pytest

from agentgym_prm.envs.wiki_search.suggestions import asks_yes_or_no, names_in, nouns_in


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Who wrote The Red Door?", ("Red Door",)),  # an article in front may belong to it or not
        ("Anna van Ek met Bo Lind in Falun.", ("Anna van Ek", "Bo Lind", "Falun")),
        ("It was built in 1905, by the University of Oslo", ("1905", "University of Oslo")),
        ("In 1905 Anna died. She was 71.", ("1905", "Anna", "71")),
        ("3,000 people; 2.5 km", ("3,000", "2.5")),
        ("Jean-Luc O'Neill and Åsa Öst", ("Jean-Luc O'Neill", "Åsa Öst")),
        ('the song "red doors" by “the Keys”', ("red doors", "the Keys", "Keys")),
        ("Oslo, Oslo. Oslo", ("Oslo",)),
        ("The Bank of the", ("Bank",)),
        ("by V. Ek. She sang", ("V. Ek",)),
        ("What is it?", ()),
        ("", ()),
    ],
)
def test_names_years_and_numbers_in_order_and_once(text, names):
    assert names_in(text) == names


def test_which_questions_yes_or_no_answers():
    assert asks_yes_or_no("Is Oslo a city?")
    assert asks_yes_or_no("were they born in one town?")
    assert not asks_yes_or_no("Who is it?")
    assert not asks_yes_or_no("")


def test_nouns_stand_after_an_article_or_at_the_end_of_a_clause():
    assert nouns_in("He was an architect, and an old one. It makes wool, silk and Salt.") == (
        "architect",
        "old",
        "wool",
    )
    assert nouns_in("A town (on the river) of 3,000") == ("town", "river")
    assert nouns_in("") == ()
