"""Completions on disk: what was asked once is not asked, or paid for, again.

One small file for each completion, written beside its place and moved there, so that threads, processes and a kill
leave whole files only, on network drives too. The key is a digest of everything that decides a completion: vendor,
model, address, what is sent, the request's ``draw`` and the sample's number. So n samples are n entries, two rollouts
of one task are different draws, and the same run again finds all its completions. No key of an API is part of it.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agentgym_prm.inference.core import Completion, Usage

_FORM: Final = 1
"""Part of every key: entries of another form are not found."""


class CompletionCache:
    """A folder of completions.

    Args:
        folder: Made when the first completion is stored.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @staticmethod
    def key(identity: Mapping[str, Any]) -> str:
        """The digest of JSON values, whatever the order of their names."""
        canonical = json.dumps({"form": _FORM, **identity}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def get(self, key: str) -> Completion | None:
        """The completion stored under ``key``; a file that cannot be read counts as none."""
        try:
            record = json.loads(self._path(key).read_bytes())
            return Completion(
                text=record["text"],
                stop_reason=record["stop_reason"],
                usage=Usage.from_json(record["usage"]),
                from_cache=True,
                token_ids=tuple(record["token_ids"]),
                logprobs=tuple(record["logprobs"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None  # a disk that was full, or a power cut: it is asked for and written again

    def put(self, key: str, completion: Completion) -> None:
        """Store a completion; of two under one key the later one stays."""
        record = {
            "text": completion.text,
            "stop_reason": completion.stop_reason,
            "usage": completion.usage.to_json(),
            "token_ids": completion.token_ids,
            "logprobs": completion.logprobs,
        }
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{key}.{os.getpid()}.{threading.get_ident()}.tmp")
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(path)

    def _path(self, key: str) -> Path:
        # Folders of a few hundred files stay fast to list.
        return self.folder / key[:2] / f"{key}.json"
