"""Google's Gemini, through the SDK ``google-genai``.

All models take temperature, ``stop_sequences`` (five at most; the others are looked for in the reply), ``seed`` and
``max_output_tokens`` (thoughts count). ``candidate_count`` above 1 is refused by many of them, so each sample is a
request of its own (GenerateContentConfig of SDK 3.4, ai.google.dev/api/generate-content, 2026-11-21). The SDK's retries
are off unless asked for; time-outs and dropped connections leave it as errors of the HTTP library.
"""

from typing import Any, Final

from agentgym_prm.errors import needs_extra
from agentgym_prm.inference.core import ChatRequest, Usage
from agentgym_prm.inference.http import tls
from agentgym_prm.inference.retry import status_failure
from agentgym_prm.inference.vendor import Answer, Vendor, dropped_connection, instruction, named, spoken

_ROLES: Final = {"assistant": "model"}
_MOST_STOPS: Final = 5
_STOP_REASONS: Final = {
    "STOP": "end",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"), "refusal"
    ),
}


class GeminiVendor(Vendor):
    """See the module and ``Vendor``."""

    name = "gemini"
    key_variables = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    url_variable = "GOOGLE_GEMINI_BASE_URL"
    default_url = "https://generativelanguage.googleapis.com"

    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        config: dict[str, Any] = {"max_output_tokens": request.max_tokens}
        if request.temperature is not None:
            config["temperature"] = request.temperature
        if request.stop:
            config["stop_sequences"] = list(request.stop[:_MOST_STOPS])
        if system := instruction(request.messages):
            config["system_instruction"] = system
        contents = [
            {"role": _ROLES.get(role, role), "parts": [{"text": content}]} for role, content in spoken(request.messages)
        ]
        return {"model": self.model, "contents": contents, "config": config}

    def left_out(self, request: ChatRequest) -> list[str]:
        return []

    def _connect(self, http: Any) -> Any:
        with needs_extra("api"):
            from google.genai import Client
            from google.genai.types import HttpOptions
            from httpx2 import AsyncClient
        options = HttpOptions(
            base_url=self.base_url,
            timeout=max(1, round(1000 * self._timeout)),
            httpx_client=http,
            # Nothing is sent through it; without it the SDK makes one, and reads all certificates twice.
            httpx_async_client=AsyncClient(verify=tls()),
        )
        # Told, or else the environment decides whether this is the other service, Vertex AI.
        return Client(vertexai=False, api_key=self._key.value, http_options=options)

    def _ask(self, client: Any, request: ChatRequest, first: int, count: int) -> Any:
        parameters = self.parameters(request)
        if (seed := request.seed(first)) is not None:
            parameters["config"]["seed"] = seed
        return client.models.generate_content(**parameters)

    def _read(self, reply: Any) -> Answer:
        usage = _usage(reply.usage_metadata)
        if not reply.candidates:
            if reply.prompt_feedback is None or reply.prompt_feedback.block_reason is None:
                raise ValueError("neither candidates nor a reason why there are none")
            return Answer((("", "refusal"),), usage)
        candidate = reply.candidates[0]
        parts = (candidate.content.parts if candidate.content else None) or []
        text = "".join(part.text for part in parts if part.text and not part.thought)
        reason = candidate.finish_reason.name if candidate.finish_reason else None
        return Answer(((text, named(reason, _STOP_REASONS)),), usage)

    def _failure(self, error: Exception) -> Exception | None:
        from google.genai.errors import APIError

        if isinstance(error, APIError):
            headers = getattr(error.response, "headers", None) or {}
            details = _details(error.details)
            return status_failure(
                int(error.code or 0),
                headers,
                str(error.message or error.status or "no reason given"),
                exhausted=any("PerDay" in str(detail) for detail in details),
                retry_after=_retry_delay(details),
            )
        return dropped_connection(error)


def _usage(usage: Any) -> Usage | None:
    if usage is None or usage.prompt_token_count is None:
        return None
    return Usage(
        prompt_tokens=usage.prompt_token_count,
        completion_tokens=(usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
        cached_tokens=usage.cached_content_token_count or 0,
    )


def _details(body: Any) -> list[dict[str, Any]]:
    """What an error's body lists beside its message: which quota, and how long to wait."""
    said = body.get("error", {}) if isinstance(body, dict) else {}
    details = said.get("details", []) if isinstance(said, dict) else []
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    """Seconds of ``{"retryDelay": "17s"}``."""
    for detail in details:
        text = str(detail.get("retryDelay", ""))
        try:
            return max(0.0, float(text.removesuffix("s")))
        except ValueError:
            continue
    return None
