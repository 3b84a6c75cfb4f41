"""OpenAI's chat completions, and every server that speaks them (vLLM, SGLang, llama.cpp, Ollama, proxies).

What a model takes, by its name (SDK 3.54's signatures and docstrings, developers.openai.com/api/docs, 2026-11-21):

================================  ===========  ====  ====  ============  =====================
model                             temperature  stop  seed  n             length
================================  ===========  ====  ====  ============  =====================
o1, o3, o4, gpt-5 and later,      no           no    no    one request   max_completion_tokens
codex: they reason                                         for each
others, and other servers'        yes          yes   yes   in a request  max_tokens
================================  ===========  ====  ====  ============  =====================

``gpt-5-chat-latest`` does not reason and is among the others; later ``-chat`` models do. Some reasoning models take a
temperature at reasoning effort "none", which is not asked for here. Stop texts that a model does not take are looked
for in its reply.
"""

import re
from typing import Any, Final

from agentgym_prm.errors import needs_extra
from agentgym_prm.inference.core import ChatRequest, Usage
from agentgym_prm.inference.retry import status_failure
from agentgym_prm.inference.vendor import Answer, Vendor, named, sdk_failure

_REASONS: Final = re.compile(r"^(o[1-9]|codex|gpt-([5-9]|\d\d)(?!-chat))")
_STOP_REASONS: Final = {"stop": "end", "length": "length", "content_filter": "refusal"}
_EXHAUSTED: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation", "invalid_prompt"})
"""Codes of a prompt that a filter refused, of OpenAI's and of Azure's."""
_MOST_SAMPLES: Final = 128


class OpenAIVendor(Vendor):
    """See the module and ``Vendor``."""

    name = "openai"
    key_variables = ("OPENAI_API_KEY",)
    url_variable = "OPENAI_BASE_URL"
    default_url = "https://api.openai.com/v1"

    @property
    def reasons(self) -> bool:
        """Whether this is a reasoning model of OpenAI's."""
        return bool(_REASONS.match(self.model))

    @property
    def samples(self) -> int:
        return 1 if self.reasons else _MOST_SAMPLES

    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "max_completion_tokens" if self.reasons else "max_tokens": request.max_tokens,
        }
        if not self.reasons:
            if request.temperature is not None:
                parameters["temperature"] = request.temperature
            if request.stop:
                parameters["stop"] = list(request.stop)
        return parameters

    def left_out(self, request: ChatRequest) -> list[str]:
        return ["temperature"] if self.reasons and request.temperature not in (None, 1.0) else []

    def _connect(self, http: Any) -> Any:
        with needs_extra("api"):
            from openai import OpenAI
        return OpenAI(api_key=self._key.value, base_url=self.base_url, max_retries=0, http_client=http)

    def _ask(self, client: Any, request: ChatRequest, first: int, count: int) -> Any:
        parameters = self.parameters(request)
        if count > 1:
            parameters["n"] = count
        if not self.reasons and (seed := request.seed(first)) is not None:
            parameters["seed"] = seed
        return client.chat.completions.create(**parameters)

    def _read(self, reply: Any) -> Answer:
        texts = []
        for choice in reply.choices:
            refusal = getattr(choice.message, "refusal", None)
            reason = "refusal" if refusal else named(choice.finish_reason, _STOP_REASONS)
            texts.append((str(choice.message.content or refusal or ""), reason))
        if not texts:
            raise ValueError("no choices")
        return Answer(tuple(texts), _usage(reply.usage))

    def _failure(self, error: Exception) -> Exception | Answer | None:
        import openai

        if isinstance(error, openai.BadRequestError) and error.code in _FILTERED:
            return Answer((("", "refusal"),), Usage())
        return sdk_failure(openai, error, _is_exhausted, status_failure)


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        prompt_tokens=int(usage.prompt_tokens),
        completion_tokens=int(usage.completion_tokens or 0),
        cached_tokens=int(getattr(details, "cached_tokens", None) or 0),
    )


def _is_exhausted(said: Any) -> bool:
    return said.get("code") in _EXHAUSTED or said.get("type") in _EXHAUSTED
