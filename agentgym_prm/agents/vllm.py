"""vLLM as the sampler, in this process or as a server: token ids in, token ids out.

``VLLMAgent`` holds a ``vllm.LLM``; ``VLLMServerAgent`` asks ``/v1/completions``. (A chat model behind a vLLM server is
also ``openai:MODEL`` with a base URL, see ``chat_api``: text in, text out, nothing to train on.)

What is drawn from is the softmax of the logits divided by the temperature, nothing cut off: top-p and its like are sent
explicitly, because engines take them from a model's ``generation_config.json`` otherwise. Log-probabilities are those
of that distribution only if the engine runs with ``logprobs_mode="processed_logprobs"``; by default it gives those at
temperature 1. ``load_llm`` sets it; a server's mode is found out with two requests, and the other one is refused.

Weights are reloaded in place, from a folder: a whole model of the same shape, or a LoRA adapter if the engine was made
for them (``enable_lora=True``). A server has to be started for that, with ``VLLM_SERVER_DEV_MODE=1`` for whole models
and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`` for adapters, and must see the same folder. On a CPU vLLM 0.32 packs an
output layer that is tied to the embeddings once and keeps it: ``VLLMAgent`` refuses to reload such a model; a server
does not tell what it runs on.

Source: vLLM 0.32 (``SamplingParams``, ``LLM.generate``, ``collective_rpc("reload_weights")``, ``LoRARequest``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.tokens import ENGINE_SERVER, EngineAgent, Sampled, Wanted, is_adapter
from agentgym_prm.errors import ServiceError, UsageError, needs_extra
from agentgym_prm.inference.service import JSONService

KEY_VARIABLES: Final = ("VLLM_API_KEY",)
_PROCESSED: Final = "processed_logprobs"
_UNCUT: Final = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_TIED: Final = (
    "on a CPU vLLM goes on with the old output layer if it is tied to the embeddings: save the model with "
    "tie_word_embeddings=False and a layer of its own"
)
_STALE: Final = "vLLM kept what it had computed with the old weights: it is still sampling"
_TELLING: Final = 0.05
"""Smallest difference of two log-probabilities that tells whether they were divided by the temperature."""


def load_llm(model: str, **options: Any) -> Any:
    """A ``vllm.LLM`` whose log-probabilities are those of the distribution that is drawn from.

    Args:
        model: Folder or name on the hub.
        **options: Of ``vllm.LLM``, e.g. ``enable_lora=True``, ``gpu_memory_utilization=0.5``, ``enforce_eager=True``.

    Raises:
        MissingDependencyError: vLLM is not installed.
    """
    with needs_extra("vllm"):
        from vllm import LLM
    return LLM(model=model, **{"logprobs_mode": _PROCESSED, **options})


class VLLMAgent(EngineAgent):
    """Plays with a ``vllm.LLM`` in this process.

    Args:
        llm: As ``load_llm`` gives it.
        tokenizer: Its tokenizer, with a chat template.
        prompt: What the model is shown.
        adapter: Folder of a LoRA adapter to begin with.
        name: How it is called in reports.
        **options: Of ``EngineAgent``.

    Raises:
        ValueError: At this temperature the engine gives log-probabilities of another distribution.
    """

    def __init__(
        self,
        llm: Any,
        tokenizer: Any,
        prompt: Prompt | str = "reason_action",
        *,
        adapter: str | Path | None = None,
        name: str = "vllm",
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, prompt, name=name, **options)
        self._config = llm.llm_engine.vllm_config.model_config
        mode = self._config.logprobs_mode
        if mode != _PROCESSED and (mode != "raw_logprobs" or self.temperature not in (0, 1)):
            raise ValueError(
                f"the engine's logprobs_mode is {mode!r}, which is not what is drawn from at temperature "
                f"{self.temperature}: make it with load_llm, or with logprobs_mode={_PROCESSED!r}"
            )
        self.llm = llm
        self._adapter: Any = None
        self._adapters = 0
        if adapter is not None:
            self._load_adapter(adapter)

    def sampled(self, wanted: Sequence[Wanted]) -> list[Sampled]:
        from vllm import SamplingParams

        common = {
            **_UNCUT,
            "temperature": self.temperature,
            "max_tokens": self._max_new_tokens,
            "logprobs": 0,
            "stop_token_ids": list(self.encoder.chat.stop_ids),
            "skip_special_tokens": False,
        }
        outputs = self.llm.generate(
            [{"prompt_token_ids": list(each.token_ids)} for each in wanted],
            [SamplingParams(**common, seed=each.seed, stop=list(each.stop)) for each in wanted],
            use_tqdm=False,
            lora_request=self._adapter,
        )
        return [self._read(output.outputs[0]) for output in outputs]

    def _read(self, reply: Any) -> Sampled:
        logprobs = [each[token].logprob for token, each in zip(reply.token_ids, reply.logprobs or (), strict=True)]
        try:
            return self._reply(reply.token_ids, logprobs, reply.finish_reason, reply.stop_reason)
        except ValueError as error:
            raise ServiceError(f"vLLM gave {error}") from error

    def reload(self, folder: str | Path) -> None:
        """As ``EngineAgent.reload``; keys and values of the old weights are forgotten.

        Raises:
            ServiceError: The engine is still sampling, or would go on with a part of the old weights.
        """
        if is_adapter(folder):
            self._load_adapter(folder)
            return
        from vllm.platforms import current_platform

        if current_platform.is_cpu() and self._config.hf_config.tie_word_embeddings:
            raise ServiceError(_TIED)
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
        self._adapter = None
        if not self.llm.reset_prefix_cache():
            raise ServiceError(_STALE)

    def _load_adapter(self, folder: str | Path) -> None:
        with needs_extra("vllm"):
            from vllm.lora.request import LoRARequest
        # A new number each time: under the same one the engine takes what it has for the same adapter.
        self._adapters += 1
        self._adapter = LoRARequest(f"adapter-{self._adapters}", self._adapters, str(folder))
        # Now, not with the first request: the folder may be gone by then.
        self.llm.llm_engine.add_lora(self._adapter)


class VLLMServerAgent(EngineAgent):
    """Plays with a model behind a vLLM server.

    Args:
        base_url: As for OpenAI's SDK, e.g. ``http://localhost:8000/v1``. ``VLLM_API_KEY`` is sent if it is set.
        model: As the server calls it.
        tokenizer: Its tokenizer, with a chat template.
        prompt: What the model is shown.
        server: How the server is asked; by default with 64 requests at a time.
        name: How it is called in reports.
        **options: Of ``EngineAgent``.

    Raises:
        UsageError: When acting: at this temperature the server gives log-probabilities of another distribution.
    """

    waits = True

    def __init__(
        self,
        base_url: str,
        model: str,
        tokenizer: Any,
        prompt: Prompt | str = "reason_action",
        *,
        server: Mapping[str, Any] | None = None,
        name: str = "vllm",
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, prompt, name=name, **options)
        # The engine's own paths are beside /v1.
        root = base_url.rstrip("/").removesuffix("/v1")
        self._service = JSONService(root, key_variables=KEY_VARIABLES, **{**ENGINE_SERVER, **(server or {})})
        self._base = self._model = model
        self._is_checked = self.temperature in (0, 1)

    def sampled(self, wanted: Sequence[Wanted]) -> list[Sampled]:
        if not self._is_checked:
            self._check_logprobs(wanted[0])
        return self._service.post(
            "/v1/completions", [self._body(each) for each in wanted], lambda _, reply: self._read(reply)
        )

    def _body(self, wanted: Wanted) -> dict[str, Any]:
        return {
            **_UNCUT,
            "model": self._model,
            "prompt": list(wanted.token_ids),
            "seed": wanted.seed,
            "temperature": self.temperature,
            "max_tokens": self._max_new_tokens,
            "logprobs": 0,
            "return_token_ids": True,
            "stop_token_ids": list(self.encoder.chat.stop_ids),
            "stop": list(wanted.stop),
            "skip_special_tokens": False,
        }

    def _read(self, reply: Any) -> Sampled:
        (choice,) = reply["choices"]
        logprobs = choice["logprobs"]["token_logprobs"]
        return self._reply(choice["token_ids"], logprobs, choice["finish_reason"], choice["stop_reason"])

    def _check_logprobs(self, wanted: Wanted) -> None:
        """Refuse a server whose log-probabilities are those at temperature 1, as they are by default.

        By the distance of the two likeliest tokens, which the temperature divides. If they are equally likely it does
        not tell, and the next call looks again.
        """
        body = {**self._body(wanted), "max_tokens": 1, "logprobs": 2}
        bodies = [{**body, "temperature": temperature} for temperature in (1.0, self.temperature)]
        at_one, here = self._service.post("/v1/completions", bodies, lambda _, reply: _distance(reply))
        if at_one < _TELLING:
            return
        if abs(here - at_one) < abs(here - at_one / self.temperature):
            raise UsageError(
                f"the server gives log-probabilities at temperature 1, not at {self.temperature}: start it with "
                f"--logprobs-mode {_PROCESSED}"
            )
        self._is_checked = True

    def reload(self, folder: str | Path) -> None:
        """As ``EngineAgent.reload``; the server reads the folder, so it must have it under the same path.

        Raises:
            ServiceError: The server refuses, e.g. because it was not started for this (see the module).
        """
        earlier = self._model
        if is_adapter(folder):
            # A new name each time, also for another client: under the same one the server keeps what it has computed.
            name = f"{Path(folder).name}-{token_hex(4)}"
            self._service.tell("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
            self._model = name
        else:
            self._service.tell("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
            if not self._service.tell("/reset_prefix_cache")["success"]:
                raise ServiceError(_STALE)
            self._model = self._base
        if earlier != self._base:
            self._service.tell("/v1/unload_lora_adapter", {"lora_name": earlier})

    def give_up(self) -> None:
        self._service.give_up()


def _distance(reply: Any) -> float:
    """How much likelier, as a logarithm, the likeliest token is than the second."""
    first, second, *_ = sorted(reply["choices"][0]["logprobs"]["top_logprobs"][0].values(), reverse=True)
    return float(first - second)
