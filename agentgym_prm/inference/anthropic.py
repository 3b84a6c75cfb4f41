"""Anthropic's messages.

API version 2026-10-21, which SDK 2 speaks, takes of our parameters the length (``max_tokens``, required; thoughts
count) and stop texts, and refuses ``temperature``, ``top_p`` and ``top_k`` for every model: its signature has none of
them. There is no seed and no n: each sample is a request of its own, and samples differ by the model's own temperature.
"""

from typing import Any, Final

from agentgym_prm.errors import needs_extra
from agentgym_prm.inference.core import ChatRequest, Usage
from agentgym_prm.inference.retry import status_failure
from agentgym_prm.inference.vendor import Answer, Vendor, instruction, named, sdk_failure, spoken

_STOP_REASONS: Final = {
    "end_turn": "end",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicVendor(Vendor):
    """See the module and ``Vendor``."""

    name = "anthropic"
    key_variables = ("ANTHROPIC_API_KEY",)
    url_variable = "ANTHROPIC_BASE_URL"
    default_url = "https://api.anthropic.com"

    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in spoken(request.messages)],
            "max_tokens": request.max_tokens,
        }
        if system := instruction(request.messages):
            parameters["system"] = system
        # A stop text of white space alone is refused; it is looked for in the reply.
        if stop := [text for text in request.stop if text.strip()]:
            parameters["stop_sequences"] = stop
        return parameters

    def left_out(self, request: ChatRequest) -> list[str]:
        return [] if request.temperature in (None, 1.0) else ["temperature"]

    def _connect(self, http: Any) -> Any:
        with needs_extra("api"):
            from anthropic import Anthropic
        return Anthropic(
            api_key=self._key.value, base_url=self.base_url, max_retries=0, timeout=self._timeout, http_client=http
        )

    def _ask(self, client: Any, request: ChatRequest, first: int, count: int) -> Any:
        return client.messages.create(**self.parameters(request))

    def _read(self, reply: Any) -> Answer:
        text = "".join(block.text for block in reply.content if block.type == "text")
        usage = reply.usage
        cached = int(usage.cache_read_input_tokens or 0)
        # What is read from the prompt cache or written to it is not in input_tokens.
        prompt = int(usage.input_tokens) + cached + int(usage.cache_creation_input_tokens or 0)
        spent = Usage(prompt_tokens=prompt, completion_tokens=int(usage.output_tokens), cached_tokens=cached)
        return Answer(((text, named(reply.stop_reason, _STOP_REASONS)),), spent)

    def _failure(self, error: Exception) -> Exception | None:
        import anthropic

        return sdk_failure(anthropic, error, lambda said: said.get("type") == "billing_error", status_failure)
