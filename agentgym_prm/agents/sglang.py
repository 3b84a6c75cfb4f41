"""SGLang as the sampler: its native ``/generate``, token ids in, token ids out.

What is drawn from is the softmax of the logits divided by the temperature, nothing cut off. Log-probabilities are those
of that distribution as long as the server's environment leaves ``SGLANG_RETURN_ORIGINAL_LOGPROB`` unset. Seeds are
heeded by a server that was started with ``--enable-deterministic-inference``; else a rerun draws others.

Weights are reloaded in place, from a folder that the server sees under the same path: a whole model of the same shape,
or a LoRA adapter if it was started with ``--enable-lora``, ``--max-lora-rank`` and ``--lora-target-modules``.

Source: SGLang (``srt/managers/io_struct.py``: ``GenerateReqInput``, ``UpdateWeightFromDiskReqInput``,
``LoadLoRAAdapterReqInput``; ``srt/sampling/sampling_params.py``). Tested against a stub that answers in these shapes,
not against a server.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.tokens import ENGINE_SERVER, EngineAgent, Sampled, Wanted, is_adapter
from agentgym_prm.errors import ServiceError
from agentgym_prm.inference.service import JSONService

KEY_VARIABLES: Final = ("SGLANG_API_KEY",)
_UNCUT: Final = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


class SGLangAgent(EngineAgent):
    """Plays with a model behind an SGLang server.

    Args:
        base_url: E.g. ``http://localhost:30000``. ``SGLANG_API_KEY`` is sent if it is set.
        tokenizer: The model's, with a chat template.
        prompt: What the model is shown.
        server: How the server is asked; by default with 64 requests at a time. See ``JSONService``.
        name: How it is called in reports.
        **options: Of ``EngineAgent``.
    """

    waits = True

    def __init__(
        self,
        base_url: str,
        tokenizer: Any,
        prompt: Prompt | str = "reason_action",
        *,
        server: Mapping[str, Any] | None = None,
        name: str = "sglang",
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, prompt, name=name, **options)
        root = base_url.rstrip("/").removesuffix("/v1")
        self._service = JSONService(root, key_variables=KEY_VARIABLES, **{**ENGINE_SERVER, **(server or {})})
        self._adapter: str | None = None

    def sampled(self, wanted: Sequence[Wanted]) -> list[Sampled]:
        return self._service.post(
            "/generate", [self._body(each) for each in wanted], lambda _, reply: self._read(reply)
        )

    def _body(self, wanted: Wanted) -> dict[str, Any]:
        parameters = {
            **_UNCUT,
            "temperature": self.temperature,
            "max_new_tokens": self._max_new_tokens,
            "sampling_seed": wanted.seed,
            "stop_token_ids": list(self.encoder.chat.stop_ids),
            "stop": list(wanted.stop),
            "skip_special_tokens": False,
        }
        body = {"input_ids": list(wanted.token_ids), "sampling_params": parameters, "return_logprob": True}
        return body if self._adapter is None else {**body, "lora_path": self._adapter}

    def _read(self, reply: Any) -> Sampled:
        about = reply["meta_info"]
        # Triples of log-probability, token id and text, the token that ended the reply included.
        tokens = about["output_token_logprobs"]
        reason = about["finish_reason"]
        return self._reply(
            [token for _, token, *_ in tokens],
            [logprob for logprob, *_ in tokens],
            reason["type"],
            reason.get("matched"),
        )

    def reload(self, folder: str | Path) -> None:
        """As ``EngineAgent.reload``; the server reads the folder, so it must have it under the same path.

        Raises:
            ServiceError: The server refuses.
        """
        earlier = self._adapter
        if is_adapter(folder):
            # A new name each time, also for another client: under the same one the server keeps what it has computed.
            name = f"{Path(folder).name}-{token_hex(4)}"
            self._told("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
            self._adapter = name
        else:
            self._told("/update_weights_from_disk", {"model_path": str(folder)})
            self._adapter = None
        if earlier is not None:
            self._told("/unload_lora_adapter", {"lora_name": earlier})

    def _told(self, path: str, body: Mapping[str, Any]) -> None:
        reply = self._service.tell(path, body)
        if not reply["success"]:
            raise ServiceError(f"SGLang did not do {path}: {reply.get('message') or reply.get('error_message')}")

    def give_up(self) -> None:
        self._service.give_up()
