import gzip
import json

import pytest

from agentgym_prm.errors import DataFormatError, UnknownNameError
from agentgym_prm.rewards.step_labels import StepLabels, read_step_labels
from agentgym_prm.types import Action, History, Step


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_row(tmp_path, row, form=None):
    return read_step_labels(write(tmp_path / "rows.jsonl", row), form)


# --- values ---


def test_an_attempt_has_a_label_for_each_step():
    with pytest.raises(ValueError, match="2 steps need as many labels, got 1"):
        StepLabels("2 + 2?", ("2 + 2 = 4", "so 4"), (1,))
    with pytest.raises(ValueError, match="a label is 1, 0, -1 or None, got 2"):
        StepLabels("2 + 2?", ("2 + 2 = 4",), (2,))


@pytest.mark.parametrize(
    ("labels", "index"),
    [((1, 1), -1), ((1, -1), 1), ((-1, None), 0), ((0, -1), 1), ((None, -1), None), ((1, None), None)],
)
def test_the_first_error_is_known_where_all_steps_before_it_were_judged(labels, index):
    assert StepLabels("?", ("a", "b"), labels).first_error == index


def test_the_own_form_round_trips():
    whole = StepLabels("task", ("a", "b", "c", "d"), (1, -1, 0, None), ("", "saw b", "", ""), "x/1")
    record = whole.to_json()
    assert record == {
        "input": "task",
        "value": ["a", "b", "c", "d"],
        "label": ["+", "-", "0", None],
        "observations": ["", "saw b", "", ""],
        "name": "x/1",
    }
    assert StepLabels.from_json(json.loads(json.dumps(record))) == whole
    assert StepLabels("task", ("a",), (1,)).to_json() == {"input": "task", "value": ["a"], "label": ["+"]}


def test_turns_of_an_agent_are_steps_and_what_it_saw_is_read_before_them():
    history = History("find it", "A shelf.", steps=(Step("A room.", (), Action("go", reply="Let me go.\ngo")),))
    attempt = StepLabels.of_turn(history, Action("take book"))
    assert attempt == StepLabels("find it", ("Let me go.\ngo", "take book"), observations=("A room.", "A shelf."))
    assert StepLabels.of_turn(history, Action("take book"), reads="command").steps == ("go", "take book")


# --- files ---


def test_rows_of_the_own_form_are_read_also_compressed(tmp_path):
    row = {"input": "f' of x^2?", "value": ["power rule", "so 3x"], "label": ["+", "-"]}
    expected = [StepLabels("f' of x^2?", ("power rule", "so 3x"), (1, -1))]
    assert read_row(tmp_path, row) == expected
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n\n")
    assert read_step_labels(tmp_path / "rows.jsonl.gz") == expected


def test_steps_after_the_first_error_of_processbench_were_not_judged(tmp_path):
    row = {"id": "m-1", "problem": "p", "steps": ["a", "b", "c"], "label": 1, "final_answer_correct": False}
    assert read_row(tmp_path, row) == [StepLabels("p", ("a", "b", "c"), (1, -1, None), name="m-1")]
    assert read_row(tmp_path, {**row, "label": -1})[0].labels == (1, 1, 1)


def completion(text, rating):
    return {"text": text, "rating": rating, "flagged": False}


def test_each_rating_of_prm800k_counts_once(tmp_path):
    steps = [
        {"completions": [completion("a", 1), completion("a'", -1)], "human_completion": None, "chosen_completion": 0},
        {"completions": [completion("b'", -1)], "human_completion": completion("b", None), "chosen_completion": None},
        {"completions": [completion("c", 0), completion("c'", None)], "chosen_completion": 0},
    ]
    row = {"question": {"problem": "p"}, "label": {"steps": steps, "finish_reason": "solution"}}
    assert read_row(tmp_path, row) == [
        StepLabels("p", ("a", "b", "c"), (1, None, 0)),
        StepLabels("p", ("a'",), (-1,)),
        StepLabels("p", ("a", "b'"), (None, -1)),
    ]


def test_an_attempt_of_prm800k_ends_where_nothing_was_gone_on_with(tmp_path):
    steps = [
        {"completions": [completion("a", 1)], "human_completion": None, "chosen_completion": 0},
        {"completions": [completion("b'", -1)], "human_completion": None, "chosen_completion": None},
        {"completions": None, "human_completion": None, "chosen_completion": None},
    ]
    row = {"question": {"problem": "p"}, "label": {"steps": steps, "finish_reason": "give_up"}}
    assert read_row(tmp_path, row) == [StepLabels("p", ("a",), (1,)), StepLabels("p", ("a", "b'"), (None, -1))]


def shepherd(text, signs):
    signs = iter(signs)
    label = "".join(next(signs) if piece is None else piece for piece in split(text))
    return {"input": text, "label": label, "task": "GSM8K"}


def split(text):
    """The pieces, with None between them."""
    first, *rest = text.split("ки")
    return [first, *(each for piece in rest for each in (None, piece))]


def test_labels_of_math_shepherd_stand_where_the_markers_stood(tmp_path):
    text = "What is 1 + 2? Do Step 1: first. Step 1: 1 + 2 = 3 ки\nStep 2: 3 - 1 = 2. The answer is: 2 ки"
    assert read_row(tmp_path, shepherd(text, "+-")) == [
        StepLabels(
            "What is 1 + 2? Do Step 1: first.", ("Step 1: 1 + 2 = 3", "Step 2: 3 - 1 = 2. The answer is: 2"), (1, -1)
        )
    ]


def test_a_marker_of_math_shepherd_in_the_problem_judges_nothing(tmp_path):
    text = "Mr. Rocky ки runs. How far? Step 1: far ки\nStep 2: farther ки"
    (attempt,) = read_row(tmp_path, shepherd(text, "-+-"))
    assert attempt.input == "Mr. Rocky  runs. How far?"
    assert (attempt.steps, attempt.labels) == (("Step 1: far", "Step 2: farther"), (1, -1))


def test_uncounted_steps_of_math_shepherd_follow_the_question(tmp_path):
    (attempt,) = read_row(tmp_path, shepherd("How far? It is far. ки\nSo 3 ки and", "+-"))
    assert attempt == StepLabels("How far?", ("It is far.", "So 3", "and"), (1, -1, None))


def test_math_shepherd_labels_that_do_not_fit_the_text_are_refused(tmp_path):
    row = shepherd("Why? Step 1: a ки\nStep 2: b ки", "++")
    with pytest.raises(DataFormatError, match=r"field 'label' should repeat 'input' with .* where marker 2 stands"):
        read_row(tmp_path, {**row, "label": row["label"].replace("b +", "b ?")})


def test_messages_of_an_agent_are_steps_and_tool_answers_are_read_before_them(tmp_path):
    call = {"function": {"name": "search", "arguments": '{"query": "x"}'}}
    row = {
        "question": "who?",
        "messages": [
            {"role": "system", "content": "be good"},
            {"role": "user", "content": "Answer: who?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "content": "found x", "name": "search"},
            {"role": "user", "content": "go on"},
            {"role": "assistant", "content": "x"},
        ],
        "step_labels": {"2": 0, "5": -1},
    }
    assert read_row(tmp_path, row) == [
        StepLabels("who?", ('I look.\nsearch({"query": "x"})', "x"), (0, -1), ("", "found x\ngo on"))
    ]
    with pytest.raises(DataFormatError, match="should judge assistant messages, and '3' is none"):
        read_row(tmp_path, {**row, "step_labels": {"3": 1}})


GOOD = {"input": "p", "value": ["a"], "label": ["+"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "label": ["good"]}, r"line 2: field 'label\[0\]' should be one of '\+', '0', '-', None, got 'good'"),
        (
            {**GOOD, "label": ["+", "-"]},
            "line 2: fields 'value' and 'label' do not go .*: 1 steps need as many labels, got 2",
        ),
        ({**GOOD, "value": ["a", 3]}, r"line 2: field 'value\[1\]' should be of type str, got 3"),
        ({"input": "p", "value": ["a"]}, "line 2: field 'label' is missing"),
        ([1], "line 2: a row should be an object"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_file_line_and_field(tmp_path, row, message):
    with pytest.raises(DataFormatError, match=rf"rows\.jsonl, {message}"):
        read_step_labels(write(tmp_path / "rows.jsonl", GOOD, row))


def test_an_index_past_the_steps_of_processbench_is_refused(tmp_path):
    with pytest.raises(
        DataFormatError, match="line 1: field 'label' should be -1 or the index of one of 1 steps, got 1"
    ):
        read_row(tmp_path, {"problem": "p", "steps": ["a"], "label": 1})
    with pytest.raises(DataFormatError, match="field 'label' should be of type int, got True"):
        read_row(tmp_path, {"problem": "p", "steps": ["a", "b"], "label": True})


def test_damaged_lines_and_unknown_forms_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": \n')
    with pytest.raises(DataFormatError, match=r"rows\.jsonl, line 1: no JSON"):
        read_step_labels(path)
    with pytest.raises(DataFormatError, match=r"line 1: the fields prompt are of no known form; known: steps \(input"):
        read_row(tmp_path, {"prompt": "p"})
    with pytest.raises(UnknownNameError, match="did you mean 'processbench'"):
        read_row(tmp_path, GOOD, "process_bench")


# --- real files ---
def test_labels_of_search_agents_are_read(labels_folder):
    attempts = read_step_labels(labels_folder / "agentprocessbench_hotpotqa.jsonl.gz")
    judged = [label for attempt in attempts for label in attempt.labels]
    assert [judged.count(label) for label in (1, 0, -1, None)] == [301, 25, 112, 0]
    assert attempts[0].steps[0].startswith("search({")
    assert attempts[0].observations[1].startswith('{"result":')


def test_samples_of_prm800k_and_math_shepherd_are_read(labels_folder):
    attempts = read_step_labels(labels_folder / "samples_prm800k.jsonl")
    judged = [label for attempt in attempts for label in attempt.labels if label is not None]
    # Counted in the file by its "rating" fields that are not null.
    assert [judged.count(label) for label in (1, 0, -1)] == [55, 3, 15]
    first = read_step_labels(labels_folder / "samples_math-shepherd.jsonl")[0]
    assert first.labels == (1, 1, 1, 1, -1)
    assert first.steps[1] == "Step 2: She spends 40 * 3 = <<40*3=120>>120 on clarinet lessons per week."
