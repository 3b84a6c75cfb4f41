"""Plays ALFWorld games in the original and the native engine side by side, and compares everything that they show.

    python -m tests.live.parity [--jobs 2] [--walks 3] [--steps 60] [--games 60] [--builtin 12] [--record]

For each game: its walkthrough, then biased random walks (``walks.py``). Compared after every command: the text, the
admissible commands with their order, ``won``, and the goal-condition share against its literal evaluation on the
original's facts. Exit status 1 on any difference. ``--record`` keeps a selection of the original's transcripts that
covers every kind of feedback that occurred; ``make test`` replays them without the original: those of official games
where the game files are at hand, those of builtin games everywhere.
"""

import argparse
import json
import lzma
import os
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.files import describe_record, open_games
from agentgym_prm.envs.alfworld.game import Game
from agentgym_prm.envs.alfworld.generate import DIFFICULTIES, SPLIT_SIZES
from agentgym_prm.envs.alfworld.goal import goal_share
from agentgym_prm.envs.alfworld.planner import plan
from tests.live.original import Original, Shown
from tests.live.walks import BiasedWalk

REPOSITORY = Path(__file__).parents[2]
RECORDED = {
    "official": REPOSITORY / "tests/envs/alfworld/official_walks.jsonl.xz",
    "builtin": REPOSITORY / "tests/envs/alfworld/builtin_walks.jsonl.xz",
}
MIN_RECORDED = 30


def data_folder() -> Path:
    """The folder with the official games."""
    return Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", REPOSITORY / "../shared/data")) / "alfworld"


@dataclass
class Transcript:
    """One walk: what was typed, and what the original showed after it (``steps[0]`` is the opening)."""

    task_id: str
    walk: int
    steps: list[dict[str, Any]] = field(default_factory=list)

    def templates(self) -> set[str]:
        """The kinds of feedback that it shows."""
        return {template(step["command"], step["text"]) for step in self.steps}


@dataclass
class GameResult:
    """What comparing one game gave."""

    task_id: str
    transcripts: list[Transcript]
    mismatches: list[str]
    features: dict[str, bool]


def template(command: str, text: str) -> str:
    """The kind of a feedback: its verb, and its text without names and lists.

    >>> template("go to desk 1", "You arrive at desk 1. On the desk 1, you see a mug 2, and a pen 1.")
    'go: You arrive at X. On the X, you see some.'
    """
    shape = re.sub(r"you see nothing\.", "you see none.", text)
    shape = re.sub(r"you see a [^.]*\.", "you see some.", shape)
    shape = re.sub(r"Your task is to: .*", "Your task is to: T", shape, flags=re.DOTALL)
    shape = re.sub(r"facing the [a-z]+ \d+, and .*?\. Next", "facing the X, and X. Next", shape)
    verb = command.split()[0].lower() if command.split() else ""
    executed = verb if not text.startswith("Nothing") else "invalid"
    return f"{executed}: {re.sub(r'[a-z]+ [0-9]+', 'X', shape)}"


def features(game: Game) -> dict[str, bool]:
    """Which of the traps of the benchmark a game holds."""
    contents = game.start_contents
    pairs = [(a, b) for a in range(len(contents)) for b in range(a)]
    return {
        "object in several receptacles": any(contents[a] & contents[b] & game.pickupable for a, b in pairs),
        "receptacles that share a location": any(len(at) > 1 for at in game.receptacles_at),
        "containers with contents": bool(game.inner_objects),
        "cold from the start": bool(game.start_cool),
    }


def compare_game(task_id: str, record: dict[str, Any], walks: int, steps: int) -> GameResult:
    """Play one game on both engines."""
    game = Game(describe_record(record, task_id, task_id))
    original = Original(record)
    result = GameResult(task_id, [], [], features(game))
    for walk in range(walks + 1):
        transcript, mismatch = _compare_walk(game, original, list(record["walkthrough"]), walk, steps)
        result.transcripts.append(transcript)
        if mismatch:
            result.mismatches.append(mismatch)
    return result


def _compare_walk(
    game: Game, original: Original, walkthrough: list[str], walk: int, steps: int
) -> tuple[Transcript, str]:
    engine, chooser = Engine(), BiasedWalk(game, walk)
    transcript = Transcript(game.task_id, walk)
    command, text, shown = "", engine.reset(game), original.reset()
    for step in range(steps + 1):
        transcript.steps.append(
            {"command": command, "text": shown.text, "admissible": list(shown.admissible_commands), "won": shown.won}
        )
        if difference := _difference(engine, text, shown):
            typed = [taken["command"] for taken in transcript.steps]
            return transcript, f"{game.task_id} walk {walk} after {typed[-6:]}: {difference}"
        if walk == 0:
            if step == len(walkthrough):
                break
            command = walkthrough[step]
        else:
            held = game.object_names[engine.held] if engine.held >= 0 else ""
            command = chooser.choose(shown.admissible_commands, held)
        text, shown = engine.step(command), original.step(command)
    if walk == 0 and not engine.won:
        return transcript, f"{game.task_id}: the walkthrough does not win"
    return transcript, ""


def _difference(engine: Engine, text: str, shown: Shown) -> str:
    if text != shown.text:
        return f"text {text!r}, original {shown.text!r}"
    commands = engine.admissible_commands()
    if commands != shown.admissible_commands:
        return f"admissible commands differ by {sorted(set(commands) ^ set(shown.admissible_commands))}"
    if engine.won != shown.won:
        return f"won {engine.won}, original {shown.won}"
    share = goal_share(engine.game.goal, shown.facts)
    if engine.goal_condition_success_rate != share:
        return f"goal-condition share {engine.goal_condition_success_rate}, on the original's facts {share}"
    return ""


def official_games(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The training sample, then ``count`` games of valid_seen: those that hold most of the traps first."""
    with tarfile.open(data_folder() / "train_sample.tar.xz") as archive:
        files = sorted(member.name for member in archive if member.name.endswith("game.tw-pddl"))
        for name in files[:count]:
            extracted = archive.extractfile(name)
            assert extracted is not None
            yield "/".join(Path(name).parts[-4:-1]), json.load(extracted)
    games = open_games(str(data_folder()), "valid_seen", "full")
    ranked = sorted(range(len(games)), key=lambda i: (-sum(features(games.game(i)).values()), i))
    for index in ranked[:count]:
        yield games.task_ids[index], games.record(index)


def builtin_games(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Generated games of all splits and difficulties, as the original reads them once exported."""
    kinds = [(split, difficulty) for split in SPLIT_SIZES for difficulty in DIFFICULTIES]
    for number in range(count):
        split, difficulty = kinds[number % len(kinds)]
        index = number // len(kinds) * 7 + number
        games = open_games("builtin", split, difficulty)
        engine = Engine()
        engine.reset(games.game(index))
        yield games.describe(index).task_id, games.record(index) | {"walkthrough": list(plan(engine) or ())}


def select(transcripts: list[Transcript]) -> list[Transcript]:
    """A few walks that show every template that any walk shows, filled up to ``MIN_RECORDED``."""
    missing = set().union(*(transcript.templates() for transcript in transcripts))
    chosen: list[Transcript] = []
    rest = list(transcripts)
    while missing or (len(chosen) < MIN_RECORDED and rest):
        best = max(rest, key=lambda t: (len(t.templates() & missing), len(t.templates())))
        missing -= best.templates()
        chosen.append(best)
        rest.remove(best)
    return chosen


def write(path: Path, transcripts: list[Transcript]) -> None:
    """Write transcripts with their provenance."""
    from importlib.metadata import version

    provenance = {name: version(name) for name in ("alfworld", "textworld", "fast_downward_textworld")}
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps({"recorded from": provenance, "walks": len(transcripts)}) + "\n")
        for transcript in transcripts:
            file.write(json.dumps(vars(transcript)) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--walks", type=int, default=3, help="random walks of each game (default 3)")
    parser.add_argument("--steps", type=int, default=60, help="commands in each walk (default 60)")
    parser.add_argument("--games", type=int, default=60, help="official games of each of two splits (default 60)")
    parser.add_argument("--builtin", type=int, default=12, help="builtin games (default 12)")
    parser.add_argument("--record", action="store_true", help="record a selection of the transcripts anew")
    options = parser.parse_args()
    sources = {"builtin": builtin_games(options.builtin)}
    if options.games:
        sources["official"] = official_games(options.games)
    failed = False
    with ProcessPoolExecutor(options.jobs) as pool:
        for name, games in sources.items():
            print(f"=== {name} games", flush=True)
            tasks = [pool.submit(compare_game, *game, options.walks, options.steps) for game in games]
            results = []
            for number, task in enumerate(tasks, 1):
                results.append(task.result())
                verdict = "; ".join(results[-1].mismatches) or "identical"
                print(f"[{number}/{len(tasks)}] {results[-1].task_id}: {verdict}", flush=True)
            failed |= not _report(results)
            if options.record and not failed:
                chosen = select([transcript for result in results for transcript in result.transcripts])
                write(RECORDED[name], chosen)
                print(f"recorded {len(chosen)} walks -> {RECORDED[name]}")
    return int(failed)


def _report(results: list[GameResult]) -> bool:
    """Print what was covered; whether everything was identical."""
    transcripts = [transcript for result in results for transcript in result.transcripts]
    commands = sum(len(transcript.steps) - 1 for transcript in transcripts)
    shown = Counter(template(step["command"], step["text"]) for t in transcripts for step in t.steps)
    print("feedback, by kind:")
    for kind, count in sorted(shown.items()):
        print(f"{count:8}  {kind[:110]!r}")
    for name in results[0].features:
        print(f"games with {name}: {sum(result.features[name] for result in results)}")
    different = sum(len(result.mismatches) for result in results)
    print(f"{len(results)} games, {len(transcripts)} walks, {commands} commands, {len(shown)} kinds of feedback")
    print(f"{len(transcripts) - different} walks identical, {different} different")
    return different == 0


if __name__ == "__main__":
    sys.exit(main())
