"""What all stages have in common: settings that are checked, work that is skipped if done, files written whole."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from agentgym_prm.errors import StoreError
from agentgym_prm.evaluate import start_run

_LOG: Final = logging.getLogger(__name__)
DONE: Final = "done.json"
CONFIG: Final = "config.json"
LOCK: Final = ".lock"

Say = Callable[[str], None]
_SPEED_ONLY: Final = ("num_envs", "workers", "device")
"""Settings that change no result: a run may be continued with others."""


def run_stage(
    folder: str | Path,
    settings: Mapping[str, Any],
    work: Callable[[], Mapping[str, Any]],
    *,
    builds_on: Mapping[str, str | Path] | None = None,
    say: Say = _LOG.info,
    figures: bool = True,
) -> dict[str, Any]:
    """Do ``work`` unless it is done already.

    ``seconds`` in ``done.json`` are those of the call that finished the stage, not of killed ones before it.

    Args:
        folder: The stage's folder; its name is the stage's.
        settings: What decides the result: values, or dataclasses of values.
        work: Does the stage, or what is left of it, and returns its results, flat.
        builds_on: What decides the result too, by what it is: files, told apart by their content, or folders of other
            stages, by the settings that these were made with.
        say: Gets one line about the stage.
        figures: Whether that line holds the results.

    Returns:
        The results, as in ``done.json``.

    Raises:
        StoreError: The folder was started with other settings, or on other inputs; another process works in it.
    """
    with locked(folder := Path(folder)):
        return _run_stage(folder, settings, work, builds_on or {}, say, figures=figures)


def _run_stage(
    folder: Path,
    settings: Mapping[str, Any],
    work: Callable[[], Mapping[str, Any]],
    builds_on: Mapping[str, str | Path],
    say: Say,
    *,
    figures: bool,
) -> dict[str, Any]:
    inputs = {f"builds on {name}": fingerprint(path) for name, path in builds_on.items()}
    known = start(folder, {**settings, **inputs})
    done = folder / DONE
    if done.is_file():
        say(f"{folder.name}: complete, skipped")
        return results_of(done)
    started = time.perf_counter()
    try:
        results = dict(work())
    except Exception:
        # Settings that turn out wrong when the work begins may be put right: nothing was made with them.
        if {path.name for path in folder.iterdir()} <= {CONFIG, LOCK}:
            (folder / CONFIG).unlink()
        raise
    seconds = round(time.perf_counter() - started, 3)
    record = {"stage": folder.name, "seconds": seconds, "results": results, "fingerprint": _digest(known)}
    write_atomically(done, json.dumps(record, indent=2) + "\n")
    shown = ", ".join(f"{name} {_short(value)}" for name, value in results.items())
    say(f"{folder.name}: {seconds:.1f} s" + (f" ({shown})" if figures else ""))
    return results


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other processes out of a folder; the lock ends with the process, however that ends.

    Raises:
        StoreError: Another process works in it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this platform
        yield
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another process works in {folder}: wait for it, or choose another folder") from error
        yield


def results_of(done: Path) -> dict[str, Any]:
    """The results in a ``done.json``; ``StoreError`` if it is damaged."""
    results = read_json(done).get("results")
    if not isinstance(results, dict):
        raise StoreError(f"{done} is damaged: delete it, and the stage is finished again")
    return results


def start(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write a folder's ``config.json``, or check that the one it has says the same; returns the settings, flat.

    Raises:
        StoreError: It was started with other settings; the message names the first that differs.
    """
    flat = {name: value for name, value in _flat(settings).items() if name.rpartition(".")[2] not in _SPEED_ONLY}
    known: dict[str, Any] = json.loads(json.dumps(flat))
    try:
        start_run(folder, known, resume=True)
    except StoreError as error:
        raise StoreError(f"{error}: go back to that, or choose another run directory") from error
    return known


def fingerprint(path: str | Path) -> str:
    """What a stage builds on: the fingerprint of the stage that made it, else a digest of the file, else its name."""
    path = Path(path)
    for done in (path / DONE, path.parent / DONE):
        if done.is_file():
            return str(read_json(done).get("fingerprint"))
    if path.is_file():
        with path.open("rb") as file:
            return _digest_of_lines(file)
    return str(path)


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder whole or not at all; one that is there is replaced."""
    temporary = folder.with_name(f"{folder.name}.tmp")
    for stale in (temporary, folder):
        shutil.rmtree(stale, ignore_errors=True)
    write(temporary)
    os.replace(temporary, folder)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a run; ``StoreError`` if it is damaged or missing."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"there is no {path}: is the stage before this one finished?") from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error!r}): delete it, and what it belongs to is done again") from error
    if not isinstance(record, dict):
        raise StoreError(f"{path} must hold an object, got {record!r:.80}")
    return record


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _digest(record: Mapping[str, Any]) -> str:
    return blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16).hexdigest()


def _digest_of_lines(lines: Iterable[bytes]) -> str:
    digest = blake2b(digest_size=16)
    for line in lines:
        digest.update(line)
    return digest.hexdigest()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
