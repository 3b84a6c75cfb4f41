"""API keys: from the environment or a ``.env`` file, and never shown.

A key lives in a ``Key`` and in the SDK's client. It is taken out of whatever a server says before that becomes a
message, because servers quote keys that they do not know.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentgym_prm.errors import MissingKeyError, UsageError

ENV_FILE: Final = ".env"
"""Read in the working directory; what the environment holds goes before it."""
_LINE: Final = re.compile(
    r"""\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^#\r\n]*?))\s*(?:\#.*)?$"""
)
_REDACTED: Final = "[key]"


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that does not show itself."""

    value: str = field(repr=False)

    def redact(self, text: str) -> str:
        """``text`` without the secret."""
        return text.replace(self.value, _REDACTED) if self.value else text


def find_key(variables: Sequence[str], folder: str | Path = ".") -> Key | None:
    """The first of the variables that is set, in the environment or else in ``folder/.env``.

    Raises:
        UsageError: Its value cannot be sent: HTTP libraries would quote it in their errors.
    """
    values = {**read_env_file(Path(folder) / ENV_FILE), **{name: text for name, text in os.environ.items() if text}}
    name = next((name for name in variables if values.get(name, "").strip()), None)
    if name is None:
        return None
    key = values[name].strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"the key in {name} holds white space or characters that no key has: set it anew")
    return Key(key)


def require_key(variables: Sequence[str], vendor: str) -> Key:
    """As ``find_key``.

    Raises:
        MissingKeyError: None of them is set.
    """
    key = find_key(variables)
    if key is None:
        raise MissingKeyError(
            f"no API key for {vendor}: set {' or '.join(variables)} in the environment, or in {ENV_FILE} in the "
            "working directory"
        )
    return key


def read_env_file(path: str | Path) -> dict[str, str]:
    """``NAME=VALUE`` lines, with or without ``export`` and quotes; others and comments are passed over.

    Values are not expanded. Empty if there is no such file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    matches = (_LINE.match(line) for line in lines)
    return {match[1]: next(text for text in match.groups()[1:] if text is not None) for match in matches if match}
