"""Plays WebShop in the original and the native engine side by side, and compares everything that they show.

    WEBSHOP_HOME=… python -m tests.live.webshop_parity [--jobs 2] [--official 240] [--hostile 160] [--record]

Random and goal-directed sessions (``webshop_walks.py``) on the benchmark's 1,000 products and on made-up catalogues
whose texts are hostile (``tests/envs/webshop/shops.py``). Compared after every action: the observation in all four
modes, what can be clicked and in which order, whether there is a search bar, reward, end. Exit status 1 on any
difference.
``--record`` keeps a selection of the original's sessions; ``make test`` replays them without the original.
"""

import argparse
import hashlib
import json
import lzma
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from agentgym_prm.envs.webshop.catalog import open_catalogue
from agentgym_prm.envs.webshop.engine import OBSERVATION_MODES, Engine, Shop
from agentgym_prm.envs.webshop.goals import Goal, human_goals, synthetic_goals
from tests.envs.webshop.shops import hostile_catalogue, made_goal, shop_of, small_catalogue
from tests.live.webshop_original import Original, Shown, home
from tests.live.webshop_walks import ShopWalk

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests/envs/webshop/recorded_sessions.jsonl.xz"
SESSIONS_A_CATALOGUE = 20
MAX_STEPS = 40
MADE_GOAL_EVERY = 3
SMALL_SESSIONS = 8


def data_folder() -> Path:
    """The folder with the benchmark's files."""
    return Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", REPOSITORY / "../shared/data")).resolve() / "webshop"


@dataclass
class Session:
    """One session in the original: what it showed after each action (the first entry is the opening).

    Everything else follows from shop and seed; of the benchmark's texts nothing is kept but digests.
    """

    shop: str
    seed: int
    show_attributes: bool
    steps: list[dict[str, Any]] = field(default_factory=list)
    pages: Counter[str] = field(default_factory=Counter)
    mismatch: str = ""


@lru_cache(maxsize=16)
def shop_named(name: str) -> Shop:
    """``official``, ``small``, or ``hostile/NUMBER``."""
    if name == "official":
        return shop_of(open_catalogue(data_folder()))
    return shop_of(small_catalogue() if name == "small" else hostile_catalogue(int(name.partition("/")[2])))


@lru_cache
def official_goals() -> Sequence[Goal]:
    catalogue = shop_named("official").catalogue
    return [*human_goals(catalogue), *synthetic_goals(catalogue)]


def goal_for(shop: str, seed: int) -> Goal:
    """A goal of the benchmark, or one made for a product, which may ask for what there is not."""
    rng = random.Random(f"goal {shop} {seed}")
    if shop == "official" and seed % MADE_GOAL_EVERY:
        return rng.choice(official_goals())
    catalogue = shop_named(shop).catalogue
    return made_goal(catalogue.product(rng.randrange(len(catalogue))), rng, seed)


@lru_cache(maxsize=16)
def original_for(shop: str, show_attributes: bool) -> Original:
    return Original(shop_named(shop), show_attributes=show_attributes)


def compare_session(shop: str, seed: int) -> Session:
    """Play one session on both engines, to the purchase or for ``MAX_STEPS``."""
    show_attributes = seed % 2 == 0
    original = original_for(shop, show_attributes)
    goal = goal_for(shop, seed)
    walk = ShopWalk(shop_named(shop).catalogue, goal, seed)
    session = Session(shop, seed, show_attributes)
    engine = Engine(shop_named(shop), show_attributes=show_attributes)
    observation, shown, action = engine.reset(goal, walk.session), original.reset(goal, walk.session), ""
    for _ in range(MAX_STEPS + 1):
        session.steps.append(recorded(shop, action, shown))
        session.pages[kind_of_page(engine)] += 1
        if difference := _difference(engine, observation, shown):
            session.mismatch = f"{action!r}: {difference}"
        if session.mismatch or shown.done:
            break
        action = walk.choose(shown.clickables, shown.has_search_bar)
        observation, shown = engine.step(action), original.step(action)
    return session


def kind_of_page(engine: Engine) -> str:
    """Which page is on show, for the report of what was covered."""
    view = engine.view
    if view.sub_page:
        return view.sub_page.lower()
    if view.page == "search_results":
        found = "nothing found" if not view.results else "past the end" if not view.shown else "results"
        return found if view.number > 0 else "results before the first page"
    chosen = " with options chosen" if view.page == "item_page" and view.options else ""
    return f"{view.page}{chosen}"


def _difference(engine: Engine, observation: str, shown: Shown) -> str:
    if observation != shown.observations["text_rich"]:
        return f"step: {observation!r}, original {shown.observations['text_rich']!r}"
    for mode in OBSERVATION_MODES:
        if (ours := engine.observe(mode)) != (theirs := shown.observations[mode]):
            start = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), 0)
            return (
                f"{mode} from {start}: {ours[start - 30 : start + 90]!r}, original {theirs[start - 30 : start + 90]!r}"
            )
    if engine.clickables() != shown.clickables:
        return f"clickables {engine.clickables()}, original {shown.clickables}"
    ours = (engine.has_search_bar, engine.outcome, engine.done)
    theirs = (shown.has_search_bar, shown.reward, shown.done)
    return "" if ours == theirs else f"search bar, reward, done {ours}, original {theirs}"


def digest(value: Any) -> str:
    """64 bits of a hash of any JSON value: enough to tell that nothing changed."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def recorded(shop: str, action: str, shown: Shown) -> dict[str, Any]:
    """What is kept of a step: digests, and all texts where the catalogue is the small one."""
    everything = [[shown.observations[mode] for mode in OBSERVATION_MODES], shown.clickables, shown.has_search_bar]
    record = {"typed": digest(action), "shown": digest(everything), "reward": shown.reward, "done": shown.done}
    if shop == "small":
        record |= {"action": action, "observations": shown.observations}
    return record


def is_recordable(session: Session) -> bool:
    """Sessions with the benchmark's own goals are not recorded: those of tests stay as they are."""
    return session.shop != "official" or session.seed % MADE_GOAL_EVERY == 0


def select(sessions: Sequence[Session], per_shop: int = 40) -> list[Session]:
    """Sessions of each kind of shop that show the most different pages."""
    chosen: list[Session] = []
    for kind in ("official", "hostile", "small"):
        rest = [session for session in sessions if session.shop.startswith(kind) and is_recordable(session)]
        seen: Counter[str] = Counter()
        for _ in range(min(per_shop, len(rest))):
            best = max(rest, key=lambda s: (sum(1 / (1 + seen[page]) for page in s.pages), -len(s.steps)))
            seen.update(best.pages.keys())
            rest.remove(best)
            chosen.append(best)
    return chosen


def write(path: Path, sessions: Sequence[Session]) -> None:
    """Write sessions with their provenance."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("flask", "jinja2", "werkzeug", "beautifulsoup4", "thefuzz")}
    provenance = {"repository": "princeton-nlp/WebShop", "python": sys.version.split()[0], **packages}
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps({"recorded from": provenance, "sessions": len(sessions)}) + "\n")
        for session in sessions:
            record = {name: value for name, value in vars(session).items() if name not in ("pages", "mismatch")}
            file.write(json.dumps(record) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--official", type=int, default=240, help="sessions on the benchmark's products (default 240)")
    parser.add_argument("--hostile", type=int, default=160, help="sessions on made-up products (default 160)")
    parser.add_argument("--record", action="store_true", help="record a selection of the sessions anew")
    options = parser.parse_args()
    home()
    tasks = [("official", seed) for seed in range(options.official)]
    tasks += [("small", seed) for seed in range(SMALL_SESSIONS)]
    tasks += [(f"hostile/{seed // SESSIONS_A_CATALOGUE}", seed) for seed in range(options.hostile)]
    with ProcessPoolExecutor(options.jobs) as pool:
        sessions = []
        for session in pool.map(compare_session, *zip(*tasks, strict=True), chunksize=4):
            sessions.append(session)
            if session.mismatch:
                print(f"{session.shop} {session.seed}: {session.mismatch}", flush=True)
    different = sum(bool(session.mismatch) for session in sessions)
    _report(sessions, different)
    if options.record and not different:
        chosen = select(sessions)
        write(RECORDED, chosen)
        print(f"recorded {len(chosen)} sessions -> {RECORDED} ({RECORDED.stat().st_size:,} bytes)")
    return int(different > 0)


def _report(sessions: Sequence[Session], different: int) -> None:
    """Print what was covered."""
    pages = sum((session.pages for session in sessions), Counter())
    print("states shown, by kind of page:")
    for kind, count in sorted(pages.items()):
        print(f"{count:8}  {kind}")
    rewards = Counter(round(step["reward"], 1) for session in sessions for step in session.steps if step["done"])
    print(f"rewards of the purchases, rounded: {dict(sorted(rewards.items()))}")
    steps = sum(len(session.steps) - 1 for session in sessions)
    print(f"{len(sessions)} sessions, {steps} actions, {len(OBSERVATION_MODES)} observation modes after each")
    print(f"{len(sessions) - different} sessions identical, {different} different")


if __name__ == "__main__":
    sys.exit(main())
