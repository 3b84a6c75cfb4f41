"""Stand-ins for vLLM and SGLang that sample with a small model here and answer in the engines' shapes.

The replies' fields are those that vLLM 0.32's server gave (``tests/live/test_vllm_server.py`` asks a real one) and that
SGLang's source states.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from transformers import LlamaForCausalLM

from tests.chat_models import chat_model, chat_tokenizer


class Engine:
    """Samples from ``model``, one token after the other without a cache.

    ``processed`` says whether log-probabilities are at the temperature of the request or at 1. ``log`` keeps what was
    asked for. What is reloaded is one of ``folders``, or a saved model.
    """

    def __init__(self, *, processed=True, folders=None):
        self.model, self.processed, self.folders = chat_model(), processed, folders or {}
        self.tokenizer = chat_tokenizer()
        self.log = []
        self.loaded = []
        self.lock = threading.Lock()

    def write(self, prompt, *, temperature, seed, most, stop_ids, stop):
        """Ids, log-probabilities, why it ended, what it stopped at, and the first place's two likeliest."""
        generator = torch.Generator().manual_seed(seed)
        ids, logprobs, top = [], [], []
        while True:
            with torch.no_grad():
                logits = self.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, -1].double()
            drawn_from = torch.log_softmax(logits / (temperature or 1.0), -1)
            told = drawn_from if self.processed else torch.log_softmax(logits, -1)
            greedy = int(drawn_from.argmax())
            token = greedy if temperature == 0 else int(torch.multinomial(drawn_from.exp(), 1, generator=generator))
            ids.append(token)
            logprobs.append(float(told[token]))
            top = top or told.topk(2).values.tolist()
            text = self.tokenizer.decode(ids, skip_special_tokens=False)
            matched = next((each for each in stop if each in text), None)
            if token in stop_ids:
                return ids, logprobs, "stop", token, top
            if matched is not None:
                return ids, logprobs, "stop", matched, top
            if len(ids) >= most:
                return ids, logprobs, "length", None, top

    def reload(self, folder):
        with self.lock:
            self.loaded.append(folder)
            found = self.folders.get(folder)
            self.model = LlamaForCausalLM.from_pretrained(folder).eval() if found is None else found


def vllm_completions(engine, body):
    ids, logprobs, reason, matched, top = engine.write(
        body["prompt"],
        temperature=body["temperature"],
        seed=body["seed"],
        most=body["max_tokens"],
        stop_ids=body["stop_token_ids"],
        stop=body["stop"],
    )
    end = engine.tokenizer.eos_token_id
    choice = {
        "index": 0,
        "text": "not what is read",
        "finish_reason": reason,
        # The end token is no stop token to vLLM, whose stop_reason is null then.
        "stop_reason": None if matched == end else matched,
        "token_ids": ids,
        "logprobs": {
            "token_logprobs": logprobs,
            "top_logprobs": [{f"token {rank}": logprob for rank, logprob in enumerate(top)}] * len(ids),
        },
    }
    return 200, {"object": "text_completion", "choices": [choice]}


def sglang_generate(engine, body):
    parameters = body["sampling_params"]
    ids, logprobs, reason, matched, _ = engine.write(
        body["input_ids"],
        temperature=parameters["temperature"],
        seed=parameters["sampling_seed"],
        most=parameters["max_new_tokens"],
        stop_ids=parameters["stop_token_ids"],
        stop=parameters["stop"],
    )
    ended = {"type": "length", "length": len(ids)} if reason == "length" else {"type": "stop", "matched": matched}
    about = {
        "finish_reason": ended,
        "output_token_logprobs": [[logprob, token, None] for token, logprob in zip(ids, logprobs, strict=True)],
    }
    return 200, {"text": "not what is read", "output_ids": ids, "meta_info": about}


def _reloaded(engine, folder, reply):
    if folder not in engine.folders and not (Path(folder) / "config.json").is_file():
        return 400, {"success": False, "message": f"no folder {folder}"}
    engine.reload(folder)
    return 200, reply


PATHS = {
    "/v1/completions": vllm_completions,
    "/collective_rpc": lambda engine, body: _reloaded(engine, body["kwargs"]["weights_path"], {"results": [None]}),
    "/reset_prefix_cache": lambda engine, body: (200, {"success": True}),
    # vLLM answers these in words.
    "/v1/load_lora_adapter": lambda engine, body: (200, "Success: LoRA adapter added successfully."),
    "/v1/unload_lora_adapter": lambda engine, body: (200, "Success: LoRA adapter removed successfully."),
    "/generate": sglang_generate,
    "/update_weights_from_disk": lambda engine, body: _reloaded(
        engine, body["model_path"], {"success": True, "message": "Succeeded to update model weights."}
    ),
    "/load_lora_adapter": lambda engine, body: (200, {"success": True, "loaded_adapters": {}}),
    "/unload_lora_adapter": lambda engine, body: (200, {"success": True, "loaded_adapters": {}}),
}


class EngineServer:
    """An engine behind HTTP; a context manager. ``faults`` are statuses that the next requests get instead."""

    def __init__(self, engine):
        self.engine, self.faults, self.keys = engine, [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                """Nothing."""

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with engine.lock:
                    engine.log.append((self.path, body))
                    outer.keys.append(self.headers.get("authorization"))
                    fault = outer.faults.pop(0) if outer.faults else None
                status, reply = (fault, {"error": "as told"}) if fault else PATHS[self.path](engine, body)
                is_text = isinstance(reply, str)
                whole = reply.encode() if is_text else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-type", "text/plain" if is_text else "application/json")
                self.send_header("content-length", str(len(whole)))
                self.end_headers()
                self.wfile.write(whole)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class FakeLLM:
    """What ``VLLMAgent`` uses of ``vllm.LLM``."""

    def __init__(self, engine, mode="processed_logprobs", *, tied=True):
        self.engine, self.adapters, self.is_reset = engine, [], True
        config = SimpleNamespace(logprobs_mode=mode, hf_config=SimpleNamespace(tie_word_embeddings=tied))
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(model_config=config),
            add_lora=lambda request: engine.loaded.append(request[2]),
        )

    def generate(self, prompts, parameters, *, use_tqdm, lora_request):
        self.adapters.append(lora_request)
        assert not use_tqdm
        outputs = []
        for prompt, each in zip(prompts, parameters, strict=True):
            fields = vars(each)
            self.engine.log.append(("generate", fields))
            ids, logprobs, reason, matched, _ = self.engine.write(
                prompt["prompt_token_ids"],
                temperature=fields["temperature"],
                seed=fields["seed"],
                most=fields["max_tokens"],
                stop_ids=fields["stop_token_ids"],
                stop=fields["stop"],
            )
            told = [{token: SimpleNamespace(logprob=value)} for token, value in zip(ids, logprobs, strict=True)]
            matched = None if matched == self.engine.tokenizer.eos_token_id else matched
            reply = SimpleNamespace(token_ids=ids, logprobs=told, finish_reason=reason, stop_reason=matched)
            outputs.append(SimpleNamespace(outputs=[reply]))
        return outputs

    def collective_rpc(self, method, kwargs):
        assert method == "reload_weights"
        self.engine.reload(kwargs["weights_path"])

    def reset_prefix_cache(self):
        return self.is_reset


def fake_vllm(*, cpu=False):
    """Modules that stand for ``vllm`` and its parts, on a GPU or on a CPU."""
    names = ("vllm", "vllm.lora", "vllm.lora.request", "vllm.platforms")
    modules = {name: ModuleType(name) for name in names}
    modules["vllm"].SamplingParams = SimpleNamespace
    modules["vllm.lora.request"].LoRARequest = lambda name, number, path: (name, number, path)
    modules["vllm.platforms"].current_platform = SimpleNamespace(is_cpu=lambda: cpu)
    return modules
