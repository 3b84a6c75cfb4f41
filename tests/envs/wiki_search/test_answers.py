import random
import re
import string
from collections import Counter

import pytest

from agentgym_prm.envs.wiki_search.answers import METRICS, exact_match, f1, normalised, occurs
from agentgym_prm.errors import UnknownNameError


@pytest.mark.parametrize(
    ("text", "triviaqa", "squad"),
    [
        ("The Beatles", "beatles", "beatles"),
        ("  a  Hard\tDay's_Night!", "hard day s night", "hard daysnight"),
        ("Theatre, an anthem", "theatre anthem", "theatre anthem"),  # articles are words
        ("Rock‘n’Roll", "rock n roll", "rock‘n’roll"),  # typographic quotes are no ASCII punctuation
        ("the U.S.A.", "u s", "usa"),  # "a" is an article where it stands alone
        ("É", "é", "é"),
        ("the", "", ""),
        ("日本、東京", "日本、東京", "日本、東京"),
        ("3,000", "3 000", "3000"),
    ],
)
def test_normalisation_as_in_the_official_evaluations(text, triviaqa, squad):
    assert normalised(text) == normalised(text, "triviaqa") == triviaqa
    assert normalised(text, "squad") == normalised(text, "hotpotqa") == squad


def literally_normalised(text: str, metric: str) -> str:
    """Step by step, as the evaluations describe it."""
    if metric == "triviaqa":
        text = text.replace("_", " ")
    text = text.lower()
    marks = string.punctuation + ("‘’´`" if metric == "triviaqa" else "")
    instead = " " if metric == "triviaqa" else ""
    text = "".join(instead if character in marks else character for character in text)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def literally_f1(answer: str, form: str, metric: str) -> float:
    answer, form = literally_normalised(answer, metric), literally_normalised(form, metric)
    if metric == "hotpotqa" and answer != form and {answer, form} & {"yes", "no", "noanswer"}:
        return 0.0
    shared = 0
    left = form.split()
    for word in answer.split():
        if word in left:
            left.remove(word)
            shared += 1
    return 2 * shared / (len(answer.split()) + len(form.split())) if shared else 0.0


@pytest.mark.parametrize("metric", METRICS)
def test_both_scores_equal_a_literal_restatement_on_random_texts(metric):
    draws = random.Random(0)
    words = ["the", "a", "an", "An", "yes", "no", "Oslo", "oslo!", "U.S.", "u_s", "’", "-", "é", "\t", "3,000", ""]
    hits: Counter[bool] = Counter()
    for _ in range(2000):
        answer, *forms = (" ".join(draws.choices(words, k=draws.randint(0, 4))) for _ in range(draws.randint(2, 4)))
        matches = [literally_normalised(answer, metric) == literally_normalised(form, metric) for form in forms]
        assert exact_match(answer, forms, metric) == float(any(matches))
        best = max(literally_f1(answer, form, metric) for form in forms)
        assert f1(answer, forms, metric) == pytest.approx(best, abs=1e-12)  # the order of the operations
        hits[any(matches)] += 1
    assert min(hits.values()) > 200


@pytest.mark.parametrize(
    ("answer", "form", "metric", "expected"),
    [
        ("Anna Ek", "Anna Ek", "triviaqa", 1.0),
        ("the painter Anna Ek", "Anna Ek", "triviaqa", 0.8),  # precision 2/3, recall 1: 2 * 2/3 / (5/3)
        ("Ek Ek", "Ek", "triviaqa", 2 / 3),  # the second one is not in the form: precision 1/2, recall 1
        ("Oslo", "Falun", "triviaqa", 0.0),
        ("", "", "triviaqa", 0.0),  # nothing is shared
        ("yes it is", "yes", "squad", 0.5),  # precision 1/3, recall 1
        ("yes it is", "yes", "hotpotqa", 0.0),  # all or nothing
        ("yes", "yes it is", "hotpotqa", 0.0),
        ("Yes.", "yes", "hotpotqa", 1.0),
    ],
)
def test_f1_by_hand(answer, form, metric, expected):
    assert f1(answer, [form], metric) == pytest.approx(expected, abs=1e-15)


def test_the_best_form_counts_and_none_is_worth_nothing():
    assert f1("Bo Lind", ["Lind", "Bo Lind", "B. L."]) == exact_match("Bo Lind", ["Lind", "Bo Lind"]) == 1.0
    assert f1("Bo", []) == exact_match("Bo", []) == 0.0


def test_words_occur_not_letters():
    assert occurs(["Runn"], "on the river Runn.")
    assert occurs(["São Tomé"], "in SÃO TOMÉ, they say")
    assert not occurs(["Sao Tome"], "in São Tomé")  # an accent is a letter; aliases are there for that
    assert not occurs(["us"], "because")
    assert not occurs(["The"], "the")
    assert not occurs([], "anything")


def test_unknown_metrics_name_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'triviaqa'"):
        normalised("a", "trivia")
