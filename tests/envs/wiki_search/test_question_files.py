import gzip
import json
import re

import polars as pl
import pytest

from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.envs.wiki_search.question_files import context_passages, read_questions
from agentgym_prm.errors import DataFormatError, DataNotFoundError
from agentgym_prm.search.core import Passage
from tests.conftest import DATA_VARIABLE, data_path

TRIVIA = {
    "Answer": {
        "Value": "York",
        "Aliases": ["York, UK", "York", "UN/LOCODE:GBYRK"],
        "HumanAnswers": ["The city of York"],
        "NormalizedAliases": ["york uk", "york", "un locode gbyrk"],
        "NormalizedValue": "york",
        "MatchedWikiEntityName": "York",
        "Type": "WikipediaEntity",
    },
    "EntityPages": [{"DocSource": "TagMe", "Filename": "England.txt", "Title": "England"}],
    "Question": "Where was Dame Judi Dench born?",
    "QuestionId": "tc_3",
    "QuestionSource": "http://www.triviacountry.com/",
    "SearchResults": [],
}
YORK = Question(
    "tc_3",
    "Where was Dame Judi Dench born?",
    ("York", "York, UK", "UN/LOCODE:GBYRK", "The city of York", "york", "york uk", "un locode gbyrk"),
    "WikipediaEntity",
)
HOTPOT = {
    "_id": "5a77",
    "question": "Which came first, Alû or Lilu?",
    "answer": "Alû",
    "type": "comparison",
    "level": "hard",
    "supporting_facts": [["Alû", 3], ["Lilu", 0], ["Alû", 0]],
    "context": [["Alû", ["First.", " Second."]], ["Lilu", ["Third."]], ["Other", []]],
}
ALU = Question("5a77", "Which came first, Alû or Lilu?", ("Alû",), "comparison/hard", ("Alû", "Lilu"))
MUSIQUE = {
    "id": "2hop__1_2",
    "paragraphs": [
        {"idx": 0, "title": "Zed", "paragraph_text": "Of no use.", "is_supporting": False},
        {"idx": 1, "title": "Hall", "paragraph_text": "He was born in Ashfield.", "is_supporting": True},
        {"idx": 2, "title": "Society", "paragraph_text": "Hall was its president.", "is_supporting": True},
    ],
    "question": "Where was the president of the Society born?",
    "question_decomposition": [
        {"id": 1, "question": "who?", "answer": "Hall", "paragraph_support_idx": 2},
        {"id": 2, "question": "where was #1 born?", "answer": "Ashfield", "paragraph_support_idx": 1},
    ],
    "answer": "Ashfield",
    "answer_aliases": ["Ashfield, Massachusetts", "Ashfield"],
    "answerable": True,
}
HALL = Question("2hop__1_2", MUSIQUE["question"], ("Ashfield", "Ashfield, Massachusetts"), "2hop", ("Society", "Hall"))


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def read(tmp_path, content, name="questions.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_questions(path)


@pytest.mark.parametrize("indent", [None, 4])
def test_triviaqa_is_read_from_its_own_files(tmp_path, indent):
    document = {"Data": [TRIVIA, {**TRIVIA, "QuestionId": "tc_4"}], "Domain": "unfiltered-web", "Version": 1.0}
    found = read(tmp_path, json.dumps(document, indent=indent), "unfiltered-web-dev.json")
    assert found[0] == YORK
    assert [question.id for question in found] == ["tc_3", "tc_4"]


def test_triviaqa_is_read_row_by_row_and_as_on_the_hub(tmp_path):
    snake = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): value for name, value in TRIVIA["Answer"].items()}
    assert {"normalized_aliases", "value", "human_answers"} <= set(snake)
    row = {
        "question": TRIVIA["Question"],
        "question_id": "tc_3",
        "answer": snake,
        "entity_pages": {"title": ["England"]},
    }
    mixed = {**row, "answer": TRIVIA["Answer"]}
    for content in (lines(TRIVIA), lines(row), lines(mixed)):
        assert read(tmp_path, content) == (YORK,)
    pl.DataFrame([row]).write_parquet(tmp_path / "rc.parquet")
    assert read_questions(tmp_path / "rc.parquet") == (YORK,)


def test_a_question_that_comes_with_further_evidence_is_read_once(tmp_path):
    assert read(tmp_path, lines(TRIVIA, {**TRIVIA, "EntityPages": []})) == (YORK,)


def test_natural_questions_have_no_ids_and_are_called_by_file_and_row(tmp_path):
    rows = lines({"question": "who?", "answer": ["Ada", "Lovelace"]}) + "\n" + lines({"question": "x", "answer": "y"})
    assert read(tmp_path, rows, "NQ-open.dev.jsonl") == (
        Question("NQ-open-1", "who?", ("Ada", "Lovelace")),
        Question("NQ-open-3", "x", ("y",)),
    )


def test_kilt_answers_may_be_spread_over_outputs_of_which_some_only_tell_where(tmp_path):
    row = {
        "id": "7",
        "input": "who?",
        "output": [
            {"answer": "Ada"},
            {"provenance": [{"title": "Analytical Engine", "wikipedia_id": "1"}, {"title": "Ada Lovelace"}]},
            {"answer": "Lovelace", "provenance": [{"title": "Elsewhere"}]},
        ],
        "meta": {},
    }
    assert read(tmp_path, lines(row)) == (
        Question("7", "who?", ("Ada", "Lovelace"), "", ("Analytical Engine", "Ada Lovelace")),
    )
    assert read(tmp_path, lines({"id": "8", "input": "who?", "output": [{"answer": "Ada"}]}))[0].supports == ()


def test_hotpotqa_is_read_in_both_shapes_of_facts(tmp_path):
    assert read(tmp_path, json.dumps([HOTPOT]), "hotpot_train_v1.1.json") == (ALU,)
    assert read(tmp_path, lines(HOTPOT)) == (ALU,)
    hub = {name: value for name, value in HOTPOT.items() if name != "_id"} | {
        "id": "5a77",
        "supporting_facts": {"title": ["Alû", "Lilu", "Alû"], "sent_id": [3, 0, 0]},
        "context": {"title": ["Alû"], "sentences": [["First.", " Second."]]},
    }
    pl.DataFrame([hub]).write_parquet(tmp_path / "hotpot.parquet")
    assert read_questions(tmp_path / "hotpot.parquet") == (ALU,)


def test_2wikimultihopqa_is_read_as_hotpotqa_without_a_level(tmp_path):
    row = {name: value for name, value in HOTPOT.items() if name != "level"} | {
        "type": "compositional",
        "evidences": [["Alû", "older than", "Lilu"]],
        "answer_id": "Q1",
    }
    (found,) = read(tmp_path, json.dumps([row]))
    assert found.kind == "compositional"
    assert found.supports == ("Alû", "Lilu")


def test_supports_of_musique_come_in_the_order_of_the_questions_parts(tmp_path):
    assert read(tmp_path, lines(MUSIQUE)) == (HALL,)
    # The order of the file would be another one: the negative control.
    (found,) = read(tmp_path, lines({**MUSIQUE, "question_decomposition": []}))
    assert found.supports == ("Hall", "Society")


def test_paragraphs_of_musique_are_found_by_their_number_not_their_place(tmp_path):
    shuffled = {**MUSIQUE, "paragraphs": MUSIQUE["paragraphs"][::-1]}
    assert read(tmp_path, lines(shuffled)) == (HALL,)
    assert read(tmp_path, lines({**MUSIQUE, "id": "3hop1__1_2_3"}))[0].kind == "3hop"


def test_unanswerable_questions_of_musique_are_left_out(tmp_path):
    assert read(tmp_path, lines(MUSIQUE, {**MUSIQUE, "answerable": False})) == (HALL,)
    with pytest.raises(DataFormatError, match="holds no question"):
        read(tmp_path, lines({**MUSIQUE, "answerable": False}))


def test_flashrag_and_search_r1_are_read_with_what_their_metadata_tell(tmp_path):
    row = {"id": "train_0", "question": "who?", "golden_answers": ["Ada"]}
    metadata = {"type": "bridge", "level": "easy", "supporting_facts": {"title": ["A", "B"], "sent_id": [0, 1]}}
    assert read(tmp_path, lines(row)) == (Question("train_0", "who?", ("Ada",)),)
    assert read(tmp_path, lines({**row, "metadata": metadata}))[0] == Question(
        "train_0", "who?", ("Ada",), "bridge/easy", ("A", "B")
    )
    # Search-R1's file joins data sets whose ids are the same.
    both = [{**row, "data_source": "nq", "metadata": None}, {**row, "question": "x", "data_source": "hotpotqa"}]
    found = read(tmp_path, lines(*both))
    assert [(question.id, question.kind) for question in found] == [
        ("nq/train_0", "nq"),
        ("hotpotqa/train_0", "hotpotqa"),
    ]


def test_the_compact_form_keeps_what_it_tells(tmp_path):
    row = {"id": 3, "question": "who?", "answers": ["Ada", "Ada", " "], "kind": "one_hop", "supports": ["A", "B", "A"]}
    assert read(tmp_path, lines(row, {"id": "4", "question": "x", "answers": "y"})) == (
        Question("3", "who?", ("Ada",), "one_hop", ("A", "B")),
        Question("4", "x", ("y",)),
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "who?"}, "there is no answer: expected a question of TriviaQA, .*; the fields are question"),
        ({"id": "1", "answers": ["x"]}, "there is no 'question'"),
        ({"question": " ", "answers": ["x"]}, "'question' must be a string that is not empty, got ' '"),
        ({"question": 5, "answer": "x"}, "'question' must be a string that is not empty, got 5"),
        ({"question": "who?", "answers": []}, "'answers' holds no answer"),
        ({"question": "who?", "answers": [""]}, "'answers' holds no answer"),
        ({"question": "who?", "answers": [1]}, r"'answers' must be a string or a list of strings, got \[1\]"),
        ({"question": "who?", "answer": None}, "'answer' must be a string or a list of strings, got None"),
        ({"question": "who?", "golden_answers": {"a": 1}}, "'golden_answers' must be a string or a list"),
        ({"question": "who?", "answers": ["x"], "kind": 3}, "the kind of a question must be a string, got 3"),
        ({"question": "who?", "answers": ["x"], "supports": [3]}, "'supports' must be a string or a list"),
        ({"id": [], "question": "who?", "answers": ["x"]}, "'id' must be a string that is not empty, or a whole"),
        ({**TRIVIA, "Answer": "York"}, "'Answer' must be an object, got 'York'"),
        ({**TRIVIA, "Answer": {"Aliases": ["York"]}}, "'Answer' lacks 'Value'"),
        (
            {**TRIVIA, "Answer": {"Value": "York", "Aliases": "x", "NormalizedAliases": [3]}},
            "'Answer.normalizedaliases'",
        ),
        ({"input": "who?", "output": {"answer": "x"}}, "'output' must be a list of objects"),
        ({"input": "who?", "output": [{"provenance": []}]}, "'output.answer' holds no answer"),
        ({"input": "who?", "output": [{"answer": 3}]}, "'output.answer' must be a string or a list"),
        ({**HOTPOT, "supporting_facts": [["Alû"]]}, "'supporting_facts' must be a list of"),
        ({**HOTPOT, "supporting_facts": [[1, 2]]}, "'supporting_facts' must be a string or a list of strings"),
        ({**HOTPOT, "supporting_facts": "Alû"}, "'supporting_facts' must be a list of"),
        ({**MUSIQUE, "paragraphs": None}, "'paragraphs' must be a list of objects"),
        ({**MUSIQUE, "paragraphs": MUSIQUE["paragraphs"][:2]}, "'paragraph_support_idx' 2 is that of no paragraph"),
        ({**MUSIQUE, "answer": None}, "'answer' must be a string or a list of strings"),
        ({**HOTPOT, "supporting_facts": ["ab"]}, "'supporting_facts' must be a list of"),
    ],
)
def test_a_bad_row_is_named_with_its_field(tmp_path, row, problem):
    good = {"id": "good", "question": "who?", "answers": ["x"]}
    with pytest.raises(DataFormatError, match=rf"questions\.jsonl, line 2: {problem}"):
        read(tmp_path, lines(good, row))
    with pytest.raises(DataFormatError, match=rf"questions\.json, row 2: {problem}"):
        read(tmp_path, json.dumps([good, row], indent=1), "questions.json")


def test_one_id_for_two_questions_is_refused_with_both_rows(tmp_path):
    rows = [{"id": "1", "question": text, "answers": ["x"]} for text in ("who?", "where?")]
    with pytest.raises(DataFormatError, match="line 2: the id '1' is that of another question, in line 1"):
        read(tmp_path, lines(*rows))


def test_a_line_that_is_no_json_an_empty_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(DataFormatError, match=r"questions\.jsonl, line 2: no JSON"):
        read(tmp_path, lines(HOTPOT) + "oops\n")
    with pytest.raises(DataFormatError, match=r"questions\.jsonl is empty"):
        read(tmp_path, "")
    with pytest.raises(DataFormatError, match=r"questions\.jsonl holds no question"):
        read(tmp_path, "[]")
    with pytest.raises(DataNotFoundError, match="missing"):
        read_questions(tmp_path / "missing")


# --- the paragraphs that come with questions ---


def test_paragraphs_of_questions_are_passages_each_once(tmp_path):
    hub = {
        **HOTPOT,
        "_id": "b",
        "context": {"title": ["Alû", "New"], "sentences": [["First.", " Second."], ["2Wiki.", "Spaced."]]},
    }
    path = tmp_path / "mixed.jsonl"
    path.write_text(lines(HOTPOT, hub, MUSIQUE))
    assert list(context_passages(path)) == [
        Passage("5a77-0", "Alû", "First. Second."),
        Passage("5a77-1", "Lilu", "Third."),
        Passage("5a77-2", "Other", ""),
        Passage("b-1", "New", "2Wiki. Spaced."),
        Passage("2hop__1_2-0", "Zed", "Of no use."),
        Passage("2hop__1_2-1", "Hall", "He was born in Ashfield."),
        Passage("2hop__1_2-2", "Society", "Hall was its president."),
    ]


@pytest.mark.parametrize(
    "context",
    [
        None,
        "x",
        [["Alû"]],
        [[1, ["x"]]],
        [["Alû", [1]]],
        {"title": ["Alû"]},
        {"title": ["Alû", "Lilu"], "sentences": [[]]},
    ],
)
def test_questions_without_paragraphs_are_refused_by_row(tmp_path, context):
    (tmp_path / "x.jsonl").write_text(lines({**HOTPOT, "context": context}))
    with pytest.raises(DataFormatError, match=r"x\.jsonl, line 1: "):
        list(context_passages(tmp_path / "x.jsonl"))


# --- the data sets' own rows ---


@pytest.fixture(scope="module")
def folder():
    folder = data_path() / "wiki_search"
    if not (folder / "passages.jsonl.gz").is_file():
        pytest.skip(f"no {folder / 'passages.jsonl.gz'}: let ${DATA_VARIABLE} name the folder that holds wiki_search/")
    return folder


@pytest.mark.parametrize(
    ("name", "count", "supports"),
    [
        ("hotpotqa_train_100_distractor", 100, 200),
        ("musique_train_100", 100, 235),
        ("2wiki_matched_to_corpus", 116, 0),
        ("triviaqa_637_aliases", 633, 0),  # four come twice
        ("triviaqa_sample_with_evidence", 9, 0),  # two come twice
    ],
)
def test_real_questions_are_read_and_their_supports_are_in_the_corpus(folder, name, count, supports):
    found = read_questions(folder / f"{name}.jsonl.gz")
    assert len(found) == count
    titles = {
        json.loads(line)["title"] for line in gzip.decompress((folder / "passages.jsonl.gz").read_bytes()).splitlines()
    }
    needed = [title for question in found for title in question.supports]
    assert len(needed) == supports
    assert set(needed) <= titles


def test_real_paragraphs_are_those_of_the_questions(folder):
    for name, count in (("hotpotqa_train_100_distractor", 994), ("musique_train_100", 1890)):
        passages = list(context_passages(folder / f"{name}.jsonl.gz"))
        assert len(passages) == len({passage.id for passage in passages}) == count
        titles = {passage.title for passage in passages}
        for question in read_questions(folder / f"{name}.jsonl.gz"):
            assert titles >= set(question.supports)
