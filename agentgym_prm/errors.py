"""The package's own exceptions.

::

    AgentGymError
    ├── BudgetExceededError (RuntimeError)      what may be spent on requests to a model server is spent
    ├── GameFormatError (ValueError)            a game file that is damaged or of an unknown kind
    ├── DataNotFoundError (FileNotFoundError)   game data that are not where they were looked for
    ├── DataFormatError (ValueError)            a corpus, question or label file with a row that is none
    ├── IndexFormatError (ValueError)           a folder that holds no whole search index of this version
    ├── SearchServerError (ConnectionError)     a retrieval server that does not answer, or answers something else
    ├── MissingDependencyError (ImportError)    an optional package that is not installed
    ├── MissingKeyError (LookupError)           no API key in the environment or in .env
    ├── ServiceError (RuntimeError)             a model server refused a request, or did not answer in spite of retries
    ├── UnknownNameError (ValueError)           a name that nothing is registered under
    ├── ScriptError (ValueError)                a line that is no action of a VirtualHome script
    ├── UsageError (ValueError)                 a command-line argument out of range
    └── StoreError (ValueError)                 a trajectory file that cannot be read or continued

Each also derives from the standard class it refines, so ``except ValueError`` keeps working. A command that an
environment does not accept is *not* an error: it is a step whose observation says so.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class AgentGymError(Exception):
    """Base of every error that this package raises on its own account."""


class BudgetExceededError(AgentGymError, RuntimeError):
    """The next request would exceed what may be spent; nothing of what was paid for is lost."""


class GameFormatError(AgentGymError, ValueError):
    """A game file is damaged, or its rules or texts are not those that the native engine knows."""


class DataNotFoundError(AgentGymError, FileNotFoundError):
    """No game data where they were looked for."""


class DataFormatError(AgentGymError, ValueError):
    """A corpus, or a file of questions or step labels, is damaged or of an unknown kind; the message names the row."""


class IndexFormatError(AgentGymError, ValueError):
    """A search index on disk is damaged, incomplete or of another version."""


class SearchServerError(AgentGymError, ConnectionError):
    """A retrieval server cannot be reached, fails or does not speak the protocol; the message names it."""


class MissingDependencyError(AgentGymError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class MissingKeyError(AgentGymError, LookupError):
    """No API key where it was looked for; the message names the variable to set."""


class ServiceError(AgentGymError, RuntimeError):
    """A model server refused a request for good, or gave no usable answer in spite of retries."""


class ScriptError(AgentGymError, ValueError):
    """A text is not a line of a VirtualHome script."""


class UsageError(AgentGymError, ValueError):
    """A command-line argument is out of range, or does not go with another."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a failing import in the ``with`` block into a ``MissingDependencyError`` that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed: pip install 'agentgym_prm[{extra}]'", name=error.name
        ) from error


class StoreError(AgentGymError, ValueError):
    """A trajectory file is damaged, of another schema version, or belongs to another run."""


class UnknownNameError(AgentGymError, ValueError):
    """A name is not among the valid ones; the message proposes the nearest."""

    @classmethod
    def of(cls, kind: str, name: object, valid: Iterable[str]) -> "UnknownNameError":
        """Build the error for ``name``, which should have been one of ``valid``.

        >>> print(UnknownNameError.of("split", "trian", ["train", "valid_seen"]))
        unknown split 'trian' (did you mean 'train'?); valid: train, valid_seen
        """
        names = list(valid)
        nearest = get_close_matches(str(name), names, n=1, cutoff=0.5)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        return cls(f"unknown {kind} {name!r}{hint}; valid: {', '.join(names)}")
