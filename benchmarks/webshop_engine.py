"""Claim: the native WebShop engine takes at least 200 times as many steps a second as the original, in less memory.

    WEBSHOP_HOME=… .venv-webshop/bin/python benchmarks/webshop_engine.py [--sessions 400] [--products 100000]

Both play the same sessions in one run and one process, single-threaded, with observations in mode ``text_rich``; times
are CPU seconds. Searches are answered from a table on both sides, so what is measured is pages, actions and rewards.
The original lists what can be clicked within its step; ours is asked for the admissible commands after each.

Start-up time and memory are taken in processes of their own: the original reads its product file; ours builds its cache
of it (first) or opens that (again). The search engine is not part of either. Larger catalogues are the benchmark's
products with new ids, as often as it takes. Without $WEBSHOP_HOME only the native engine is measured.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from agentgym_prm.envs.webshop.catalog import catalogue_of, open_catalogue
from agentgym_prm.envs.webshop.engine import Engine, Shop
from agentgym_prm.envs.webshop.goals import Goal
from agentgym_prm.envs.webshop.nouns import RuleNouns

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.envs.webshop.shops import WordIndex, made_goal  # noqa: E402
from tests.live.webshop_original import HOME_VARIABLE, Original, original_module  # noqa: E402
from tests.live.webshop_walks import ShopWalk  # noqa: E402

DATA = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", REPOSITORY / "../shared/data")).resolve() / "webshop"
MAX_STEPS = 30
ENVIRONMENTS = 64
Session = tuple[Goal, str, list[str]]


class Table:
    """An index that remembers what it found, so that searching costs nothing on either side."""

    def __init__(self, index: WordIndex) -> None:
        self.search = lru_cache(maxsize=None)(index.search)


def recorded_sessions(shop: Shop, count: int) -> list[Session]:
    """Shopping, some of it with a purpose, as far as the purchase or for ``MAX_STEPS`` actions."""
    sessions = []
    for seed in range(count):
        rng = random.Random(seed)
        goal = made_goal(shop.catalogue.product(rng.randrange(len(shop.catalogue))), rng, seed)
        walk, engine = ShopWalk(shop.catalogue, goal, seed), Engine(shop)
        engine.reset(goal, walk.session)
        actions: list[str] = []
        while len(actions) < MAX_STEPS and not engine.done:
            actions.append(walk.choose(engine.clickables(), engine.has_search_bar))
            engine.step(actions[-1])
        sessions.append((goal, walk.session, actions))
    return sessions


def native_rate(shop: Shop, sessions: list[Session], *, commands: bool) -> float:
    engine = Engine(shop)
    started = time.process_time()
    for goal, session, actions in sessions:
        engine.reset(goal, session)
        for action in actions:
            engine.step(action)
            if commands:
                engine.admissible_commands()
    return sum(len(actions) for _, _, actions in sessions) / (time.process_time() - started)


def original_rate(shop: Shop, sessions: list[Session]) -> float:
    original = Original(shop, as_is=True)
    spent, steps = 0.0, 0
    for goal, session, actions in sessions:
        original.reset(goal, session)
        started = time.process_time()
        for action in actions:
            original.step_only(action)
        spent += time.process_time() - started
        steps += len(actions)
    return steps / spent


def resident_mb() -> float:
    """What the process holds in memory, in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def start_original(file: Path) -> dict[str, float]:
    """Seconds and megabytes that the original's products take."""
    module: Any = original_module()
    engine: Any = sys.modules["web_agent_site.engine.engine"]
    engine.HUMAN_ATTR_PATH = str(DATA / "items_human_ins_1000.json")
    engine.DEFAULT_ATTR_PATH = str(DATA / "items_ins_v2_1000.json")
    before, started = resident_mb(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        products = module.load_products(filepath=str(file), human_goals=True)
    assert products
    return {"s": time.process_time() - started, "MB": resident_mb() - before}


def start_native(file: Path) -> dict[str, float]:
    """Seconds and megabytes until the catalogue is open, read once, and until 64 environments that share it played."""
    before, started = resident_mb(), time.process_time()
    catalogue = open_catalogue(file)
    taken = {"s": time.process_time() - started, "MB": resident_mb() - before}
    for index in range(len(catalogue)):
        catalogue.product(index)
    taken["MB when all were read"] = resident_mb() - before
    index = WordIndex(catalogue_of(map(catalogue.product, range(1000)), "the first thousand"))
    shop = Shop(catalogue, Table(index), RuleNouns())
    unused = resident_mb()
    sessions = recorded_sessions(shop, ENVIRONMENTS)
    engines = [Engine(shop) for _ in range(ENVIRONMENTS)]
    for engine, (goal, session, actions) in zip(engines, sessions, strict=True):
        engine.reset(goal, session)
        for action in actions[:-1]:
            engine.step(action)
    return {**taken, f"MB more for {ENVIRONMENTS} sessions at once": resident_mb() - unused}


def write_products(file: Path, count: int) -> None:
    """The benchmark's products, again and again with new ids."""
    with gzip.open(DATA / "items_shuffle_1000.json.gz", "rt", encoding="utf-8") as source:
        products = json.load(source)
    with file.open("w", encoding="utf-8") as target:
        for number in range(count):
            product = products[number % len(products)]
            asin = product["asin"] if number < len(products) else f"Z{number:09}"
            target.write(("[" if number == 0 else ",") + json.dumps({**product, "asin": asin}))
        target.write("]")


def started(kind: str, file: Path, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--start", kind, "--file", str(file)]
    environment = os.environ | {"AGENTGYM_PRM_CACHE": str(cache), "AGENTGYM_PRM_TEST_DATA": str(DATA.parent)}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(result.stdout))


def compare_starts(folder: Path, count: int, has_original: bool) -> None:
    file = folder / "items_shuffle.json"
    write_products(file, count)
    for name in ("items_human_ins", "items_ins_v2"):
        (folder / f"{name}.json").write_bytes((DATA / f"{name}_1000.json").read_bytes())
    print(f"{count:,} products, file of {file.stat().st_size / 1e6:,.0f} MB")
    kinds = [("native, first time", "native"), ("native, again", "native")]
    for label, kind in kinds + [("original", "original")] * has_original:
        taken = started(kind, file, folder / "cache")
        print(f"  {label:<20}" + "".join(f"{value:10.2f} {unit}" for unit, value in taken.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=400)
    parser.add_argument("--original-sessions", type=int, default=40)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--start", choices=("native", "original"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        print(json.dumps((start_native if options.start == "native" else start_original)(options.file)))
        return
    has_original = HOME_VARIABLE in os.environ
    catalogue = open_catalogue(DATA)
    shop = Shop(catalogue, Table(WordIndex(catalogue)), RuleNouns())
    sessions = recorded_sessions(shop, options.sessions)
    fresh = Shop(catalogue, shop.index, RuleNouns())
    print(f"{len(sessions)} sessions, {sum(len(actions) for _, _, actions in sessions)} actions, text_rich")
    print(
        f"  native, new shop, with admissible commands   {native_rate(fresh, sessions, commands=True):12,.0f} steps/s"
    )
    native = native_rate(shop, sessions, commands=True)
    print(f"  native, with admissible commands             {native:12,.0f} steps/s")
    print(
        f"  native, without                              {native_rate(shop, sessions, commands=False):12,.0f} steps/s"
    )
    if has_original:
        original = original_rate(shop, sessions[: options.original_sessions])
        print(
            f"  original                                     {original:12,.1f} steps/s   1 : {native / original:,.0f}"
        )
    for count in (1000, options.products):
        with tempfile.TemporaryDirectory() as folder:
            compare_starts(Path(folder), count, has_original)


if __name__ == "__main__":
    main()
