"""Where things usually lie: how many objects of a class a receptacle of a class holds when a game starts.

Counted over training games and kept beside this file as ``priors.json``; no other text of the games is in it. Recount:

    python -m agentgym_prm.envs.alfworld.priors DATA

where ``DATA`` is a folder with a ``train`` split, or ``official``.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from agentgym_prm.envs.alfworld.game import Game, bits, class_of

PRIORS_FILE: Final = Path(__file__).with_name("priors.json")
_DIGITS: Final = 3

Priors = Mapping[str, Mapping[str, float]]
"""Object class -> receptacle class -> expected number of such objects in one such receptacle."""


@cache
def placement_priors() -> Priors:
    """The counts that come with the package; a pair that the rules permit but no game shows is 0, others are absent."""
    table: dict[str, dict[str, float]] = json.loads(PRIORS_FILE.read_text(encoding="utf-8"))
    return MappingProxyType({name: MappingProxyType(row) for name, row in table.items()})


def count_placements(games: Iterable[Game]) -> dict[str, dict[str, float]]:
    """Mean number of objects of a class in a receptacle of a class, over the games that have both classes.

    A watch in a drawer is rare over all drawers, most of which are in kitchens; what counts is how often it is there in
    a room that has a watch. Rounded to three significant digits.
    """
    placed: defaultdict[str, Counter[str]] = defaultdict(Counter)
    receptacles: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for game in games:
        kinds = [class_of(name) for name in game.object_names]
        present = set(kinds)
        for name, contents, accepts in zip(game.receptacle_names, game.start_contents, game.accepts, strict=True):
            place = class_of(name)
            for kind in present:
                receptacles[kind][place] += 1
            for kind in {kinds[o] for o in bits(contents | accepts)}:
                placed[kind][place] += 0  # so that a permitted pair is listed
            for o in bits(contents):
                placed[kinds[o]][place] += 1
    return {
        kind: {place: float(f"{row[place] / receptacles[kind][place]:.{_DIGITS}g}") for place in sorted(row)}
        for kind, row in sorted(placed.items())
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Recount ``priors.json`` from the training games of a folder."""
    # Reading the priors must not need whatever reads games.
    from agentgym_prm.envs.alfworld.files import open_games

    parser = argparse.ArgumentParser(prog="python -m agentgym_prm.envs.alfworld.priors", description=main.__doc__)
    parser.add_argument("data", help="folder with a train split, or 'official' for the one that $ALFWORLD_DATA names")
    parser.add_argument("--output", type=Path, default=PRIORS_FILE, help="file to write (default: the package's own)")
    options = parser.parse_args(arguments)
    games = open_games(options.data, "train", "full")
    table = count_placements(games.game(index) for index in range(len(games)))
    lines = ",\n".join(f"{json.dumps(kind)}: {json.dumps(row)}" for kind, row in table.items())
    options.output.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
