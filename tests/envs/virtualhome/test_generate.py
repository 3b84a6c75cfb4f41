import hashlib
import json
from collections import Counter

import pytest

from agentgym_prm.envs.virtualhome import generate
from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.files import open_tasks
from agentgym_prm.envs.virtualhome.goal import conditions_goal
from agentgym_prm.envs.virtualhome.graph import Apartment
from agentgym_prm.envs.virtualhome.homes import ACTIVITIES, CLAUSES, FURNITURE, STRUCTURE, THINGS, UNSEEN_ACTIVITIES
from agentgym_prm.envs.virtualhome.task import read_task
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from agentgym_prm.errors import UnknownNameError

PARTS = [(split, unseen) for split in ("train", "valid_seen") for unseen in ("activity",)] + [
    ("valid_unseen", "activity"),
    ("valid_unseen", "scene"),
]


@pytest.mark.parametrize(("split", "unseen"), PARTS)
@pytest.mark.parametrize(("difficulty", "count"), [("small", 60), ("full", 6)])
def test_programs_reach_goals_that_do_not_hold_at_the_start(split, unseen, difficulty, count):
    for index in range(count):
        record = generate.record(split, index, difficulty, unseen)
        task = read_task(record, record["init_graph"], record["id"])
        engine = TextEngine()
        engine.reset(task)
        assert not engine.won
        for line in task.program:
            assert not engine.won
            engine.step(engine.command_for(line))
            assert engine.valid
        assert engine.won, record["id"]


def test_a_task_is_the_same_whenever_it_is_made():
    # The digest was taken when VERSION was set: a change of tables or draws has to bump VERSION.
    assert generate.VERSION == "virtualhome-builtin-1"
    text = json.dumps([generate.record("train", index, "small") for index in range(5)], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "95536f872372c8e8"


def test_splits_differ_in_what_they_promise():
    small = {part: [generate.record(part[0], index, "small", part[1]) for index in range(120)] for part in PARTS}
    seen, unseen = ({each.name for each in table} for table in (ACTIVITIES, UNSEEN_ACTIVITIES))
    assert not seen & unseen
    old_scenes = {generate.scene_name(number, "small") for number in range(generate.SEEN_SCENES["small"])}
    for (split, kind), records in small.items():
        names = {record["task_name"] for record in records}
        scenes = {record["scene"] for record in records}
        assert names <= (unseen if (split, kind) == ("valid_unseen", "activity") else seen)
        assert len(names) >= 3
        assert (scenes <= old_scenes) is ((split, kind) != ("valid_unseen", "scene"))
        assert not (scenes & old_scenes) or scenes <= old_scenes
    assert small["train", "activity"] != small["valid_seen", "activity"]
    ids = [record["id"] for records in small.values() for record in records]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("difficulty", generate.DIFFICULTIES)
def test_no_two_scenes_have_the_same_furniture_in_the_same_rooms(difficulty):
    # By the graphs, not by the names of the scenes: what is new in valid_unseen has to be new to who plays there.
    def furniture(record):
        graph = record["init_graph"]
        names = {node["id"]: node["class_name"] for node in graph["nodes"]}
        standing = {node["id"] for node in graph["nodes"] if node["category"] == "Furniture"}
        return frozenset(
            (names[edge["from_id"]], names[edge["to_id"]])
            for edge in graph["edges"]
            if edge["from_id"] in standing and edge["relation_type"] == "INSIDE"
        )

    parts = [("train", "activity"), ("valid_unseen", "scene")]
    records = [generate.record(split, index, difficulty, unseen) for split, unseen in parts for index in range(15)]
    scenes = {(record["scene"], furniture(record)) for record in records}
    assert len({name for name, _ in scenes}) == len({pieces for _, pieces in scenes}) == len(scenes) > 5


def test_sizes_are_those_that_are_promised():
    for index in range(40):
        nodes = generate.record("train", index, "small")["init_graph"]["nodes"]
        names = Counter(node["class_name"] for node in nodes)
        assert max(names.values()) == 1  # no two of a class
        assert 18 <= len(nodes) <= 22  # the character, 3 rooms, 9-12 pieces, 6 things (7 if the goal names them)
        assert sum(name in THINGS for name in names) == 6
    for index in range(3):
        nodes = generate.record("train", index, "full")["init_graph"]["nodes"]
        assert 200 <= len(nodes) <= 300  # official apartments: 219 to 275


def test_a_small_description_names_the_goal_in_class_names():
    record = next(
        record
        for record in (generate.record("train", index, "small") for index in range(200))
        if record["task_name"] == "Wash clothes"
    )
    garment = record["description"].split()[1]
    assert record["description"] == (
        f"put {garment} in washing_machine, close washing_machine, turn on washing_machine"
    )
    ids = {node["class_name"]: node["id"] for node in record["init_graph"]["nodes"]}
    machine = {"id": ids["washing_machine"], "class_name": "washing_machine"}
    assert record["goal"]["vh_goal"]["goal"] == [
        {"from_id": ids[garment], "relation_type": "INSIDE", "to_id": ids["washing_machine"]},
        machine | {"state": "CLOSED"},
        machine | {"state": "ON"},
    ]


def test_the_words_of_unseen_activities_occur_in_seen_ones():
    def words(table):
        clauses = {clause.split()[0] for activity in table for clause in activity.clauses}
        classes = {name for activity in table for slot in activity.slots.values() for name in slot}
        return clauses | classes

    assert words(UNSEEN_ACTIVITIES) <= words(ACTIVITIES)
    assert {clause.split()[0] for activity in ACTIVITIES for clause in activity.clauses} <= set(CLAUSES)


@pytest.mark.parametrize(("difficulty", "missing"), [("small", {"Work"}), ("full", set())])
def test_every_activity_comes_up_in_some_scene_but_for_work_in_small_ones(difficulty, missing):
    held = set(THINGS)
    possible = set()
    for number in range(generate.SEEN_SCENES[difficulty]):
        furniture = {piece for pieces in generate._scene(number, difficulty).values() for piece in pieces}
        possible |= {
            activity.name
            for activity in (*ACTIVITIES, *UNSEEN_ACTIVITIES)
            if all((furniture | held) & set(classes) for classes in activity.slots.values())
        }
    assert {activity.name for activity in (*ACTIVITIES, *UNSEEN_ACTIVITIES)} - possible == missing


def test_tables_agree_with_each_other():
    pieces = [name for room in FURNITURE.values() for name in room]
    assert len(set(pieces)) == len(pieces)
    assert not set(pieces) & (set(THINGS) | set(STRUCTURE))
    for _, places in THINGS.values():
        assert set(places) <= set(pieces)
    for activity in (*ACTIVITIES, *UNSEEN_ACTIVITIES):
        for classes in activity.slots.values():
            assert set(classes) <= set(pieces) | set(THINGS)
        assert {slot for clause in activity.clauses for slot in clause.split()[1:]} == set(activity.slots)


def test_records_are_played_from_a_file_as_from_the_generator(tmp_path):
    path = tmp_path / "tasks_builtin.jsonl"
    records = [generate.record("train", index, "small") for index in range(3)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    from_file, builtin = (
        open_tasks(path, "all", "small", "activity"),
        open_tasks("builtin", "train", "small", "activity"),
    )
    for index in range(3):
        one, other = from_file.task(index), builtin.task(index)
        assert (one.task_id, one.instruction, one.goal, one.program) == (
            other.task_id, other.instruction, other.goal, other.program,
        )  # fmt: skip
        assert one.apartment.as_json() == other.apartment.as_json()


def test_a_goal_s_thing_never_lies_where_it_is_to_be():
    for index in range(60):
        record = generate.record("valid_seen", index, "small")
        engine = Engine()
        engine.reset(Apartment(record["init_graph"]))
        assert conditions_goal(record["goal"]["vh_goal"]).share(engine) < 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("trian", 0, "small"), UnknownNameError, "did you mean 'train'"),
        (("train", 0, "smal"), UnknownNameError, "did you mean 'small'"),
        (("train", 0, "small", "scenes"), UnknownNameError, "did you mean 'scene'"),
        (("valid_seen", 1000, "small"), IndexError, r"\[0, 1000\)"),
        (("train", -1, "small"), IndexError, "got -1"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        generate.record(*arguments)
