"""Lists of words that stand in text files beside this module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final


def _read(name: str) -> Mapping[str, tuple[str, ...]]:
    """The lists of a file, by their names: a line that ends in a colon is a name, the words below it are the list."""
    lists: dict[str, tuple[str, ...]] = {}
    name_of_list = ""
    for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines():
        if line.endswith(":"):
            name_of_list = line[:-1]
            lists[name_of_list] = ()
        elif not line.startswith("#"):
            lists[name_of_list] += tuple(line.split())
    return lists


ENGLISH: Final = _read("english.txt")
"""What the reader goes by."""
WORDS: Final = _read("words.txt")
"""What names of the builtin worlds are made of."""
