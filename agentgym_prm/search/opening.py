"""Opens what a user names: a corpus, an index, a server, Lucene.

What is opened twice in a process is the same object, so that many environments share one index and its caches.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final
from weakref import WeakValueDictionary

from agentgym_prm.errors import DataNotFoundError
from agentgym_prm.search.core import PassageSearch
from agentgym_prm.search.lucene_passages import LucenePassages
from agentgym_prm.search.passages import RECORD, PassageIndex
from agentgym_prm.search.remote import RemoteSearch

LUCENE: Final = "lucene:"
_FORMS: Final = (
    "a corpus (a file of passages), the folder of an index of passages, http://HOST:PORT of a retrieval server, or "
    "lucene:NAME_OR_FOLDER"
)
_opened: Final[WeakValueDictionary[tuple[object, ...], PassageSearch]] = WeakValueDictionary()
_opening: Final = Lock()


def open_search(spec: str | Path | PassageSearch, *, split_pages: bool = False) -> PassageSearch:
    """The search that ``spec`` names.

    Args:
        spec: A corpus file, which is indexed into the cache on first use (``PassageIndex.of_file``); the folder of a
            ``PassageIndex``; ``http://…``, a retrieval server (``RemoteSearch``); ``lucene:NAME_OR_FOLDER``
            (``LucenePassages``); or a search, which is returned as it is.
        split_pages: Of a corpus of KILT's pages, whether each paragraph is a passage.

    Raises:
        DataNotFoundError: There is nothing of that name; says what would be valid.
        AgentGymError: It is damaged, or a package is missing; see the classes named above.
    """
    if not isinstance(spec, str | Path):
        return spec
    name = str(spec)
    with _opening:
        if name.startswith(("http://", "https://")):
            return _shared(("server", name), lambda: RemoteSearch(name))
        if name.startswith(LUCENE):
            named = name.removeprefix(LUCENE)
            return _shared((LUCENE, named), lambda: LucenePassages(named))
        path = Path(name).expanduser()
        if path.is_file():
            return _shared((*_state(path), split_pages), lambda: PassageIndex.of_file(path, split_pages=split_pages))
        if (path / RECORD).is_file():
            return _shared(_state(path / RECORD), lambda: PassageIndex.open(path))
    raise DataNotFoundError(f"{name!r} is nothing to search in: {_what_is_at(path)}; valid are {_FORMS}")


def _shared(key: tuple[object, ...], make: Callable[[], PassageSearch]) -> PassageSearch:
    found = _opened.get(key)
    if found is None:
        found = _opened[key] = make()
    return found


def _state(path: Path) -> tuple[object, ...]:
    """What changes when a file does."""
    stat = path.stat()
    return path.resolve(), stat.st_size, stat.st_mtime_ns


def _what_is_at(path: Path) -> str:
    if not path.is_dir():
        return "there is no such file or folder"
    if any(path.glob("segments_*")):
        return f"the folder holds a Lucene index, which is named {LUCENE}{path}"
    return f"the folder holds no {RECORD}"
