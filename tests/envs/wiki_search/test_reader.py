import time

import pytest

from agentgym_prm.envs.wiki_search.moves import Answer, Malformed, Search
from agentgym_prm.envs.wiki_search.reader import UNKNOWN, Reader
from agentgym_prm.envs.wiki_search.spans import NAME, NUMBER, PERSON, TIME, best_span, names_in, sentences
from agentgym_prm.envs.wiki_search.world import builtin_world
from agentgym_prm.search import BM25Index

PASSAGES = {
    "Mara Velin": "Mara Velin (1812–1870) was a novelist from Amber Hill. Her teacher was Otto Tarsk. "
    "She died in Pale Ford.",
    "Otto Tarsk": "Otto Tarsk was a judge born in Pale Ford in 1790. He joined the Quiet Guild.",
    "Silent Door": "Silent Door is a novel written by Mara Velin in 1851. It is set in Pale Ford.",
    "Pale Ford": "Pale Ford is a town with 12,400 inhabitants. Its first mayor was Ida Lomay.",
    "Amber Hill": "Amber Hill is a town with 3,100 inhabitants. The first mayor of Amber Hill was Hugo Quarn.",
}


def play(question, **options):
    """Searches and the answer; a search finds the passages whose title stands in the query."""
    reader = Reader.begin(question, **options)
    searches = []
    while isinstance(move := reader.choose(), Search):
        assert reader.choose() == move  # choosing changes nothing
        searches.append(move.query)
        found = [f"{title}\n{text}" for title, text in PASSAGES.items() if title in move.query]
        reader.observe(move, "\n\n".join(found))
    return searches, move.text


@pytest.mark.parametrize(
    ("question", "searches", "answer"),
    [
        ("Where was Otto Tarsk born?", ["Otto Tarsk"], "Pale Ford"),
        ("When was Otto Tarsk born?", ["Otto Tarsk"], "1790"),
        ("In which year did Mara Velin die?", ["Mara Velin"], "1870"),
        ("Where did Mara Velin die?", ["Mara Velin"], "Pale Ford"),
        ("Who taught Mara Velin?", ["Mara Velin"], "Otto Tarsk"),
        ("What was the occupation of Otto Tarsk?", None, "judge"),
        ("How many inhabitants does Pale Ford have?", ["Pale Ford"], "12,400"),
        ("Who wrote the novel Silent Door?", ["Silent Door novel"], "Mara Velin"),
        ("Where was the teacher of Mara Velin born?", ["Mara Velin", "Otto Tarsk"], "Pale Ford"),
        ("Where was Mara Velin's teacher born?", ["Mara Velin", "Otto Tarsk"], "Pale Ford"),
        ("Who was the teacher of the author of Silent Door?", ["Silent Door", "Mara Velin"], "Otto Tarsk"),
        ("Who was the first mayor of the town where Silent Door is set?", ["Silent Door", "Pale Ford"], "Ida Lomay"),
        ("Who was born first, Mara Velin or Otto Tarsk?", ["Mara Velin", "Otto Tarsk"], "Otto Tarsk"),
        ("Who was born later, Mara Velin or Otto Tarsk?", ["Mara Velin", "Otto Tarsk"], "Mara Velin"),
        ("Which has more inhabitants, Amber Hill or Pale Ford?", ["Amber Hill", "Pale Ford"], "Pale Ford"),
        ("Which has fewer inhabitants, Amber Hill or Pale Ford?", ["Amber Hill", "Pale Ford"], "Amber Hill"),
        ("Did Mara Velin and Otto Tarsk have the same occupation?", ["Mara Velin", "Otto Tarsk"], "no"),
        ("Are Amber Hill and Pale Ford both towns?", ["Amber Hill", "Pale Ford"], "yes"),
        ("Are Mara Velin and Otto Tarsk both judges?", ["Mara Velin", "Otto Tarsk"], "no"),
    ],
)
def test_the_reader_finds_what_is_asked(question, searches, answer):
    done, found = play(question)
    assert found == answer
    assert searches is None or done == searches


def test_the_reader_stops_searching_at_the_limit():
    question = "Who was the first mayor of the town where the teacher of the author of Silent Door was born?"
    assert play(question, max_searches=4)[1] == "Ida Lomay"
    for most in range(4):
        searches, _ = play(question, max_searches=most)
        assert len(searches) == most


def test_a_reader_that_finds_nothing_says_so():
    searches, answer = play("Who painted Xyzzy?")
    assert answer == UNKNOWN
    assert searches == ["Xyzzy", "Who painted Xyzzy?"]


def test_the_reader_reads_what_others_searched():
    reader = Reader.begin("Where was the teacher of Mara Velin born?")
    reader.observe(Malformed("no such tool"), "Mara Velin\nHer teacher was Hugo Quarn.")  # nothing was found by it
    reader.observe(Search("mara velin"), f"Mara Velin\n{PASSAGES['Mara Velin']}")
    assert reader.choose() == Search("Otto Tarsk")
    reader.observe(Search("Otto Tarsk"), f"Otto Tarsk\n{PASSAGES['Otto Tarsk']}")
    assert reader.choose() == Answer("Pale Ford")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "?",
        "the the the of of",
        "Who",
        "誰が書いたか",
        "A or B",
        " or ",
        "Is and",
        "' “ (–)",
        "the town where",
        "\x00",
    ],
)
def test_any_question_gets_an_answer_whatever_is_found(text):
    for result in ("", "\n\n\n", text, "(((", "A\nB. C! – 1900", "no title " * 10):
        reader = Reader.begin(text, max_searches=3)
        for _ in range(4):
            move = reader.choose()
            reader.observe(move, result)
        assert isinstance(move, Answer)
        assert move.text


@pytest.mark.parametrize("piece", ["Mara Velin ", "the town of ", "Mara's ", "(1900–", "word ", "a, ", "A. "])
def test_long_texts_take_no_more_than_their_length(piece):
    started = time.perf_counter()
    reader = Reader.begin(piece * 20_000)
    reader.observe(Search("x"), piece * 20_000)
    reader.choose()
    # Half a second is usual; what grows with the square of the length would take minutes.
    assert time.perf_counter() - started < 10


def test_fewer_than_no_searches_are_refused():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Reader("Who?", max_searches=-1)


# --- pieces of text ---


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("In 1851 Mara Velin wrote Silent Door.", ["Mara Velin", "Silent Door"]),
        ("The University of Karsholm was founded by J. R. Tarsk.", ["The University of Karsholm", "J. R. Tarsk"]),
        ("Where was the author of The Bell and the Tide born?", ["The Bell and the Tide"]),
        ("Otto Tarsk and Ida Lomay met in Pale Ford in May 1900.", ["Otto Tarsk", "Ida Lomay", "Pale Ford"]),
        ("She came from Ålvik; it rained.", ["Ålvik"]),
    ],
)
def test_names_are_sequences_of_capitalised_words(text, names):
    assert names_in(text) == names


def test_passages_are_split_into_sentences_under_their_titles():
    found = sentences("Mara Velin\nMara Velin (born 3 May 1900, died 1950) wrote. She met Dr. Tarsk.\n\nOther\nText.")
    assert [(each.title, each.text, each.place) for each in found] == [
        ("Mara Velin", "Mara Velin (born 3 May 1900, died 1950) wrote.", 0),
        ("Mara Velin", "She met Dr. Tarsk.", 1),
        ("Other", "Text.", 0),
    ]


def test_years_of_a_life_are_told_apart():
    found = sentences("Mara Velin\nMara Velin (1812–1870) was a novelist.")
    assert [each.text for each in found] == [
        "Mara Velin was a novelist.",
        "Mara Velin was born 1812.",
        "Mara Velin died 1870.",
    ]


@pytest.mark.parametrize(
    ("wanted", "words", "text"),
    [
        (PERSON, ["founder"], "Ida Lomay"),
        (TIME, ["founded"], "3 May 1901"),
        (NUMBER, ["members"], "1,250"),
        (NAME, ["lies"], "Pale Ford"),
    ],
)
def test_the_span_of_the_wanted_type_that_is_nearest_to_the_words_is_best(wanted, words, text):
    found = sentences(
        "Guild\nThe Guild lies in Pale Ford. It was founded on 3 May 1901 by Ida Lomay. It has 1,250 members."
    )
    assert best_span(found, wanted, ("Guild",), words, "asked").text == text


def test_words_of_the_question_are_no_answer():
    found = sentences("Guild\nThe Guild was founded by Ida Lomay and Otto Tarsk.")
    assert best_span(found, PERSON, ("Guild",), ["founded"], "Who founded it with Ida Lomay?").text == "Otto Tarsk"


@pytest.mark.parametrize(("difficulty", "least"), [("small", 0.9), ("full", 0.65)])
def test_the_reader_answers_most_questions_of_the_builtin_worlds(difficulty, least):
    """Measured on all of valid by benchmarks/wiki_experts.py; here on the first 100, with one passage a search."""
    world = builtin_world(difficulty)
    index = BM25Index.build([f"{passage.title} {passage.text}" for passage in world.passages])
    right = 0
    for question in world.questions("valid")[:100]:
        reader = Reader.begin(question.text)
        while isinstance(move := reader.choose(), Search):
            passages = [world.passages[hit.document] for hit in index.search([move.query], 1)[0]]
            reader.observe(move, "\n\n".join(f"{passage.title}\n{passage.text}" for passage in passages))
        right += move.text in question.answers
    assert right / 100 >= least
