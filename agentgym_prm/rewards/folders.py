"""A model that judges, on disk: a Hugging Face folder with a model card and a file of settings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym_prm.errors import StoreError


def write_model_folder(
    folder: str | Path, model: Any, tokenizer: Any, card: str, file: str, settings: Mapping[str, Any]
) -> None:
    """Write a Hugging Face directory, with ``card`` as its README and the settings in ``file``."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(path)
    model.save_pretrained(path)
    (path / "README.md").write_text(card, encoding="utf-8")
    text = json.dumps(dict(settings), indent=2) + "\n"
    (path / file).write_text(text, encoding="utf-8")  # last, so that a folder with it is complete


def read_settings(folder: str | Path, file: str, version: int, kind: str) -> dict[str, Any]:
    """The settings that ``write_model_folder`` wrote; ``kind`` is what the folder should hold, in words.

    Raises:
        StoreError: There are none, they are damaged, or their ``settings_version`` is another.
    """
    path = Path(folder) / file
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{folder} holds no {kind}: there is no {path}") from error
    except json.JSONDecodeError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if not isinstance(record, dict):
        raise StoreError(f"{path} is damaged: it holds no settings")
    if record.get("settings_version") != version:
        raise StoreError(f"{path} has settings_version {record.get('settings_version')}, not {version}")
    return record
