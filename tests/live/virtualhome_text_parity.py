"""Plays text commands in the source system's own environment and in ours, and compares what they answer.

    VIRTUALHOME_HOME=... SPA_HOME=... python -m tests.live.virtualhome_text_parity [--tasks 60] [--steps 14] [--seed 0]

$SPA_HOME names a checkout of SPA-RL-Agent, whose ``virtualhome_env.py`` is executed with stand-ins for what it imports
besides the executor; the package ``parse``, which it needs, must be installed. Both start from the benchmark's tasks,
with every name bound beforehand to the same thing, so that chance plays no part. Commands are admissible ones, those of
the task's program, and malformed ones. Answers are compared without regard to the order of their parts, which is random
there. Where the source system fails with an exception, ours has to answer ``Nothing happens.``. Exit status 1 on any
difference.
"""

import argparse
import importlib
import json
import os
import random
import re
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path
from typing import Any

from agentgym_prm.envs.virtualhome.files import open_tasks
from agentgym_prm.envs.virtualhome.naming import Naming
from agentgym_prm.envs.virtualhome.observation import NOTHING
from agentgym_prm.envs.virtualhome.task import Task
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from tests.live.virtualhome_original import load
from tests.live.virtualhome_parity import data_folder

SPA_VARIABLE = "SPA_HOME"
_FOLDER = "virtualhome_master.virtualhome.simulation.evolving_graph"
_STAND_INS = {
    "eval_agent": (),
    "eval_agent.envs": ("BaseEnv",),
    "eval_agent.prompt": ("prompt_with_icl",),
    "eval_agent.utils": (),
    "eval_agent.utils.datatypes": ("State",),
}
_MALFORMED = ("dance", "release", "standup", "put it there", "Thought: hm", "walk", "put back cup on table")


def source_module() -> dict[str, Any]:
    """The names that the source system's file defines."""
    package = load()
    parts = _FOLDER.split(".")
    for length in range(1, len(parts)):
        name = ".".join(parts[:length])
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules[_FOLDER] = package
    for name in ("utils", "scripts", "execution", "environment"):
        sys.modules[f"{_FOLDER}.{name}"] = importlib.import_module(f"evolving_graph.{name}")
    for name, attributes in _STAND_INS.items():
        module = types.ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, type(attribute, (), {}))
        sys.modules[name] = module
    path = Path(os.environ[SPA_VARIABLE]) / "eval_agent/envs/virtualhome_env.py"
    names: dict[str, Any] = {"__name__": "source"}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        # It reads a table from the working directory; nothing that is compared depends on it.
        table = Path(folder) / "virtualhome_master/class_name_equivalence.json"
        table.parent.mkdir()
        table.write_text(json.dumps({}), encoding="utf-8")
        os.chdir(folder)
        try:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
        finally:
            os.chdir(here)
    return names


def source_env(names: dict[str, Any], task: Task, graph: dict[str, Any], bound: dict[str, int]) -> Any:
    """The source system's environment at the start of a task, without the files that it would read."""
    environment, execution = sys.modules[f"{_FOLDER}.environment"], sys.modules[f"{_FOLDER}.execution"]
    env = names["VirtualHomeEnv"].__new__(names["VirtualHomeEnv"])
    start = environment.EnvironmentGraph(graph)
    env.executor = execution.ScriptExecutor(start, {})
    env.this_state = environment.EnvironmentState(start, {}, instance_selection=True)
    env.agent_id = task.apartment.nodes[task.apartment.characters[0]].id
    env.specific_objects, env.last_obj_id = dict(bound), -1
    env.revised_graph = {"nodes": [], "revised_nodes": [], "revised_add_edges": [{}]}
    return env


def without_circles(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph without pairs that are inside each other, among which the source system searches forever."""
    inside = {(edge["from_id"], edge["to_id"]) for edge in graph["edges"] if edge["relation_type"] == "INSIDE"}
    kept = [
        edge
        for edge in graph["edges"]
        if edge["relation_type"] != "INSIDE" or (edge["to_id"], edge["from_id"]) not in inside
    ]
    return graph | {"edges": kept}


def parts(observation: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """What is told, without order."""
    told, _, hands = observation.partition("You have ")
    things = (
        re.sub(r" is (.*)", lambda match: " is " + " and ".join(sorted(match[1].split(" and "))), part)
        for part in told.removesuffix(". ").split(", ")
    )
    return frozenset(things), tuple(sorted(hands.removesuffix(". ").split(", ")))


def compare(names: dict[str, Any], task: Task, steps: int, draws: random.Random, counts: Counter[str]) -> None:
    """Play one task in both."""
    bound = {name: task.apartment.nodes[each[0]].id for name, each in task.vocabulary.numbers.items()}
    bound |= {task.apartment.nodes[task.apartment.number(node_id)].class_name: node_id for node_id in task.introduced}
    engine = TextEngine()
    engine.reset(task)
    engine.naming = Naming(task.vocabulary, bound.values())
    env = source_env(names, task, task.apartment.as_json(), bound)
    program = [engine.command_for(line) for line in task.program]
    for _ in range(steps):
        kind = draws.random()
        candidates = engine.admissible_commands() if kind < 0.5 else program if kind < 0.85 else _MALFORMED
        command = draws.choice([each for each in candidates if "(" not in each] or ["sleep"])
        ours = engine.step(command)
        try:
            theirs, _ = env.conduct_action(command)
        except Exception as error:  # whatever the source system fails with
            theirs = NOTHING
            counts[f"the source system fails ({type(error).__name__})"] += 1
        if parts(ours) != parts(theirs):
            counts["different"] += 1
            print(f"{task.task_id}: {command!r}\n  ours   {ours!r}\n  theirs {theirs!r}")
            return
        counts["equal, executed" if engine.valid else "equal, refused"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names, draws, counts = source_module(), random.Random(arguments.seed), Counter[str]()
    tasks = open_tasks(data_folder(), "all", "full", "activity")
    for index in draws.sample(range(len(tasks)), min(arguments.tasks, len(tasks))):
        record = tasks.task(index)
        graph = without_circles(record.apartment.as_json())
        task = Task(
            record.task_id, record.scene, record.activity, record.description, type(record.apartment)(graph),
            record.goal, record.introduced, record.program,
        )  # fmt: skip
        compare(names, task, arguments.steps, draws, counts)
    print(dict(counts))
    sys.exit(bool(counts["different"]))


if __name__ == "__main__":
    main()
