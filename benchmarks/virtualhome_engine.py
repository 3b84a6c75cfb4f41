"""Claim: the native VirtualHome engine takes over a hundred times as many steps a second as the original's executor.

    VIRTUALHOME_HOME=... python -m benchmarks.virtualhome_engine [--steps 20000] [--original-steps 1500]

Both execute the same random scripts in one run and one process, single-threaded; times are CPU seconds. The original's
lines are parsed beforehand; the engine is measured on parsed lines and, for the ratio, on texts. Apartments: the five
of the benchmark's example graphs, and generated ones of 10 to 1,000 nodes (in rooms of 25, things on and in furniture
and close to each other), for how a step's cost grows. Also: admissible lines after every step, a copy of the engine
after 20 lines, reading a graph. Without the original, only the native engine is measured.
"""

import argparse
import gzip
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment
from agentgym_prm.envs.virtualhome.script import ScriptLine, parse_line
from tests.live.virtualhome_original import HOME_VARIABLE, Original
from tests.live.virtualhome_walks import ScriptWalk

SIZES = (10, 30, 100, 300, 1000)
SCRIPT_LINES = 20
ROOM_SIZE = 25


def example_graphs() -> dict[str, dict[str, Any]]:
    """The five apartments, where the data are at hand."""
    folder = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", Path(__file__).parents[2] / "shared/data"))
    paths = sorted((folder / "virtualhome" / "example_graphs").glob("*.json.gz"))
    return {path.name.split("_")[0]: json.loads(gzip.decompress(path.read_bytes())) for path in paths}


def generated_graph(size: int) -> dict[str, Any]:
    """An apartment of ``size`` nodes: rooms of 25 with five pieces of furniture each, things on and in these."""
    rng = random.Random(size)
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []

    def node(name: str, category: str, properties: list[str], states: list[str]) -> int:
        entry = {"id": len(nodes) + 1, "class_name": name, "category": category}
        nodes.append(entry | {"properties": properties, "states": states})
        return len(nodes)

    def edge(start: int, relation: str, stop: int) -> None:
        edges.append({"from_id": start, "relation_type": relation, "to_id": stop})

    room, furniture = 0, []
    while len(nodes) < size:
        if len(nodes) % ROOM_SIZE == 0:
            room, furniture = node("room", "Rooms", [], []), []
            if len(nodes) == 1:
                edge(node("character", "Characters", [], []), "INSIDE", room)
        elif len(furniture) < min(5, size // 3):
            kinds = [("table", ["SURFACES"], []), ("cupboard", ["CAN_OPEN", "CONTAINERS"], ["CLOSED"])]
            kinds += [
                ("chair", ["SITTABLE", "MOVABLE"], []),
                ("lamp", ["HAS_SWITCH", "HAS_PLUG"], ["OFF", "PLUGGED_IN"]),
            ]
            name, properties, states = kinds[len(furniture) % 4]
            furniture.append(node(name, "Furniture", properties, states))
            edge(furniture[-1], "INSIDE", room)
        else:
            thing, place = node("thing", "Props", ["GRABBABLE", "MOVABLE"], ["CLEAN"]), rng.choice(furniture[:2])
            edge(thing, "INSIDE", room)
            edge(thing, "ON" if nodes[place - 1]["class_name"] == "table" else "INSIDE", place)
            for other in rng.sample(range(thing - min(thing - 1, 10), thing), min(3, thing - 1)):
                if nodes[other - 1]["category"] not in ("Rooms", "Characters"):
                    edge(thing, "CLOSE", other)
                    edge(other, "CLOSE", thing)
    return {"nodes": nodes, "edges": edges}


def scripts(apartment: Apartment, count: int) -> list[list[str]]:
    """Random scripts of together ``count`` lines, three quarters of which succeed."""
    found, engine = [], Engine()
    for number in range(count // SCRIPT_LINES):
        engine.reset(apartment)
        walk, lines = ScriptWalk(apartment, f"benchmark {number}"), []
        for _ in range(SCRIPT_LINES):
            lines.append(walk.choose(engine))
            engine.execute(lines[-1])
        found.append(lines)
    return found


def native_rate(apartment: Apartment, found: list[list[Any]]) -> float:
    """Steps a second."""
    engine, steps = Engine(), 0
    started = time.process_time()
    for lines in found:
        engine.reset(apartment)
        for line in lines:
            engine.execute(line)
        steps += len(lines)
    return steps / (time.process_time() - started)


def original_rate(graph: dict[str, Any], found: list[list[str]]) -> float:
    """Steps a second, of those lines at which it does not raise an exception."""
    original, steps, spent = Original(graph), 0, 0.0
    for lines in found:
        original.reset()
        for script in map(original.parse, lines):
            started = time.process_time()
            try:
                original.step(script)
            except (TypeError, AttributeError):
                continue
            spent += time.process_time() - started
            steps += 1
    return steps / spent


def microseconds(call: Callable[[], Any], repeats: int) -> float:
    """CPU time of one call, the median of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(repeats):
            call()
        rounds.append((time.process_time() - started) / repeats * 1e6)
    return statistics.median(rounds)


def admissible_rates(apartment: Apartment, found: list[list[str]]) -> tuple[float, float, float]:
    """Calls a second of ``admissible_lines`` after every step, without and with ``in_view``; lines in a call."""
    rates, listed = [], 0
    for in_view in (False, True):
        engine, spent, calls = Engine(), 0.0, 0
        for lines in found:
            engine.reset(apartment)
            for line in lines:
                engine.execute(line)
                started = time.process_time()
                count = len(engine.admissible_lines(in_view=in_view))
                spent += time.process_time() - started
                calls += 1
                listed += 0 if in_view else count
        rates.append(calls / spent)
    return rates[0], rates[1], listed / calls


def copies(apartment: Apartment, lines: list[str]) -> float:
    """Microseconds of a copy after a script."""
    engine = Engine()
    engine.reset(apartment)
    for line in lines:
        engine.execute(line)
    return microseconds(engine.clone, 5000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="native steps in each apartment")
    parser.add_argument("--original-steps", type=int, default=1_500, help="the original's, the first of the same")
    options = parser.parse_args()
    has_original = HOME_VARIABLE in os.environ
    print(
        f"{'apartment':<18}{'nodes':>6}{'steps/s':>10}{'as text':>10}{'original':>10}{'ratio':>7}"
        f"{'lines/s':>9}{'in view':>9}{'lines':>7}{'clone us':>10}{'read ms':>9}"
    )
    graphs = example_graphs() | {f"generated {size}": generated_graph(size) for size in SIZES}
    for name, graph in graphs.items():
        apartment = Apartment(graph, name)
        texts = scripts(apartment, options.steps)
        parsed: list[list[ScriptLine]] = [[parse_line(line) for line in lines] for lines in texts]
        some = texts[: options.original_steps // SCRIPT_LINES]
        native_rate(apartment, texts)  # reads and remembers the lines
        rate, as_text = native_rate(apartment, parsed), native_rate(apartment, texts)
        original = original_rate(graph, some) if has_original else 0.0
        ratio = f"{as_text / original:,.0f}" if original else "-"
        lines_rate, view_rate, listed = admissible_rates(apartment, some)
        read = microseconds(lambda g=graph: Apartment(g), 3) / 1e3
        print(
            f"{name:<18}{len(apartment.nodes):>6}{rate:>10,.0f}{as_text:>10,.0f}{original:>10,.0f}{ratio:>7}"
            f"{lines_rate:>9,.0f}{view_rate:>9,.0f}{listed:>7,.0f}{copies(apartment, texts[0]):>10.2f}{read:>9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
