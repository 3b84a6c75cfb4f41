import json
import lzma

import pytest

from agentgym_prm.envs.alfworld.goal import parse_goal
from agentgym_prm.envs.alfworld.task import TaskSentence, parse_task

CLEAN, HEAT, COOL = (f"pick_{verb}_then_place_in_recep" for verb in ("clean", "heat", "cool"))


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("put a book in sofa.", TaskSentence("pick_and_place_simple", "book", "sofa")),
        ("put some book on sidetable.", TaskSentence("pick_and_place_simple", "book", "sidetable")),
        ("put a clean mug in cabinet.", TaskSentence(CLEAN, "mug", "cabinet")),
        ("clean some mug and put it in cabinet.", TaskSentence(CLEAN, "mug", "cabinet")),
        ("put a hot egg in sinkbasin.", TaskSentence(HEAT, "egg", "sinkbasin")),
        ("heat some egg and put it in diningtable.", TaskSentence(HEAT, "egg", "diningtable")),
        ("put a cool apple in garbagecan.", TaskSentence(COOL, "apple", "garbagecan")),
        ("cool some apple and put it in countertop.", TaskSentence(COOL, "apple", "countertop")),
        ("put two cd in safe.", TaskSentence("pick_two_obj_and_place", "cd", "safe")),
        ("find two cd and put them in safe.", TaskSentence("pick_two_obj_and_place", "cd", "safe")),
        ("look at bowl under the desklamp.", TaskSentence("look_at_obj_in_light", "bowl", lamp="desklamp")),
        ("examine the bowl with the desklamp.", TaskSentence("look_at_obj_in_light", "bowl", lamp="desklamp")),
    ],
)
def test_every_sentence_form_is_read_with_and_without_its_full_stop(sentence, expected):
    assert parse_task(sentence) == expected
    assert parse_task(f" {sentence.removesuffix('.').capitalize()}\n") == expected


def test_condition_and_count_follow_from_the_task_type():
    read = [
        parse_task(f"put {what} in cabinet") for what in ("a mug", "a clean mug", "a hot mug", "a cool mug", "two mug")
    ]
    assert [(task.condition, task.count) for task in read] == [("", 1), ("clean", 1), ("hot", 1), ("cool", 1), ("", 2)]


@pytest.mark.parametrize(
    "sentence", ["", "put", "put three mug in cabinet.", "put a wet mug in cabinet.", "slice the apple"]
)
def test_another_sentence_is_refused_and_quoted(sentence):
    with pytest.raises(ValueError, match=f"known form: '{sentence}'"):
        parse_task(sentence)


@pytest.mark.parametrize("split", ["valid_seen", "train"])
def test_sentences_of_the_official_games_say_what_their_goals_say(data_folder, split):
    path = data_folder / "alfworld" / f"{split}.jsonl.xz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            problem = record["pddl_problem"]
            goal, task = parse_goal(problem[problem.index("(:goal") :]), parse_task(record["task_desc"])
            named = [goal.object_type, goal.receptacle_type, goal.lamp_type]
            assert (task.task_type, task.condition, task.count) == (goal.task_type, goal.condition, goal.count)
            assert [task.object, task.receptacle, task.lamp] == [name.removesuffix("type") for name in named]
