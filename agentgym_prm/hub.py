"""Models to and from the Hugging Face hub: what it takes to load one, a model card, and nothing else.

What is sent is chosen by name: weights as safetensors, configuration, tokenizer and settings. So checkpoints, states of
optimizers, trajectories, ``.env`` files and keys are never among it, and a model from the hub brings no code. A
repository that holds files is not written to, and a folder that holds files neither.

Which hub: ``HF_ENDPOINT``; the token: ``HF_TOKEN``, or what ``hf auth login`` has stored.
"""

import fnmatch
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agentgym_prm.errors import AgentGymError, MissingKeyError, ServiceError, StoreError, UsageError, needs_extra

FILES: Final = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "prm.json",
    "progress.json",
    "step_labels.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE",
)
"""Patterns of the files that make a model, besides the card."""
CARD: Final = "README.md"
_WEIGHTS: Final = ("model*.safetensors", "adapter_model.safetensors")
_GIVEN: Final = frozenset({".gitattributes"})
"""What the hub itself puts into a new repository."""
_KINDS: Final = {
    "prm.json": ("process reward model", "rewards.prm", "ProcessRewardModel"),
    "progress.json": ("progress estimator", "rewards.progress", "ProgressEstimator"),
    "step_labels.json": ("step-label model", "rewards.token_labels", "TokenLabelScorer"),
}
_GAMES: Final = ("data", "difficulty", "train_split")
_TAGS: Final = {
    "process reward model": "process-reward-model",
    "progress estimator": "progress-estimator",
    "step-label model": "process-reward-model",
}


def push(folder: str | Path, repo: str, *, private: bool = False, message: str = "") -> str:
    """Put a model on the hub; returns its address.

    Args:
        folder: Of the model, or of the stage that trained it.
        repo: ``OWNER/NAME``; made if there is none.
        private: Whether only its owner sees it.
        message: Of the commit.

    Raises:
        UsageError: The folder holds no whole model, the repository holds files already, or it is public although
            ``private`` is asked for.
        MissingKeyError: There is no token, or the hub does not accept it.
        ServiceError: The hub cannot be reached, or refuses.
    """
    model = _model_in(Path(folder))
    contents = {path.name: _content(path) for path in model_files(model)}
    contents[CARD] = model_card(model, repo).encode()
    with needs_extra("train"):
        from huggingface_hub import CommitOperationAdd, HfApi
    with _hub_errors(repo):
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        info = api.model_info(repo)
        held = sorted({each.rfilename for each in info.siblings or ()} - _GIVEN)
        if held:
            raise UsageError(f"{repo} holds {', '.join(held[:3])}{' …' * (len(held) > 3)}: choose another name")
        if private and not info.private:
            raise UsageError(f"{repo} is there and public: make it private on the hub, or choose another name")
        operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
        api.create_commit(
            repo, operations, commit_message=message or f"Add {model_kind(model)}", parent_commit=info.sha
        )
        return f"{api.endpoint}/{repo}"


def pull(repo: str, folder: str | Path, *, revision: str | None = None) -> Path:
    """Fetch a model from the hub into a folder, whole or not at all.

    Args:
        repo: ``OWNER/NAME``.
        folder: Where to; it must not be there, or be empty.
        revision: Branch, tag or commit.

    Raises:
        UsageError: The folder holds something.
        ServiceError: There is no such repository, it holds no model, or the hub cannot be reached.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already: choose another folder")
    with needs_extra("train"):
        from huggingface_hub import snapshot_download
    partial = target.with_name(f"{target.name}.part")
    with _hub_errors(repo):
        snapshot_download(repo, revision=revision, local_dir=partial, allow_patterns=[*FILES, CARD])
    if not _is_model(partial):
        shutil.rmtree(partial, ignore_errors=True)
        raise ServiceError(f"{repo} holds no model in safetensors")
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    if target.exists():
        target.rmdir()
    os.replace(partial, target)
    return target


def model_files(folder: Path) -> list[Path]:
    """The files of a folder that make the model, by name; no others are sent."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and any(fnmatch.fnmatchcase(path.name, pattern) for pattern in FILES)
    )


def model_kind(folder: Path) -> str:
    """What a folder holds, in words."""
    kinds = [kind for file, (kind, _, _) in _KINDS.items() if (folder / file).is_file()]
    return kinds[0] if kinds else "policy"


def model_card(folder: Path, repo: str) -> str:
    """The card of a model: what it is, how it is loaded, and what its folder and that of its stage tell of it."""
    kind, stage = model_kind(folder), folder.parent
    done, made = _read(stage / "done.json"), _read(stage / "config.json")
    # A stage of a pipeline is told the environment by the run.
    settings = {**_settings(_read(stage.parent / "config.json")), **_settings(made)} if made else {}
    base = _base_model(folder, settings)
    lines = ["---", "library_name: transformers", "tags:", "- agentgym_prm", f"- {_TAGS.get(kind, 'text-agent')}"]
    lines += [f"base_model: {base}"] * bool(base) + ["---", "", *_body(folder, kind), ""]
    lines += ["## Loading", "", "```", f"agentgym-prm pull {repo} FOLDER", "```", "", _loading(kind), ""]
    facts = {
        "Base model": base or ("none: from scratch" if settings.get("model.model") == "tiny" else "not on the hub"),
        "Environment of the training data": settings.get("games.env"),
        "Its games": " ".join(filter(None, (str(settings.get(f"games.{name}") or "") for name in _GAMES))),
        "Made by the stage": done.get("stage"),
        "agentgym_prm": (made.get("versions") or {}).get("agentgym_prm"),
        "Commit": made.get("commit"),
    }
    lines += ["## Origin", "", *(f"- {name}: {value}" for name, value in facts.items() if value), ""]
    results = done.get("results")
    if isinstance(results, Mapping) and results:
        lines += ["## Results", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {_short(value)} |" for name, value in results.items() if _is_plain(value)] + [""]
    gate = _read(stage / "quality.json").get("gate")
    if isinstance(gate, Mapping) and gate:
        lines += ["## Gate", "", *(f"- {name}: {verdict}" for name, verdict in gate.items()), ""]
    return "\n".join(lines)


def _body(folder: Path, kind: str) -> list[str]:
    """The folder's own card, without a front matter."""
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    return text.strip().splitlines() or [f"# A {kind}"]


def _loading(kind: str) -> str:
    for name, module, class_name in _KINDS.values():
        if name == kind:
            return f"`agentgym_prm.{module}.{class_name}.load(folder)`, or its folder as `--scorer`."
    return "A folder for `--agent` and `--model`, and for `transformers`."


def _base_model(folder: Path, settings: Mapping[str, Any]) -> str:
    """The name on the hub of what the model was made from; empty if that is a folder, or not known."""
    adapter = _read(folder / "adapter_config.json").get("base_model_name_or_path")
    names = [adapter, settings.get("model.model"), _read(folder / "config.json").get("_name_or_path")]
    return next((str(name) for name in names if name and not _is_local(str(name)) and "/" in str(name)), "")


def _model_in(folder: Path) -> Path:
    for place in (folder, folder / "model"):
        if _is_model(place):
            base = _read(place / "adapter_config.json").get("base_model_name_or_path")
            if base and _is_local(str(base)):
                raise UsageError(f"{place} holds an adapter for a model that is on this machine only: merge it first")
            return place
    raise UsageError(f"{folder} holds no model: no weights in safetensors beside a config.json")


def _is_model(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    has_config = any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
    return has_config and any(any(folder.glob(pattern)) for pattern in _WEIGHTS)


def _content(path: Path) -> str | bytes:
    """What is sent of a file: its path, or its text without paths of this machine."""
    if path.suffix != ".json":
        return str(path)
    record = _read(path)
    private = [name for name in ("_name_or_path", "name_or_path") if _is_local(str(record.get(name) or ""))]
    if not private:
        return str(path)
    return json.dumps({name: value for name, value in record.items() if name not in private}, indent=2).encode()


def _is_local(name: str) -> bool:
    return bool(name) and (name.startswith((".", "/", "~")) or "\\" in name or Path(name).is_dir())


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    settings = record.get("settings")
    return dict(settings) if isinstance(settings, Mapping) else {}


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none.

    Raises:
        StoreError: The file is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    return record if isinstance(record, dict) else {}


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and not _is_local(value))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """What goes wrong with the hub, in our words."""
    import httpx2
    from huggingface_hub import constants, errors

    try:
        yield
    except AgentGymError:
        raise
    except errors.HFValidationError as error:
        raise UsageError(f"{repo!r} is no name of a repository, OWNER/NAME: {error}") from None
    except errors.LocalTokenNotFoundError:
        raise _no_token() from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise _no_token() from None
        if status == 403:
            raise ServiceError(f"the token may not do this with {repo} (status 403): does it allow writing?") from None
        if status == 404:
            raise ServiceError(f"there is no {repo} on the hub, or the token may not see it") from None
        said = error.server_message or str(error).partition("\n")[0]
        raise ServiceError(f"the hub at {constants.ENDPOINT} refused (status {status}): {said}") from None
    except (
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        httpx2.TransportError,
        ConnectionError,
    ) as error:
        raise ServiceError(f"the hub at {constants.ENDPOINT} cannot be reached: {_reason(error)}") from None
    except (RuntimeError, ValueError) as error:  # of the upload of large files
        raise ServiceError(f"the transfer of {repo} broke off: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _no_token() -> MissingKeyError:
    return MissingKeyError("the hub asks for a token that it knows: run `hf auth login`, or set HF_TOKEN")
