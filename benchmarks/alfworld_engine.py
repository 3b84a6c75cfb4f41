"""Claim: the native ALFWorld engine takes thousands of times as many steps a second as the original.

    make bench        or        python benchmarks/alfworld_engine.py [--original-steps 60] [--native-steps 100000]

Both engines play the same games with the same commands in one run and one process, single-threaded, and compute the
admissible commands after every step; times are CPU seconds. Without the original installed, only the native engine is
measured. Games: the largest and the median valid_seen kitchen of the official data if $AGENTGYM_PRM_TEST_DATA or
$ALFWORLD_DATA has them, and a full and a small builtin game.
"""

import argparse
import importlib.util
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentgym_prm.envs.alfworld.engine import Engine
from agentgym_prm.envs.alfworld.files import GameCollection, describe_record, open_games
from agentgym_prm.envs.alfworld.game import Game
from agentgym_prm.envs.alfworld.textworld import OriginalEngine


def chosen_games() -> list[tuple[str, GameCollection, int]]:
    """(name, games, index) of what is measured."""
    chosen = [(f"builtin {kind}", open_games("builtin", "train", kind), 0) for kind in ("full", "small")]
    folder = Path(os.environ.get("AGENTGYM_PRM_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "alfworld"
    data = str(folder) if folder.is_dir() else "official" if "ALFWORLD_DATA" in os.environ else None
    if data is not None:
        games = open_games(data, "valid_seen", "full")
        kitchens = [i for i in range(len(games)) if games.game(i).microwaves]
        kitchens.sort(key=lambda i: len(games.game(i).receptacle_names))
        chosen.append(("official, largest kitchen", games, kitchens[-1]))
        chosen.append(("official, median kitchen", games, kitchens[len(kitchens) // 2]))
    return chosen


def random_commands(game: Game, count: int) -> list[str]:
    """An endless random walk, cut into episodes of 50 by ``"reset"``."""
    rng, engine, commands = random.Random(0), Engine(), []
    while len(commands) < count:
        engine.reset(game)
        commands.append("reset")
        for _ in range(50):
            commands.append(rng.choice(engine.admissible_commands()))
            engine.step(commands[-1])
    return commands[:count]


def native_rate(game: Game, commands: list[str]) -> float:
    engine = Engine()
    started = time.process_time()
    for command in commands:
        if command == "reset":
            engine.reset(game)
        else:
            engine.step(command)
        engine.admissible_commands()
    return len(commands) / (time.process_time() - started)


def original_rate(record: dict[str, Any], commands: list[str]) -> tuple[float, float]:
    """Steps a second, and seconds to load and reset."""
    engine = OriginalEngine()
    started = time.process_time()
    engine.reset(record)
    loaded = time.process_time() - started
    commands = [command for command in commands if command != "reset"]
    started = time.process_time()
    for command in commands:
        engine.step(command)
        engine.admissible_commands()
    return len(commands) / (time.process_time() - started), loaded


def microseconds(call: Callable[[], Any], repeats: int) -> float:
    """CPU time of one call, the median of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(repeats):
            call()
        rounds.append((time.process_time() - started) / repeats * 1e6)
    return statistics.median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--native-steps", type=int, default=100_000)
    parser.add_argument("--original-steps", type=int, default=50)
    options = parser.parse_args()
    has_original = importlib.util.find_spec("textworld") is not None
    print(
        f"{'game':<28}{'receptacles':>12}{'native steps/s':>16}{'original':>10}{'ratio':>9}"
        f"{'parse ms':>10}{'orig. load s':>13}{'reset us':>10}{'clone us':>10}"
    )
    for name, games, index in chosen_games():
        record, game = games.record(index), games.game(index)
        commands = random_commands(game, options.native_steps)
        native = native_rate(game, commands)
        original, loaded = original_rate(record, commands[: options.original_steps]) if has_original else (0.0, 0.0)
        ratio = f"{native / original:,.0f}" if original else "-"
        parse = microseconds(lambda r=record: Game(describe_record(r, "game", "game")), 20) / 1e3
        engine = Engine()
        reset = microseconds(lambda e=engine, g=game: e.reset(g), 2000)
        clone = microseconds(engine.clone, 20_000)
        print(
            f"{name:<28}{len(game.receptacle_names):>12}{native:>16,.0f}{original:>10.2f}{ratio:>9}"
            f"{parse:>10.2f}{loaded:>13.2f}{reset:>10.1f}{clone:>10.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
