"""When two histories are the same: task, all observations, all commands and all admissible commands agree.

What an agent may not know does not count: neither ``task_id``, seed and episode, nor how a reply was worded. Keys are
64-bit numbers off a chain of BLAKE2b digests, one link a turn, so those of a whole trajectory cost one pass. Among ten
million histories two different ones share a key with probability 3e-6 (``n**2 / 2**65``).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

from agentgym_prm.types import Action, History, Step, Trajectory

_NO_ACTION = Action("")


def history_key(history: History) -> int:
    """The key of a history, in ``[0, 2**64)``."""
    return _number(_history_digest(history))


def history_keys(trajectory: Trajectory) -> list[int]:
    """The key of the history before each step: those of ``history_key(trajectory.history(turn))``."""
    return [_number(digest) for digest in _chain(trajectory.task, trajectory.steps)]


def action_key(history: History, command: str) -> int:
    """The key of giving ``command`` after ``history``, in ``[0, 2**64)``."""
    return _number(_acted(_history_digest(history), command))


def _history_digest(history: History) -> bytes:
    now = Step(history.observation, history.admissible_commands, _NO_ACTION)
    *_, digest = _chain(history.task, (*history.steps, now))
    return digest


def _chain(task: str, steps: Sequence[Step]) -> Iterator[bytes]:
    """The digest of the history before each step."""
    before = _digest(_encoded(task))
    for step in steps:
        # Two digests of fixed length, then one text: no two turns are written alike.
        seen = _digest(before + _admissible_digest(step.admissible_commands) + _encoded(step.observation))
        yield seen
        before = _acted(seen, step.action.command)


def _acted(seen: bytes, command: str) -> bytes:
    return _digest(seen + _encoded(command))


@lru_cache(maxsize=4096)
def _admissible_digest(commands: tuple[str, ...]) -> bytes:
    lengths = ",".join([str(len(command)) for command in commands])
    return _digest(_encoded(f"{lengths};{''.join(commands)}"))


def _encoded(text: str) -> bytes:
    # A model's command may hold half a surrogate pair, which strict UTF-8 refuses.
    return text.encode("utf-8", "surrogatepass")


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")
