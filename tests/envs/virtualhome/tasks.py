"""Tasks in the flat, as records of each of the three kinds of task files."""

from typing import Any

from agentgym_prm.envs.virtualhome.task import Task, read_task
from tests.envs.virtualhome import flat


def milk_record(**changes: Any) -> dict[str, Any]:
    """Hold the milk with the fridge open, by five lines of which one cannot be executed."""
    record = {
        "id": "milk",
        "scene": "flat",
        "task_name": "Fetch milk",
        "description": "open fridge, grab milk",
        "program": [
            f"[WALK] <kitchen> (1.{flat.KITCHEN})",
            f"[WALK] <fridge> (1.{flat.FRIDGE})",
            f"[GRAB] <ghost> (1.{flat.GHOST})",
            f"[OPEN] <fridge> (1.{flat.FRIDGE})",
            f"[GRAB] <milk> (1.{flat.MILK})",
        ],
        "goal": {
            "vh_goal": {
                "actions": [],
                "goal": [
                    {"id": flat.FRIDGE, "class_name": "fridge", "state": "OPEN"},
                    {"from_id": flat.ME, "relation_type": "HOLDS_RH", "to_id": flat.MILK},
                ],
            }
        },
        "init_graph": flat.graph(),
    }
    return record | changes


def milk() -> Task:
    """The task, compiled."""
    record = milk_record()
    return read_task(record, record["init_graph"], "milk")


def source_record(**changes: Any) -> dict[str, Any]:
    """The same in the source system's form; its graph lies apart."""
    record = {
        "id": "milk",
        "task": "Fetch milk",
        "description": "open fridge, grab milk",
        "path": "/home/someone/programs/executable_programs/Flat_graph/results/file7_1.txt",
        "object_id_dict": {"milk": flat.MILK, "fridge": flat.FRIDGE},
        "revised_graph": {
            "nodes": [{"id": flat.FRIDGE, "class_name": "fridge", "states": ["OPEN", "OFF", "PLUGGED_IN"]}],
            "revised_nodes": [{"from_id": flat.MILK, "relation_type": "INSIDE", "to_id": flat.FRIDGE}],
            "revised_add_edges": [{"from_id": flat.ME, "relation_type": "HOLDS_RH", "to_id": flat.MILK}],
        },
    }
    return record | changes
