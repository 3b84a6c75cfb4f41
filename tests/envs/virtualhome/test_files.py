import gzip
import json
import lzma
import pickle
from pathlib import Path

import pytest

from agentgym_prm.envs.virtualhome.files import open_tasks
from agentgym_prm.envs.virtualhome.goal import Edge
from agentgym_prm.envs.virtualhome.graph import Relation
from agentgym_prm.envs.virtualhome.task import without_mutual_edges
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from agentgym_prm.errors import DataNotFoundError, GameFormatError, UnknownNameError
from tests.envs.virtualhome import flat
from tests.envs.virtualhome.tasks import milk_record, source_record


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def tasks_of(path, split="all", unseen="activity"):
    return open_tasks(path, split, "full", unseen)


def test_a_whole_record_is_played_to_its_goal(tmp_path):
    tasks = tasks_of(write(tmp_path / "tasks.jsonl", [milk_record()]))
    task = tasks.task(0)
    assert (len(tasks), task.task_id, task.scene, task.activity) == (1, "milk", "flat", "Fetch milk")
    engine = TextEngine()
    engine.reset(task)
    for line in task.program:
        engine.step(engine.command_for(line))
    assert engine.won


@pytest.mark.parametrize("pack", ["", ".gz", ".xz"])
def test_a_difference_is_applied_to_the_base_graph_beside_the_file(tmp_path, pack):
    packed = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[pack]
    record = milk_record(
        init_diff={
            "del_edges": [[flat.MILK, "INSIDE", flat.FRIDGE]],
            "add_edges": [[flat.MILK, "INSIDE", flat.KITCHEN]],
        }
    )
    del record["init_graph"]
    path = tmp_path / f"tasks_flat.jsonl{pack}"
    path.write_bytes(packed(json.dumps(record).encode()))
    with pytest.raises(DataNotFoundError, match=r"no base_graph_flat\.json"):
        tasks_of(path).task(0)
    (tmp_path / f"base_graph_flat.json{pack}").write_bytes(packed(json.dumps(flat.graph()).encode()))
    task = tasks_of(path).task(0)
    assert task.apartment.start_targets(Relation.INSIDE, task.apartment.number(flat.MILK)) == (flat.KITCHEN,)
    assert tasks_of(tmp_path).task(0) is task  # a folder with one task file


def test_without_conditions_the_goal_is_the_change_that_the_program_made(tmp_path):
    changes = {"set_nodes": [], "add_edges": [[flat.ME, "HOLDS_RH", flat.MUG]], "del_edges": []}
    nothing = {"vh_goal": {"goal": [], "actions": []}}
    records = [milk_record(id=str(n), goal=goal, final_diff=changes) for n, goal in enumerate((None, nothing))]
    tasks = tasks_of(write(tmp_path / "t.jsonl", records))
    for index in range(2):
        assert tasks.task(index).goal.conditions == (Edge(flat.ME, Relation.HOLDS_RH, flat.MUG),)


def test_a_record_of_the_source_system_finds_its_graph_above_the_file_or_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("VIRTUALHOME_DATA", raising=False)
    path = write(tmp_path / "data" / "new_unseen_test.jsonl", [source_record()])
    with pytest.raises(DataNotFoundError, match=r"init_and_final_graphs/Flat_graph/results/file7_1\.json"):
        tasks_of(path).task(0)
    graph = tmp_path / "virtualhome_master/init_and_final_graphs/Flat_graph/results/file7_1.json"
    graph.parent.mkdir(parents=True)
    graph.write_text(json.dumps({"init_graph": flat.graph(), "final_graph": {}}), encoding="utf-8")
    task = tasks_of(path).task(0)
    assert (task.scene, task.introduced) == ("Flat_graph", (flat.MILK, flat.FRIDGE))
    engine = TextEngine()
    assert engine.reset(task) == "The task is Fetch milk (open fridge, grab milk)."
    for command in ("walk to fridge", "open fridge", "grab milk"):
        assert not engine.won
        engine.step(command)
    assert engine.won
    # The whole file belongs to whatever split is asked for.
    assert len(tasks_of(path, "train")) == len(tasks_of(path, "valid_unseen")) == 1


def test_the_source_system_takes_out_what_is_inside_of_what_says_something_of_it():
    # Worked out by hand with the source's loop: it stands at the first edge; the second is its opposite, both go; the
    # third moves up to the place that was just passed, and is not looked at.
    edges = [
        {"from_id": 1, "relation_type": "CLOSE", "to_id": 2},
        {"from_id": 2, "relation_type": "INSIDE", "to_id": 1},
        {"from_id": 3, "relation_type": "INSIDE", "to_id": 3},
        {"from_id": 4, "relation_type": "INSIDE", "to_id": 4},
    ]
    assert without_mutual_edges({"nodes": [], "edges": edges})["edges"] == [edges[2]]
    assert len(edges) == 4  # what was given is as it was


def test_files_are_divided_by_activity_or_by_scene_without_overlap(tmp_path):
    records = [
        milk_record(id=f"{number}", task_name=f"Activity {number % 10}", scene=f"scene {number % 4}")
        for number in range(200)
    ]
    path = write(tmp_path / "t.jsonl", records)
    for unseen, key, held_out in (("activity", "activity", 2), ("scene", "scene", 1)):
        parts = {split: tasks_of(path, split, unseen) for split in ("train", "valid_seen", "valid_unseen", "all")}
        ids = {split: {tasks.task(i).task_id for i in range(0, len(tasks), 7)} for split, tasks in parts.items()}
        assert sum(len(parts[split]) for split in ("train", "valid_seen", "valid_unseen")) == len(parts["all"]) == 200
        assert not ids["train"] & ids["valid_seen"]
        new = {getattr(parts["valid_unseen"].task(i), key) for i in range(len(parts["valid_unseen"]))}
        old = {getattr(parts["train"].task(i), key) for i in range(0, len(parts["train"]), 3)}
        assert len(new) == held_out  # a fifth of ten, of four: rounded up
        assert not new & old


def test_an_empty_split_says_what_else_can_be_done(tmp_path):
    path = write(tmp_path / "t.jsonl", [milk_record()])
    with pytest.raises(
        DataNotFoundError, match=r"no tasks in the split valid_unseen of .*, divided by scene: use split='all'"
    ):
        tasks_of(path, "valid_unseen", "scene")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 3}, "id must be a text, got 3"),
        ({"program": ["[FLY] <x> (1)"]}, 'Unknown action "FLY"'),
        ({"program": "walk"}, "must be a list of lines"),
        ({"goal": None}, "neither a goal with conditions nor a final_diff"),
        ({"goal": {"vh_goal": {"goal": [{"id": 999, "state": "ON"}]}}}, "a node that does not exist, 999"),
        ({"init_graph": {"nodes": []}}, "list of edges|nobody can act"),
    ],
)
def test_a_damaged_record_names_file_task_and_fault(tmp_path, changes, message):
    path = write(tmp_path / "t.jsonl", [milk_record(**changes)])
    with pytest.raises(GameFormatError, match=rf"t\.jsonl.*({message})"):
        tasks_of(path).task(0)


def test_a_damaged_file_names_the_line(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(milk_record()) + "\n{", encoding="utf-8")
    with pytest.raises(GameFormatError, match="line 2 is damaged"):
        tasks_of(path)
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(gzip.compress(b"{}")[:-9])
    with pytest.raises(GameFormatError, match="cut off"):
        tasks_of(packed)


def difference(tmp_path, base=None, **changes):
    """A file with one task, a difference to the flat, or to another base graph."""
    record = milk_record(init_diff=changes)
    del record["init_graph"]
    path = write(tmp_path / "tasks_flat.jsonl", [record])
    graph = flat.graph() if base is None else base
    (tmp_path / "base_graph_flat.json").write_text(json.dumps(graph), encoding="utf-8")
    return path


LAMP = {"id": flat.LAMP, "class_name": "lamp", "properties": [], "states": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set_nodes": 3}, "milk: init_diff needs a list of set_nodes, got 3"),
        ({"set_nodes": [LAMP, "lamp"]}, "set_nodes 1 of init_diff must be an object with a whole number as id, got 'l"),
        ({"set_nodes": [{"class_name": "lamp"}]}, "set_nodes 0 of init_diff must be an object with a whole number as"),
        ({"set_nodes": [LAMP, LAMP]}, f"set_nodes 1 of init_diff has the id {flat.LAMP} again"),
        ({"del_nodes": None}, "init_diff needs a list of del_nodes, got None"),
        ({"del_nodes": [[4]]}, r"del_nodes 0 of init_diff must be a whole number, got \[4\]"),
        ({"add_edges": [[flat.MILK, "ON"]]}, r"add_edges 0 of init_diff must be two ids around a relation, got \[15,"),
        ({"del_edges": [[[1], "ON", 2]]}, r"del_edges 0 of init_diff must be two ids around a relation, got \[\[1\], "),
        ({"del_edges": [[1, ["ON"], 2]]}, r"del_edges 0 of init_diff must be two ids around a relation, got \[1, \['"),
    ],
)
def test_a_damaged_difference_names_the_element(tmp_path, changes, message):
    with pytest.raises(GameFormatError, match=rf"tasks_flat\.jsonl.*{message}"):
        tasks_of(difference(tmp_path, **changes)).task(0)


def test_a_difference_that_is_none_is_named(tmp_path):
    record = milk_record(init_diff=[])
    del record["init_graph"]
    path = write(tmp_path / "tasks_flat.jsonl", [record])
    with pytest.raises(GameFormatError, match=r"milk: init_diff must be an object, got \[\]"):
        tasks_of(path).task(0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"nodes": None}, "needs a list of nodes, got None"),
        ({"edges": 3}, "needs a list of edges, got 3"),
        ({"nodes": [LAMP, LAMP]}, f"node 1 has the id {flat.LAMP} again"),
        ({"nodes": [LAMP, 3]}, "node 1 must be an object with a whole number as id, got 3"),
        ({"edges": [{"from_id": 1, "relation_type": "ON"}]}, "edge 0 must be two ids around a relation, got {"),
        ({"edges": [{"from_id": [], "relation_type": "ON", "to_id": 1}]}, "edge 0 must be two ids around a relation"),
        ({"edges": [[1, "ON", 2]]}, "edge 0 must be two ids around a relation"),
    ],
)
def test_a_damaged_base_graph_names_the_element(tmp_path, damage, message):
    path = difference(tmp_path, flat.graph() | damage)
    with pytest.raises(GameFormatError, match=rf"base_graph_flat\.json.*{message}"):
        tasks_of(path).task(0)


@pytest.mark.parametrize("pack", [".gz", ".xz"])
def test_a_base_graph_that_is_cut_off_is_named(tmp_path, pack):
    path = difference(tmp_path)
    packed = {".gz": gzip.compress, ".xz": lzma.compress}[pack](json.dumps(flat.graph()).encode())
    (tmp_path / "base_graph_flat.json").unlink()
    (tmp_path / f"base_graph_flat.json{pack}").write_bytes(packed[:-9])
    with pytest.raises(GameFormatError, match=rf"base_graph_flat\.json{pack} is damaged or cut off"):
        tasks_of(path).task(0)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"id": ' + "9" * 5_000 + "}"])
def test_json_that_python_does_not_read_is_damaged_too(tmp_path, text):
    path = tmp_path / "t.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GameFormatError, match=r"t\.jsonl, line 1 is damaged"):
        tasks_of(path)


def test_two_tasks_with_one_id_are_named(tmp_path):
    records = [milk_record(), milk_record(id="water"), milk_record()]
    with pytest.raises(GameFormatError, match=r"t\.jsonl: two tasks have the id 'milk'"):
        tasks_of(write(tmp_path / "t.jsonl", records))


@pytest.mark.parametrize("path", ["", "/", "..", "a/../b.txt", 3])
def test_a_path_that_leads_to_no_program_is_named(tmp_path, path):
    tasks = tasks_of(write(tmp_path / "t.jsonl", [source_record(path=path)]))
    with pytest.raises(GameFormatError, match=r"t\.jsonl, milk: path must lead to a program, got"):
        tasks.task(0)


@pytest.mark.parametrize("edge", [{"from_id": [1], "relation_type": "ON", "to_id": 2}, [1, "ON", 2]])
def test_a_source_graph_with_an_edge_that_is_none_names_it(edge):
    with pytest.raises(GameFormatError, match=r"source: edge 1 must be two ids around a relation, got "):
        without_mutual_edges({"edges": [{"from_id": 1, "relation_type": "ON", "to_id": 2}, edge]}, "source")


def test_only_ends_of_lines_divide_records(tmp_path):
    # JSON may hold U+2028, U+0085 and others as they are; str.splitlines would cut the record there.
    record = milk_record(description="put milk\u2028in\u0085 fridge")
    path = tmp_path / "t.jsonl"
    path.write_bytes(f"{json.dumps(record, ensure_ascii=False)}\r\n\n{json.dumps(record | {'id': 'again'})}".encode())
    tasks = tasks_of(path)
    assert len(tasks) == 2
    assert tasks.task(0).description == tasks.task(1).description == record["description"]


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("VIRTUALHOME_DATA", raising=False)
    with pytest.raises(DataNotFoundError, match=r"not set.*builtin"):
        tasks_of("official")
    with pytest.raises(DataNotFoundError, match="did you mean 'builtin'"):
        tasks_of("bultin")
    with pytest.raises(DataNotFoundError, match="no task file"):
        tasks_of(tmp_path)
    write(tmp_path / "tasks_a.jsonl", [milk_record()])
    monkeypatch.setenv("VIRTUALHOME_DATA", str(tmp_path))
    assert len(tasks_of("official")) == 1
    write(tmp_path / "tasks_b.jsonl", [milk_record()])
    with pytest.raises(DataNotFoundError, match=r"several.*tasks_a\.jsonl, tasks_b\.jsonl"):
        tasks_of("official")
    with pytest.raises(UnknownNameError, match="did you mean 'milk'"):
        tasks_of(tmp_path / "tasks_a.jsonl").index("mlik")


def test_only_texts_are_names_of_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataNotFoundError, match=r"no file or folder .*builtin"):
        tasks_of(Path("builtin"))
    write(tmp_path / "builtin" / "tasks.jsonl", [milk_record()])
    assert len(tasks_of(Path("builtin"))) == 1
    with pytest.raises(DataNotFoundError, match="data must name a file or a folder, got ''"):
        tasks_of("")


def test_a_task_is_the_same_object_as_long_as_anybody_has_it():
    tasks = open_tasks("builtin", "valid_seen", "small", "activity")
    first = tasks.task(0)
    for index in range(1, 80):
        tasks.task(index)
    assert tasks.task(0) is first
    assert len(tasks._tasks) <= 64  # what nobody has is kept up to here


def test_a_collection_is_shared_by_copies_and_opened_again_by_pickles(tmp_path):
    tasks = tasks_of(write(tmp_path / "t.jsonl", [milk_record()]))
    assert pickle.loads(pickle.dumps(tasks)) is tasks
