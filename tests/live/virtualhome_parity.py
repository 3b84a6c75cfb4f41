"""Executes VirtualHome scripts in the original and the native engine side by side, and compares everything.

    VIRTUALHOME_HOME=.../virtualhome python -m tests.live.virtualhome_parity [--jobs 2] [--scripts 2000] [--lines 20]
                                                                           [--programs 388] [--record]

First the benchmark's own programs, each in the graph of its task; then random scripts (``virtualhome_walks.py``) in the
five example apartments, every other one furnished with what they lack. Compared after every line: success, message,
and what differs from the start in the states of all nodes and in all edges; at the start and the end of a script also
the whole graphs, and at the end whether the admissible lines are those that succeed. Where the original raises an
exception, the engine must refuse with a message. Exit status 1 on any difference. ``--record`` keeps digests of what
the original did, which ``make test`` replays without it.
"""

import argparse
import gzip
import hashlib
import json
import lzma
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from agentgym_prm.envs.virtualhome.actions import ACTIONS
from agentgym_prm.envs.virtualhome.engine import Engine, Execution
from agentgym_prm.envs.virtualhome.graph import Apartment, with_changes
from agentgym_prm.envs.virtualhome.script import parse_line
from tests.live.virtualhome_original import Original, load
from tests.live.virtualhome_walks import ScriptWalk, furnish

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests/envs/virtualhome/recorded_scripts.json.xz"
SCENES = 5
FURNISHED = 20
"""Different furnishings of each scene."""
MAX_RECORDED = 160
MAX_TIES = 0.01
States = Mapping[int, frozenset[str]]
Edges = frozenset[tuple[int, str, int]]


def data_folder() -> Path:
    """The folder with the benchmark's graphs."""
    return Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", REPOSITORY / "../shared/data")) / "virtualhome"


@cache
def _load(name: str) -> Any:
    with gzip.open(data_folder() / name, "rt", encoding="utf-8") as file:
        return json.load(file)


@cache
def tasks() -> tuple[dict[str, Any], ...]:
    """The benchmark's tasks."""
    with gzip.open(data_folder() / "tasks_scene1.jsonl.gz", "rt", encoding="utf-8") as file:
        return tuple(map(json.loads, file))


def graph(name: str) -> dict[str, Any]:
    """A graph by name: ``task/NUMBER``, ``scene/NUMBER`` or ``scene/NUMBER/FURNISHING``."""
    kind, number, *furnishing = name.split("/")
    if kind == "task":
        return with_changes(_load("base_graph_scene1.json.gz"), tasks()[int(number)]["init_diff"])
    scene = _load(f"example_graphs/TrimmedTestScene{number}_graph.json.gz")
    return furnish(scene, int(furnishing[0])) if furnishing else scene


@cache
def apartment(name: str) -> Apartment:
    """The same, read."""
    return Apartment(graph(name), name)


def program(name: str) -> list[str]:
    """The program of ``task/NUMBER``, with plain ids, which alone the original reads."""
    return [str(parse_line(line)) for line in tasks()[int(name.split("/")[1])]["program"]]


def digest(execution: Execution, changes: Mapping[str, Any]) -> str:
    """Eight characters for what a line did and what then differs from the start."""
    edges = [sorted(map(tuple, changes[key])) for key in ("add_edges", "del_edges")]
    states = sorted((node["id"], sorted(node["states"])) for node in changes["set_nodes"])
    text = json.dumps([execution.success, execution.message, edges, states])
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def difference(start: tuple[States, Edges], now: tuple[States, Edges]) -> dict[str, Any]:
    """What differs between two readings of the original, in the form of ``Engine.changes``."""
    return {
        "set_nodes": [{"id": n, "states": s} for n, s in now[0].items() if s != start[0][n]],
        "add_edges": now[1] - start[1],
        "del_edges": start[1] - now[1],
    }


@dataclass
class ScriptResult:
    """One script: its lines, digests of what the original did after each, and what was different."""

    name: str
    lines: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)
    mismatch: str = ""
    tie: str = ""
    """Where another of several came first (see the engine's ``order.py``); the rest of the script is not compared."""


@cache
def _original(name: str) -> Original:
    return Original(graph(name))


def compare_program(name: str) -> ScriptResult:
    """The program of a task."""
    return _compare(ScriptResult(name), Original(graph(name)), iter(program(name)), None)


def compare_random(name: str, seed: int, lines: int) -> ScriptResult:
    """A random script in an apartment."""
    walk = ScriptWalk(apartment(name), f"{name} {seed}")
    return _compare(ScriptResult(name), _original(name), iter([""] * lines), walk)


def _compare(result: ScriptResult, original: Original, lines: Iterator[str], walk: ScriptWalk | None) -> ScriptResult:
    engine = Engine()
    engine.reset(apartment(result.name))
    original.reset()
    start = now = original.read()
    result.mismatch = where_different(f"{result.name}, start: ", start, engine)
    for index, given in enumerate(lines):
        line = walk.choose(engine) if walk else given
        answer, execution = original.execute(line, index), engine.execute(line, index)
        now = original.read()
        where = f"{result.name}, line {index}, {line}: "
        if answer.problem:
            result.heard[f"{line.split(']')[0]}] raises {answer.problem[:60]}"] += 1
            if execution.success or not execution.message:
                result.mismatch = f"{where}the original raises {answer.problem}, the engine gives {execution}"
        else:
            result.heard[template(line, Execution(answer.success, answer.message))] += 1
            if execution != (answer.success, answer.message):
                result.mismatch = f"{where}original {answer}, engine {execution}"
        expected = digest(execution, difference(start, now))
        if expected != digest(execution, engine.changes()):
            different = where_different(where, now, engine) or f"{where}other changes"
            if not result.mismatch and is_tie(line, now, engine):
                result.tie = different
                return result
            result.mismatch = result.mismatch or different
        result.lines.append(line)
        result.digests.append(expected)
        if result.mismatch:
            return result
    result.mismatch = where_different(f"{result.name}, end: ", now, engine) or _admissible_mismatch(result, engine)
    return result


def is_tie(line: str, now: tuple[States, Edges], engine: Engine) -> bool:
    """Whether a thing was only grabbed off another of several that it was close to."""
    edges = frozenset((start, relation.name, stop) for start, relation, stop in engine.edges())
    me = engine.character
    return line.startswith("[GRAB]") and all(
        relation == "CLOSE" and me in (start, stop) for start, relation, stop in now[1] ^ edges
    )


def where_different(where: str, now: tuple[States, Edges], engine: Engine) -> str:
    """What differs between the original's graph and the engine's."""
    shown = engine.to_graph()
    states = {node["id"]: frozenset(node["states"]) for node in shown["nodes"]}
    edges = frozenset((e["from_id"], e["relation_type"], e["to_id"]) for e in shown["edges"])
    if states != now[0]:
        wrong = {n: (now[0][n], states.get(n)) for n in now[0] if now[0][n] != states.get(n)}
        return f"{where}states differ: {wrong}"
    if edges != now[1]:
        return f"{where}only in the original {sorted(now[1] - edges)}, only in the engine {sorted(edges - now[1])}"
    return ""


def _admissible_mismatch(result: ScriptResult, engine: Engine) -> str:
    """Whether the admissible lines with one object are those that succeed (those with two are left to the tests)."""
    listed = {line for line in engine.admissible_lines() if line.count("<") == 1}
    near = [*engine.reachable, *engine.held, *engine.apartment.ids(engine.apartment.grabbable)]
    for action in ACTIONS:
        for node_id in set(near) if action.parameters == 1 else ():
            line = f"[{action.name}] {engine.node(node_id)}"
            if engine.clone().execute(line).success != (line in listed):
                return f"{result.name} after {result.lines}: {line} is listed: {line in listed}"
    return ""


def template(line: str, execution: Execution) -> str:
    """The kind of an answer: action, success, and the message without names."""
    message = re.sub(r" when executing .*", "", execution.message)
    message = re.sub(r"<[^>]*> \(-?\d+\)", "X", message)
    return f"{line.split(']')[0]}] {'done' if execution.success else 'refused'} {message}".strip()


def write(results: list[ScriptResult]) -> int:
    """Record all programs, and random scripts that together show every kind of answer; how many scripts."""
    programs = [result for result in results if result.name.startswith("task/")]
    scripts = [result for result in results if not result.name.startswith("task/") and not result.tie]
    chosen: list[ScriptResult] = []
    missing = set().union(*(result.heard for result in scripts))
    while missing and scripts:
        best = max(scripts, key=lambda result: len(missing & set(result.heard)))
        chosen.append(best)
        scripts.remove(best)
        missing -= set(best.heard)
    chosen += scripts[: max(0, MAX_RECORDED - len(chosen))]
    record = {
        "recorded from": "https://github.com/xavierpuigf/virtualhome, simulation/evolving_graph",
        "programs": [[result.name, "".join(result.digests)] for result in programs],
        "scripts": [[result.name, result.lines, "".join(result.digests)] for result in chosen],
    }
    with lzma.open(RECORDED, "wt", encoding="utf-8", preset=9) as file:
        json.dump(record, file, separators=(",", ":"))
    return len(programs) + len(chosen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--scripts", type=int, default=2000, help="random scripts (default 2000)")
    parser.add_argument("--lines", type=int, default=20, help="lines in each random script (default 20)")
    parser.add_argument("--programs", type=int, default=388, help="programs of tasks (default: all 388)")
    parser.add_argument("--record", action="store_true", help="record a selection anew")
    options = parser.parse_args()
    try:
        load()
    except FileNotFoundError as missing:
        parser.error(str(missing))
    results: list[ScriptResult] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        asked = [pool.submit(compare_program, f"task/{number}") for number in range(options.programs)]
        for number in range(options.scripts):
            scene, turn = 1 + number % SCENES, number // SCENES
            name = f"scene/{scene}" if turn % 2 else f"scene/{scene}/{turn // 2 % FURNISHED}"
            asked.append(pool.submit(compare_random, name, number, options.lines))
        for task in asked:
            results.append(task.result())
            if results[-1].mismatch or results[-1].tie:
                print(results[-1].mismatch or f"another of several first: {results[-1].tie}", flush=True)
            elif len(results) % 100 == 0:
                print(f"[{len(results)}/{len(asked)}] identical so far", flush=True)
    different = _report(results)
    if options.record and not different:
        print(f"recorded {write(results)} scripts -> {RECORDED}")
    return int(bool(different))


def _report(results: list[ScriptResult]) -> int:
    """Print what was covered; how many scripts differ."""
    heard: Counter[str] = sum((result.heard for result in results), Counter())
    for kind, count in sorted(heard.items()):
        print(f"{count:8}  {kind}")
    unheard = [action.name for action in ACTIONS if f"[{action.name}] done" not in heard]
    print(f"never done: {', '.join(unheard) or 'none'}")
    different = sum(bool(result.mismatch) for result in results)
    lines = sum(len(result.lines) for result in results)
    done = sum(count for kind, count in heard.items() if "] done" in kind)
    print(f"{len(results)} scripts, {lines} lines ({done} done), {len(heard)} kinds of answers")
    ties = sum(bool(result.tie) for result in results)
    print(f"{len(results) - different - ties} scripts identical, {different} different")
    print(f"{ties} scripts identical until another of several came first (at most {MAX_TIES:.0%} of all are accepted)")
    return different + (ties > MAX_TIES * len(results))


if __name__ == "__main__":
    sys.exit(main())
