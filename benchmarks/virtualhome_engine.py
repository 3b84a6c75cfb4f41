"""Claim: the native VirtualHome engine takes a hundred times as many steps a second as the original (250-300 nodes).

    VIRTUALHOME_HOME=... python -m benchmarks.virtualhome_engine [--steps 20000] [--original-steps 1500]

Both execute the same lines in one run and one process, single-threaded; times are CPU seconds. The original's lines
are parsed beforehand, the engine reads texts. "Read" is the original with its graph read after every step, as its own
``execute`` and the text environments around it do, and without the time that the reading takes: it makes the next step
slower. Lines: some of the benchmark's programs, each in the graph of its task; random scripts in the five example
apartments, and in generated ones of 10 to 1,000 nodes (in rooms of 25, things on and in furniture and close to each
other). In these the lines differ, and with them the work: in ten nodes there is no second room to carry things to. So
how a step's cost grows is measured with the same lines in the same ten nodes, beside which there are more and more
rooms. Also: admissible lines after every step, a copy of the engine after 20 lines, reading a graph. Without the
original, only the native engine is measured.
"""

import argparse
import gzip
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from agentgym_prm.envs.virtualhome.engine import Engine
from agentgym_prm.envs.virtualhome.graph import Apartment
from tests.live.virtualhome_original import HOME_VARIABLE, Original
from tests.live.virtualhome_parity import apartment as apartment_by_name
from tests.live.virtualhome_parity import data_folder, program, tasks
from tests.live.virtualhome_parity import graph as graph_by_name
from tests.live.virtualhome_walks import ScriptWalk

SIZES = (10, 30, 100, 300, 1000)
SCRIPT_LINES = 20
ROOM_SIZE = 25
Played = tuple[Apartment, dict[str, Any], list[str]]
"""An apartment, its graph, and a script."""


def example_graphs() -> dict[str, dict[str, Any]]:
    """The five apartments, where the data are at hand."""
    paths = sorted((data_folder() / "example_graphs").glob("*.json.gz"))
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


def grown(size: int) -> dict[str, Any]:
    """The apartment of ten nodes with further rooms, which nobody enters; these come first, so all masks are long."""
    inner, outer = generated_graph(10), generated_graph(size + ROOM_SIZE)
    kept = [node for node in outer["nodes"] if node["id"] > ROOM_SIZE][: size - 10]
    ids = {node["id"] for node in kept}
    edges = [edge for edge in outer["edges"] if edge["from_id"] in ids and edge["to_id"] in ids]
    return {"nodes": [*kept, *inner["nodes"]], "edges": edges + inner["edges"]}


def growth(steps: int) -> dict[int, float]:
    """Microseconds of a step by number of nodes, the same lines in all of them; the medians of interleaved rounds."""
    lines = scripts(Apartment(generated_graph(10)), steps)
    apartments = {size: Apartment(grown(size)) for size in SIZES}
    played = {size: [(apartment, {}, script) for script in lines] for size, apartment in apartments.items()}
    for scripted in played.values():
        native_rate(scripted)
    rounds = [{size: 1e6 / native_rate(scripted) for size, scripted in played.items()} for _ in range(9)]
    return {size: statistics.median(spent[size] for spent in rounds) for size in SIZES}


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


def native_rate(played: list[Played], rounds: int = 1) -> float:
    """Steps a second."""
    engine, steps, spent = Engine(), 0, 0.0
    for apartment, _, lines in played:
        started = time.process_time()
        for _ in range(rounds):
            engine.reset(apartment)
            for line in lines:
                engine.execute(line)
        spent += time.process_time() - started
        steps += rounds * len(lines)
    return steps / spent


def original_rate(played: list[Played], reads: bool) -> float:
    """Steps a second, of those lines at which it does not raise an exception."""
    graph, steps, spent = None, 0, 0.0
    for _, given, lines in played:
        if given is not graph:
            graph, original = given, Original(given)
        original.reset()
        for script in map(original.parse, lines):
            started = time.process_time()
            try:
                original.step(script)
            except (TypeError, AttributeError):
                continue
            spent += time.process_time() - started
            steps += 1
            if reads:
                original.read()
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


def admissible_rates(played: list[Played]) -> tuple[float, float, float]:
    """Calls a second of ``admissible_lines`` after every step, without and with ``in_view``; lines in a call."""
    rates, listed, calls = [], 0, 0
    for in_view in (False, True):
        engine, spent, calls = Engine(), 0.0, 0
        for apartment, _, lines in played:
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


def programs(every: int) -> list[Played]:
    """Every so many of the benchmark's programs, where the data are at hand."""
    if not data_folder().is_dir():
        return []
    names = [f"task/{number}" for number in range(0, len(tasks()), every)]
    return [(apartment_by_name(name), graph_by_name(name), program(name)) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="native steps in each apartment")
    parser.add_argument("--original-steps", type=int, default=1_500, help="the original's, the first of the same")
    parser.add_argument("--every", type=int, default=8, help="every so many of the 388 programs")
    options = parser.parse_args()
    has_original = HOME_VARIABLE in os.environ
    print(
        f"{'apartment':<18}{'nodes':>6}{'steps/s':>10}{'original':>10}{'ratio':>7}{'read':>8}{'ratio':>7}"
        f"{'lists/s':>9}{'in view':>9}{'lines':>7}{'clone us':>10}{'read ms':>9}"
    )
    measured = {"programs": programs(options.every)}
    for name, graph in (example_graphs() | {f"generated {size}": generated_graph(size) for size in SIZES}).items():
        apartment = Apartment(graph, name)
        measured[name] = [(apartment, graph, lines) for lines in scripts(apartment, options.steps)]
    for name, played in measured.items():
        if not played:
            continue
        some = played[: len(played) if name == "programs" else options.original_steps // SCRIPT_LINES]
        apartment, graph, lines = played[0]
        native_rate(played)  # reads and remembers the lines
        rate = native_rate(played, rounds=10 if name == "programs" else 1)
        originals = [original_rate(some, reads) if has_original else 0.0 for reads in (False, True)]
        compared = "".join(
            f"{original:>{10 - 2 * number},.0f}{rate / original if original else 0:>7,.0f}"
            for number, original in enumerate(originals)
        )
        lists, in_view, listed = admissible_rates(some)
        reading = microseconds(lambda g=graph: Apartment(g), 3) / 1e3
        print(
            f"{name:<18}{len(apartment.nodes):>6}{rate:>10,.0f}{compared}"
            f"{lists:>9,.0f}{in_view:>9,.0f}{listed:>7,.0f}{copies(apartment, lines):>10.2f}{reading:>9.1f}",
            flush=True,
        )
    told = ", ".join(f"{spent:.2f} with {size:,} nodes" for size, spent in growth(options.steps // 5).items())
    print(f"microseconds of a step, the same lines: {told}")


if __name__ == "__main__":
    main()
