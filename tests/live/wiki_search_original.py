"""The originals of WikiSearch's protocols as oracles: what they answer to messages, one episode at a time.

Read from checkouts in the folder that $WIKI_SEARCH_ORIGINALS names: ``Multi-Turn-RL-Agent`` (github.com/SiliangZeng),
``Search-R1`` (github.com/PeterGriffinJin), ``ReAct`` (github.com/ysymyth), and for their official evaluations
``triviaqa`` (github.com/mandarjoshi90) and ``hotpot`` (github.com/hotpotqa). Of what they import, only what these
functions use has to be there: libraries for training, serving and the web are stood in for by empty modules, and the
search by a function of ours.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock, patch

ORIGINALS_VARIABLE = "WIKI_SEARCH_ORIGINALS"
_STOOD_IN_FOR = (
    "datasets", "trl", "trl.trainer", "trl.trainer.grpo_trainer", "vllm", "torch", "verl", "verl.utils",
    "verl.utils.tracking", "ujson", "utils", "utils.dataset_utils", "utils.utils",
    "requests", "gym", "bs4", "originals_search_r1.tensor_helper",
)  # fmt: skip


class Reply(NamedTuple):
    """What an original answers to a message: nothing where the episode ends."""

    text: str
    ended: bool


def folder(name: str) -> Path:
    """A checkout; ``FileNotFoundError`` says where it comes from."""
    place = Path(os.environ.get(ORIGINALS_VARIABLE, "")) / name
    if not os.environ.get(ORIGINALS_VARIABLE) or not place.is_dir():
        raise FileNotFoundError(
            f"no {place}: let ${ORIGINALS_VARIABLE} name a folder with checkouts of SiliangZeng/Multi-Turn-RL-Agent, "
            "PeterGriffinJin/Search-R1, ysymyth/ReAct, mandarjoshi90/triviaqa and hotpotqa/hotpot"
        )
    return place


@contextmanager
def _stand_ins():
    modules = {name: MagicMock(name=name) for name in _STOOD_IN_FOR}
    modules["gym"] = ModuleType("gym")
    modules["gym"].Env = object
    modules["gym"].spaces = SimpleNamespace(Space=object)
    with patch.dict(sys.modules, modules):
        yield


def _package(name: str, place: Path) -> ModuleType:
    """A package whose ``__init__`` is not executed, as it would import everything."""
    module = ModuleType(name)
    module.__path__ = [str(place)]
    return module


@cache
def _verifiers() -> SimpleNamespace:
    place = folder("Multi-Turn-RL-Agent") / "verifiers"
    names = {"verifiers": place, "verifiers.envs": place / "envs", "verifiers.utils": place / "utils"}
    packages = {name: _package(name, where) for name, where in names.items()}
    packages["verifiers.utils"].preprocess_dataset = lambda **kwargs: None
    with _stand_ins(), patch.dict(sys.modules, packages):
        tool_env = importlib.import_module("verifiers.envs.tool_env")
        rubrics = importlib.import_module("verifiers.rubrics")
        loaded = {name: module for name, module in sys.modules.items() if name.startswith("verifiers")}
    return SimpleNamespace(ToolEnv=tool_env.ToolEnv, Rubric=rubrics.TrivialQAToolRubric, loaded=loaded)


class XMLOriginal:
    """An episode in Multi-Turn-RL-Agent's ``ToolEnv``, and what its rubric makes of it."""

    def __init__(self, tools: Sequence[Callable[..., Any]], max_steps: int) -> None:
        self._source = _verifiers()
        self._env = self._source.ToolEnv(dataset="none", tools=list(tools), max_steps=max_steps, system_prompt="")
        self.messages: list[dict[str, str]] = [
            {"role": "system", "content": ""},
            {"role": "user", "content": "Question: ?\n"},
        ]

    def step(self, message: str) -> Reply:
        """As ``step_only_msg`` goes on after what the model wrote."""
        self.messages.append({"role": "assistant", "content": message})
        if self._env.is_completed(self.messages):
            return Reply("", True)
        self.messages.append(self._env.env_response(self.messages))
        return Reply(self.messages[-1]["content"], False)

    def rewards(self, answers: Sequence[str]) -> dict[str, float]:
        """Every reward function of the question-answering experiments, of what was played so far."""
        rubric = self._source.Rubric()
        functions = {
            "tool_execution": rubric.tool_execution_reward_func,
            "answer_in_search_results": rubric.exist_answer_in_search_results,
            "answer_present": rubric.exist_answer_reward_func,
            "exact_match": rubric.exact_match_reward_func,
            "message_format": rubric.parser.get_format_reward_func(),
            "tag_counts": rubric.parser.get_xml_reward_func(),
        }
        played = self.messages[2:]
        return {name: function([played], answer=[answers])[0] for name, function in functions.items()}


@cache
def _search_r1() -> Any:
    name = "originals_search_r1"
    place = folder("Search-R1") / "search_r1" / "llm_agent"
    with _stand_ins(), patch.dict(sys.modules, {name: _package(name, place)}):
        return importlib.import_module(f"{name}.generation").LLMGenerationManager


class _Characters:
    """A tokenizer whose tokens are the texts themselves."""

    pad_token = ""

    def batch_decode(self, responses: list[str], skip_special_tokens: bool) -> list[str]:
        return responses


class SearchR1Original:
    """An episode in Search-R1's generation loop.

    Args:
        search: For a query, titles and texts.
    """

    def __init__(self, search: Callable[[str], list[tuple[str, str]]]) -> None:
        manager = _search_r1()
        self._manager = manager.__new__(manager)
        self._manager.tokenizer = _Characters()
        self._manager.config = SimpleNamespace(no_think_rl=False)
        self._manager._batch_tokenize = lambda responses: responses
        self._manager._batch_search = lambda queries: {
            "result": [
                [{"document": {"contents": f"{title}\n{text}"}} for title, text in search(query)] for query in queries
            ]
        }

    def step(self, message: str) -> Reply:
        """What the loop does with what the model wrote."""
        _, (cut,) = self._manager._postprocess_responses([message])
        (text,), (ended,), _, _ = self._manager.execute_predictions([cut], "", [True])
        return Reply(text, bool(ended))


@cache
def _script(name: str, place: str) -> Any:
    """A script of a checkout as a module."""
    spec = importlib.util.spec_from_file_location(f"originals_{name}", folder(name) / place)
    module = importlib.util.module_from_spec(spec)
    with _stand_ins():
        spec.loader.exec_module(module)
    return module


def official_scores(metric: str, answer: str, form: str) -> tuple[str, float, float]:
    """Normalised answer, exact match and F1 by the official evaluation of TriviaQA or HotpotQA."""
    if metric == "triviaqa":
        script = _script("triviaqa", "evaluation/triviaqa_evaluation.py")
        f1 = script.f1_score(answer, form)
    else:
        script = _script("hotpot", "hotpot_evaluate_v1.py")
        f1 = script.f1_score(answer, form)[0]
    return script.normalize_answer(answer), float(script.exact_match_score(answer, form)), float(f1)


class ReActOriginal:
    """An episode in ReAct's ``WikiEnv``, with passages in the place of Wikipedia's pages.

    Args:
        search: For a query, titles and texts.
    """

    def __init__(self, search: Callable[[str], list[tuple[str, str]]]) -> None:
        self._env = _script("ReAct", "wikienv.py").WikiEnv()
        self._env.reset()

        def search_step(entity: str) -> None:
            found = search(entity)
            self._env.result_titles = []
            self._env.obs = (
                "\n".join(f"{title}: {self._env.get_page_obs(text)}" for title, text in found)
                if found
                else f"Could not find {entity}. Similar: {self._env.result_titles[:5]}."
            )

        self._env.search_step = search_step

    def step(self, action: str) -> Reply:
        """What the notebook does with an action: its first letter in lower case, then a step."""
        text, _, ended, _ = self._env.step(action[:1].lower() + action[1:])
        return Reply(text, ended)

    @property
    def answer(self) -> str | None:
        """The answer given."""
        return self._env.answer
