"""Models in inference engines by name: ``engine:model``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.tokens import EngineAgent
from agentgym_prm.errors import UsageError

ENGINES: Final = ("vllm", "sglang")


def is_engine_name(name: str) -> bool:
    """Whether a name is ``engine:model``, of an engine known here."""
    engine, colon, model = name.partition(":")
    return bool(colon and model) and engine in ENGINES


def engine_agent(
    name: str, prompt: Prompt, *, base_url: str | None = None, server: Mapping[str, Any] | None = None, **options: Any
) -> EngineAgent:
    """The agent that ``vllm:MODEL`` or ``sglang:MODEL`` stands for.

    Args:
        name: MODEL is a folder or a name on the hub, from which the tokenizer is loaded here; a vLLM server is asked
            for the model of that name.
        prompt: What the model is shown.
        base_url: Address of a server; without one vLLM runs in this process.
        server: How it is asked, see ``JSONService``.
        **options: Of ``EngineAgent``.

    Raises:
        UsageError: The tokenizer cannot be loaded, or SGLang is to run in this process.
        MissingDependencyError: vLLM is to run here and is not installed.
    """
    from agentgym_prm.models import load_stop_ids, load_tokenizer

    engine, _, model = name.partition(":")
    if engine == "sglang" and base_url is None:
        raise UsageError("SGLang runs as a server: give its address with --base-url, e.g. http://localhost:30000")
    try:
        tokenizer = load_tokenizer(model)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"the tokenizer of {model!r} is needed here, and cannot be loaded: {reason}") from error
    options = {**options, "stop_ids": load_stop_ids(model, tokenizer), "name": f"{engine}-{_last(model)}"}
    if engine == "sglang":
        from agentgym_prm.agents.sglang import SGLangAgent

        return SGLangAgent(str(base_url), tokenizer, prompt, server=server, **options)
    from agentgym_prm.agents.vllm import VLLMAgent, VLLMServerAgent, load_llm

    if base_url is None:
        return VLLMAgent(load_llm(model), tokenizer, prompt, **options)
    return VLLMServerAgent(base_url, model, tokenizer, prompt, server=server, **options)


def _last(model: str) -> str:
    """The last part of a path that says something."""
    parts = [part for part in Path(model).parts if part not in ("/", "model")]
    return parts[-1] if parts else "model"
