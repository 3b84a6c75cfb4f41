"""Files that are made once and kept: where they lie, what they are called, and how they are written in one step."""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tqdm import tqdm

VARIABLE: Final = "AGENTGYM_PRM_CACHE"
SILENT_S: Final = 2
"""A progress bar is shown from this many seconds on."""
_PART: Final = 1 << 22
_UNFINISHED: Final = ".unfinished-"
_ABANDONED_AFTER_S: Final = 24 * 3600


def cache_folder() -> Path:
    """``$AGENTGYM_PRM_CACHE``, or ``agentgym_prm`` in the user's cache folder."""
    stated = os.environ.get(VARIABLE)
    if stated:
        return Path(stated).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "agentgym_prm"


def content_hash(path: Path, notes: Path) -> str:
    """SHA-256 of a file's bytes, kept in ``notes`` by path, size and time of change: hashing gigabytes takes time."""
    stat = path.stat()
    seen = hashlib.sha256(f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()[:32]
    note = notes / seen
    with suppress(OSError, UnicodeDecodeError):
        kept = note.read_text(encoding="ascii")
        if len(kept) == 64:
            return kept
    digest = hashlib.sha256()
    shown = tqdm(
        None, f"reading {path.name}", stat.st_size, unit="B", unit_scale=True, delay=SILENT_S, leave=False, disable=None
    )
    with path.open("rb") as file, shown:
        while part := file.read(_PART):
            digest.update(part)
            shown.update(len(part))
    found = digest.hexdigest()
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished = note.with_name(f"{_UNFINISHED}{os.getpid()}-{note.name}")
        unfinished.write_text(found, encoding="ascii")
        unfinished.replace(note)
    return found


@contextmanager
def written_in_one_step(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes ``folder`` at the end; after any error nothing of it is left.

    What a killed process left behind is removed by the first that comes a day later.

    Raises:
        FileExistsError: There is a ``folder`` by then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in folder.parent.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder.parent, ignore_cleanup_errors=True) as place:
        unfinished = Path(place) / "new"
        unfinished.mkdir()
        yield unfinished
        try:
            unfinished.rename(folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(f"{folder} is there already: remove it, or name another one") from error
            raise
