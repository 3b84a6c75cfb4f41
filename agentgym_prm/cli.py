"""``agentgym-prm``: the package's functions as commands of the same names.

``play`` a game, ``rollout`` trajectories to a file, ``eval`` agents, ``export-games`` as official game files,
``serve-index`` passages to search in, and the training commands, from ``pipeline`` on (``training_cli.py``, which is
imported when one of them is asked for).
Exit status: 0 done, 1 a game was not won in ``play``, 2 wrong arguments or missing data, 130 interrupted.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from socketserver import BaseServer
from typing import Annotated, Any

import gymnasium as gym
import tyro
from tqdm import tqdm

from agentgym_prm.agents import Agent, BestOfN, ExpertAgent, HumanAgent, RandomAgent
from agentgym_prm.agents.chat_api import ChatAgent
from agentgym_prm.agents.engines import ENGINES, engine_agent, is_engine_name
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.agents.scripted import NoisyAgent
from agentgym_prm.envs import ALFWORLD, WEBSHOP
from agentgym_prm.errors import AgentGymError, UnknownNameError, UsageError
from agentgym_prm.evaluate import EvalReport, dated_run_dir, evaluate, make_envs, playing_envs, start_run
from agentgym_prm.families import PRIVILEGED, TEXT_EXPERTS, Family, family_of, parse_arguments
from agentgym_prm.inference import Budget, CompletionCache, Prices, connect
from agentgym_prm.inference.vendors import VENDORS, is_model_name, vendor_of
from agentgym_prm.rewards.judge import PREFIX, JudgeScorer, connect_judge
from agentgym_prm.rewards.remote import connect_scorer, is_remote
from agentgym_prm.rollout import stream
from agentgym_prm.store import read_trajectories
from agentgym_prm.types import Action, History, Trajectory

_DESCRIPTION = "Text environments for LLM agents: play, collect, evaluate. Each command has a --help of its own."
AGENTS = ("random", *TEXT_EXPERTS, *PRIVILEGED)
"""Agents that are no models."""
_TRAINING = {
    "pipeline": "Train a policy and a process reward model and judge both: all stages in one folder.",
    "sft": "Imitate demonstrations.",
    "targets": "Estimate Q of commands at states of rollouts, for a reward model to learn.",
    "train-prm": "Train a process reward model and judge it on held-out tasks.",
    "train-progress": "Train a progress estimator and judge it on held-out tasks.",
    "train-step-labels": "Train a model to judge steps, by labels of steps.",
    "eval-steps": "Judge scorers of steps by step labels.",
    "train": "Train a policy by playing.",
    "serve-prm": "Serve a reward model or progress estimator to other machines: --scorer http://HOST:PORT.",
}
"""Commands that load torch, and what the overview says of them."""
_MODELS = tuple(f"{each}:MODEL" for each in (*VENDORS, *ENGINES))
_NO_CAP = 1000
_ADDRESS = re.compile(r"[@+]?https?://.*")
_RESUME = "rollout and eval continue with --resume --run-dir DIR"
_NOTHING_KEPT = "an index that was not finished is not kept"


@dataclass(frozen=True)
class Games:
    """Which games are played, and how."""

    env: str = ALFWORLD
    """Registered id of the environment."""
    data: str = "builtin"
    """'builtin' (no download), 'official' (below $ALFWORLD_DATA, $WEBSHOP_DATA or $VIRTUALHOME_DATA), or a path."""
    split: str | None = None
    """train, valid_seen or valid_unseen (households), train, valid or test (shops, questions); by default the last,
    which judges, and for rollout the first."""
    difficulty: str = "full"
    """Size of builtin games: small (for tiny models) or full (as large as the benchmark's)."""
    engine: str = "native"
    """ALFWorld: 'native', or 'textworld' for the original engine (extra [alfworld])."""
    put_grammar: str | None = None
    """ALFWorld: list puts as 'move' (move X to Y) or 'put' (put X in/on Y); by default as the game file does."""
    env_args: tuple[str, ...] = ()
    """Further arguments of the environment, NAME=VALUE each."""
    max_episode_steps: int | None = None
    """Step cap in commands; by default the cap of the registered id (ALFWorld: 50, VirtualHome: 40,
    WebShop: 15, WikiSearch: 10)."""

    @property
    def family(self) -> Family:
        """What is known of the environment."""
        return family_of(self.env)

    def checked_env(self) -> str:
        """The environment's id, known to be registered."""
        if ":" not in self.env and self.env not in gym.registry:
            raise UnknownNameError.of(
                "environment", self.env, [i for i in gym.registry if i.startswith("agentgym_prm/")]
            )
        return self.env

    def kwargs(self, agent: str = "") -> dict[str, Any]:
        """Arguments for ``gym.make_vec``; ``agent`` may need an expert in the environment."""
        family = self.family
        kwargs = {name: getattr(self, name) for name in family.settings}
        if "split" in kwargs:
            kwargs["split"] = self.split or family.splits.test
        if agent in family.privileged:
            kwargs["expert"] = agent
        if agent == "random":
            kwargs |= family.choices
        kwargs |= parse_arguments(self.env_args)
        if self.max_episode_steps is not None:
            _at_least_one(max_episode_steps=self.max_episode_steps)
            kwargs["max_episode_steps"] = self.max_episode_steps
        return kwargs

    @property
    def cap(self) -> int:
        """Most commands of an episode, as an agent reckons with them."""
        cap = self.kwargs().get("max_episode_steps") or gym.spec(self.env).max_episode_steps or -1
        return cap if cap > 0 else _NO_CAP

    def agent(self, name: str, seed: int = 0) -> Agent:
        """The agent called ``name`` that is no model; ``expert`` is short for the one that reads the texts.

        Raises:
            UnknownNameError: There is none.
            UsageError: It plays another environment.
        """
        self.checked_env()
        family = self.family
        if name not in (*AGENTS, "expert"):
            if vendor := vendor_of(name):
                raise UnknownNameError(f"unknown agent {name!r}: a model behind an API is named {vendor}:{name}")
            raise UnknownNameError.of("agent", name, [*AGENTS, "expert", *_MODELS])
        if name == "random":
            return RandomAgent(seed)
        if name in family.privileged:
            return ExpertAgent(name)
        if name in ("expert", family.text_expert) and family.make_text_expert is not None:
            return family.make_text_expert(self.cap)
        known = [*filter(None, [family.text_expert]), *family.privileged, "random"]
        raise UsageError(f"the agent {name!r} does not play {self.env}: take {', '.join(known)}, or a model")

    def make(self, num_envs: int, agent: str) -> gym.vector.VectorEnv[Any, Any, Any]:
        """The environments that ``agent`` plays in."""
        try:
            return make_envs(self.checked_env(), num_envs, **self.kwargs(agent))
        except (ImportError, TypeError, ValueError) as error:
            # An id of somebody else's module, or options that do not go together: say it without a traceback.
            raise UsageError(str(error)) from error


@dataclass(frozen=True)
class Service:
    """How models behind APIs (openai:MODEL, anthropic:MODEL, gemini:MODEL) and in engines (vllm:MODEL, sglang:MODEL)
    are asked; engines have no budget, cache and prices.
    """

    base_url: str | None = None
    """Address of a proxy, or of another server with the same API, e.g. http://localhost:8000/v1. It is sent the key. Of
    an engine's server; vllm:MODEL without it runs in this process."""
    concurrency: int = 32
    """Most requests at a time; --num-envs games ask together."""
    timeout: float = 300.0
    """Seconds for a whole reply; then it is asked for again."""
    max_tokens: int = 4096
    """Longest reply; a reasoning model's thoughts count."""
    max_turns: int | None = None
    """Most turns shown, the present one included; by default all."""
    budget_tokens: int | None = None
    """Most tokens of this command; what is finished is kept, and --resume goes on with a new budget."""
    budget_requests: int | None = None
    """Most requests of this command, retries included."""
    budget_usd: float | None = None
    """Most US dollars of this command."""
    cache: Path | None = Path("runs/completions")
    """Completions that need not be paid for again: the same run with the same --seed is free. None asks anew."""
    prices: Path | None = None
    """JSON file {"MODEL": {"input": 2.0, "output": 10.0}} in US dollars per million tokens; by default list prices."""

    @cached_property
    def budget(self) -> Budget:
        """What all agents of the command may spend together."""
        try:
            return Budget(tokens=self.budget_tokens, requests=self.budget_requests, cost=self.budget_usd)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def agent(self, name: str, prompt: str, temperature: float, seed: int) -> Agent:
        """The agent that asks the model ``vendor:model``, or the one in an engine, ``engine:model``."""
        options = self._options()
        shown = Prompt.load(prompt, max_turns=self.max_turns)
        if not is_engine_name(name):
            model = connect(name, base_url=self.base_url, **options)
            return ChatAgent(model, shown, temperature=temperature, max_tokens=self.max_tokens, seed=seed)
        if self.budget_tokens or self.budget_requests or self.budget_usd:
            raise UsageError(f"a budget is for chat APIs: {name!r} costs nothing that is counted here")
        return engine_agent(
            name,
            shown,
            base_url=self.base_url,
            server={"concurrency": self.concurrency, "timeout": self.timeout},
            temperature=temperature,
            max_new_tokens=self.max_tokens,
            seed=seed,
        )

    def judge(self, name: str) -> JudgeScorer:
        """The scorer that asks ``vendor:model``, or ``vendor:model@http://ADDRESS``."""
        return connect_judge(name, **self._options())

    def _options(self) -> dict[str, Any]:
        _at_least_one(concurrency=self.concurrency, max_tokens=self.max_tokens, max_turns=self.max_turns or 1)
        if self.timeout <= 0:
            raise UsageError(f"--timeout must be positive, got {self.timeout}")
        return {
            "timeout": self.timeout,
            "concurrency": self.concurrency,
            "budget": self.budget,
            "cache": CompletionCache(self.cache) if self.cache else None,
            "prices": Prices.load(self.prices) if self.prices else None,
        }


@dataclass(frozen=True)
class Model:
    """How a model plays, where an agent is one; and Best-of-N."""

    prompt: str | None = None
    """Name or file of the prompt: the one that the model was trained with; by default the environment's for tiny
    models, or its chat prompt for a model behind an API."""
    mode: str = "choose"
    """choose among the admissible commands, or generate freely, as models behind APIs do."""
    temperature: float = 1.0
    """0 takes the most likely command."""
    best_of: int = 1
    """Candidates a turn, of which the scorer chooses one; they need a temperature above 0."""
    scorer: str | None = None
    """Folder of a reward model, random or likelihood; a served one: http://HOST:PORT (serve-prm), or
    FOLDER@vllm+http://HOST:PORT, vllm-pooling, vllm-score or sglang; or a chat model: judge:openai:MODEL."""

    def agent(self, name: str, games: Games, seed: int, service: Service) -> Agent:
        """The agent that ``name`` stands for: one of ``AGENTS``, or a model."""
        _at_least_one(best_of=self.best_of)
        if (self.best_of > 1) != (self.scorer is not None):
            raise UsageError("--best-of and --scorer go together: N candidates, and who chooses among them")
        if self.best_of > 1 and self.temperature == 0:
            raise UsageError("--temperature 0 proposes one command N times: Best-of-N needs a temperature above 0")
        agent = self._generator(name, games, seed, service)
        if self.scorer is None:
            return agent
        if self.scorer.startswith(PREFIX):
            return BestOfN(agent, service.judge(self.scorer.removeprefix(PREFIX)), self.best_of)
        if is_remote(self.scorer):
            scorer = connect_scorer(self.scorer, concurrency=service.concurrency, timeout=service.timeout)
            return BestOfN(agent, scorer, self.best_of)
        from agentgym_prm.training_cli import best_of

        return best_of(agent, self.best_of, self.scorer, seed)

    def _generator(self, name: str, games: Games, seed: int, service: Service) -> Agent:
        if _is_chat(name):
            return service.agent(name, self.prompt or games.family.chat_prompt, self.temperature, seed)
        # A name without a slash that is no folder is a slip of the pen, not a model on the hub.
        if name in (*AGENTS, "expert") or ("/" not in name and not Path(name).is_dir()):
            return games.agent(name, seed)
        from agentgym_prm.stages.config import PolicyConfig
        from agentgym_prm.training_cli import model_agent

        policy = PolicyConfig(prompt=self.prompt or games.family.prompt, mode=self.mode, temperature=self.temperature)
        return model_agent(name, policy, seed)

    def settings(self, name: str, games: Games, service: Service) -> dict[str, Any]:
        """What decides the play of the model ``name``, for ``config.json``."""
        settings = {field: getattr(self, field) for field in ("temperature", "best_of", "scorer")}
        if self.scorer is not None:
            settings["scorer"] = _ADDRESS.sub("", self.scorer) or "served"
        if _is_chat(name):
            # Not the address, nor a scorer's: a server of one's own may have another one when the run goes on.
            replies = {"max_tokens": service.max_tokens, "max_turns": service.max_turns}
            return {"prompt": self.prompt or games.family.chat_prompt, **settings, **replies}
        return {"prompt": self.prompt or games.family.prompt, "mode": self.mode, **settings}


def _is_chat(name: str) -> bool:
    """Whether a name is meant as ``vendor:model`` or ``engine:model``; a folder's name may hold a colon."""
    return ":" in name and not Path(name).is_dir()


FlatModel = Annotated[Model, tyro.conf.OmitArgPrefixes]
FlatService = Annotated[Service, tyro.conf.OmitArgPrefixes]
FlatGames = Annotated[Games, tyro.conf.OmitArgPrefixes]  # its fields are flags of their own, without a prefix


def play(
    games: FlatGames = Games(),
    agent: str = "human",
    task: int = 0,
    delay: float = 0.0,
    web: bool = False,
    port: int = 8000,
    trajectories: Path | None = None,
) -> int:
    """Play one game in the terminal, or watch an agent play it; a shop also in a browser.

    Type a command; '?' lists the admissible ones, an empty line or Ctrl-D stops.

    Args:
        games: Which games.
        agent: human, random, expert (which acts from the texts alone), or an expert of the environment: handcoded,
            planner or walkthrough (ALFWorld), homekeeper, planner or program (VirtualHome), shopper or oracle
            (WebShop).
        task: Number of the game within its split, from 0.
        delay: Pause before each of a watched agent's commands, in seconds.
        web: Serve the shop's pages to a browser on this machine, until Ctrl-C: a person plays, or watches the agent's
            game.
        port: Where they are served; 0 takes a free one.
        trajectories: With --web: recorded episodes to watch instead, a file or the folder that it is in; --split and
            --data as they were recorded with.
    """
    if agent not in (*AGENTS, "expert", "human"):
        raise UnknownNameError.of("agent", agent, ["human", "expert", *AGENTS])
    if delay < 0:
        raise UsageError(f"--delay must be at least 0 seconds, got {delay}")
    if trajectories is not None and not web:
        raise UsageError("--trajectories are watched in a browser: add --web")
    if web:
        return _serve(games, agent, task, port, trajectories)
    player: Agent = HumanAgent(_ask) if agent == "human" else _Watched(games.agent(agent), delay)
    envs = games.make(1, player.name)
    _check_task(task, envs)
    try:
        (trajectory,) = stream(player, envs, [task])
    except EOFError:
        print("\nstopped")
        return 1
    finally:
        envs.close()
    print(f"\n{trajectory.final_observation}\n")
    reward = "" if trajectory.outcome in (0.0, 1.0) else f", reward {trajectory.outcome:.2f}"
    print(f"{'won' if trajectory.won else 'not won'} in {len(trajectory.steps)} steps{reward}")
    return 0 if trajectory.won else 1


def _check_task(task: int, envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
    num_tasks = envs.unwrapped.envs[0].unwrapped.num_tasks  # type: ignore[attr-defined]
    if not 0 <= task < num_tasks:
        raise UsageError(f"--task must be in [0, {num_tasks}), got {task}")


def _serve(games: Games, agent: str, task: int, port: int, recorded: Path | None) -> int:
    """Serve a shop until it is interrupted."""
    from agentgym_prm.envs.webshop.server import ShopServer

    if games.checked_env() != WEBSHOP:
        raise UsageError(f"only {WEBSHOP} has pages to show, not {games.env}: play in the terminal, without --web")
    _check_port(port)
    envs = games.make(1, agent)
    _check_task(task, envs)
    episodes = _recorded(recorded, envs) if recorded is not None else []
    if recorded is None and agent != "human":
        episodes = list(stream(games.agent(agent), envs, [task]))
    envs.close()
    try:
        server = ShopServer(lambda: gym.make(games.env, **games.kwargs()), trajectories=episodes, task=task, port=port)
    except OSError as error:
        raise UsageError(f"port {port} cannot be used ({error.strerror}): choose another one with --port") from error
    print(f"{server.address}  (Ctrl-C stops)", flush=True)
    _serve_until_interrupted(server)
    return 0


def _check_port(port: int) -> None:
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port must be in [0, 65536), got {port}")


def _serve_until_interrupted(server: BaseServer) -> None:
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def _recorded(path: Path, envs: gym.vector.VectorEnv[Any, Any, Any]) -> list[Trajectory]:
    """The episodes of a file, all of them of the games in ``envs``."""
    path = path / "trajectories.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"there are no trajectories at {path}")
    episodes = sorted(read_trajectories(path), key=lambda episode: episode.episode)
    if not episodes:
        raise UsageError(f"{path} holds no finished episode")
    env = envs.unwrapped.envs[0].unwrapped  # type: ignore[attr-defined]
    for episode in episodes:
        try:
            env.task_index(episode.task_id)
        except UnknownNameError as error:
            raise UsageError(
                f"{path} was recorded with other games: give its --split, --data and --difficulty ({error})"
            ) from error
    return episodes


def _ask(history: History) -> str:
    print(f"\n{history.observation}")
    while True:
        typed = input("\n> ").strip()
        if not typed:
            raise EOFError
        if typed != "?":
            return typed
        print("\n".join(history.admissible_commands))


class _Watched(Agent):
    """Shows what another agent sees and does."""

    def __init__(self, agent: Agent, delay: float) -> None:
        self.name, self._agent, self._delay = agent.name, agent, delay

    def sample(self, histories: Any, n: int = 1) -> list[list[Action]]:
        candidates = self._agent.sample(histories, n)
        print(f"\n{histories[0].observation}")
        time.sleep(self._delay)
        print(f"\n> {candidates[0][0].command}")
        return candidates


def rollout(
    games: FlatGames = Games(),
    agent: str = "random",
    episodes: int = 100,
    repeats: int = 1,
    first_seed: int = 0,
    seed: int = 0,
    num_envs: int = 32,
    noise: float = 0.0,
    model: FlatModel = Model(temperature=1.0),
    service: FlatService = Service(),
    run_dir: Path | None = None,
    resume: bool = False,
) -> int:
    """Collect trajectories into RUN_DIR/trajectories.jsonl, each written as it ends.

    Args:
        games: Which games.
        agent: random, expert, an expert by its name (see play), or a model: a folder, a name on the hub, or one behind
            an API: openai:MODEL, anthropic:MODEL or gemini:MODEL, or in an engine: vllm:MODEL or sglang:MODEL.
        episodes: How many games, from first_seed on.
        repeats: Rollouts of each game.
        first_seed: Seed of the first game; seed s plays game s modulo the size of the split.
        seed: Seed of the agent's own randomness.
        num_envs: Games stepped together.
        noise: Share of turns at which a random command is executed instead, marked as not to be imitated.
        model: How a model plays.
        service: How a model behind an API is asked.
        run_dir: Folder to write to; by default runs/DATE_rollout-AGENT.
        resume: Continue an interrupted run in run_dir.
    """
    _at_least_one(episodes=episodes, repeats=repeats, num_envs=num_envs)
    _not_negative(first_seed=first_seed)
    if not 0 <= noise <= 1:
        raise UsageError(f"--noise must be in [0, 1], got {noise}")
    games = games if games.split else replace(games, split=games.family.splits.train)
    player = model.agent(agent, games, seed, service)
    name = player.name
    seeds = [first_seed + i for i in range(episodes) for _ in range(repeats)]
    folder = _run_dir(run_dir, f"rollout-{name}", resume)
    if noise:
        player = NoisyAgent(player, noise, seed)
    envs = playing_envs(player, lambda slots: games.make(slots, name), min(num_envs, len(seeds)))
    try:
        settings = {"agent": player.name, "agent_seed": seed, "env_id": games.env, "env": games.kwargs(name)}
        settings |= _model_settings(agent, model, games, service)
        start_run(folder, {**settings, "seeds": seeds}, resume=resume)
        path = folder / "trajectories.jsonl"
        steps = won = count = 0
        for trajectory in stream(player, envs, seeds, path=path, resume=resume, progress=True):
            count, steps, won = count + 1, steps + len(trajectory.steps), won + trajectory.won
    finally:
        for each in envs:
            each.close()
    print(f"{count} new episodes, {steps} steps, {won} won -> {path}")
    if service.budget.spent.requests:
        print(f"spent: {service.budget.spent}")
    return 0


def eval_agents(
    games: FlatGames = Games(),
    agent: tuple[str, ...] = ("expert",),
    episodes: int | None = None,
    first_seed: int = 0,
    seed: int = 0,
    num_envs: int = 32,
    model: FlatModel = Model(),
    service: FlatService = Service(),
    run_dir: Path | None = None,
    resume: bool = False,
) -> int:
    """Evaluate one or more agents: success with a 95 % interval, steps and grounding for each task type.

    Writes RUN_DIR/AGENT/{config.json, trajectories.jsonl, summary.csv}.

    Args:
        games: Which games.
        agent: One or more of random, expert, an expert by its name, or models: folders, names on the hub, or
            openai:MODEL, anthropic:MODEL, gemini:MODEL, vllm:MODEL, sglang:MODEL.
        episodes: How many games; by default every game of the split once.
        first_seed: Seed of the first game; seed s plays game s modulo the size of the split.
        seed: Seed of the agents' own randomness.
        num_envs: Games stepped together.
        model: How a model plays.
        service: How a model behind an API is asked.
        run_dir: Folder to write to; by default runs/DATE_eval.
        resume: Continue an interrupted evaluation in run_dir.
    """
    _at_least_one(num_envs=num_envs, episodes=1 if episodes is None else episodes)
    _not_negative(first_seed=first_seed)
    _known_names(agent, games)
    made = ((name, model.agent(name, games, seed, service)) for name in agent)
    named = {player.name: (name, player) for name, player in made}
    players = [player for _, player in named.values()]
    for player in players:
        games.make(1, player.name).close()  # whatever is wrong with the games shows before anything is written
    seeds = None if episodes is None else range(first_seed, first_seed + episodes)
    folder = _run_dir(run_dir, "eval", resume)
    reports = []
    for player in players:
        report = evaluate(
            player,
            games.checked_env(),
            seeds,
            num_envs=num_envs,
            run_dir=folder / player.name,
            resume=resume,
            progress=True,
            settings={"agent_seed": seed, **_model_settings(named[player.name][0], model, games, service)},
            **games.kwargs(player.name),
        )
        reports.append(report)
        if len(players) == 1:
            print(report)
    if len(players) > 1:
        print(_comparison(reports))
    if service.budget.spent.requests:
        print(f"\nspent: {service.budget.spent}")
    for player in players:
        if isinstance(player, BestOfN) and isinstance(player.scorer, JudgeScorer):
            print(player.scorer)
    print(f"\nfiles: {folder}")
    return 0


def _comparison(reports: list[EvalReport]) -> str:
    kinds = [row.task_type for row in reports[0].rows()]
    lines = [f"{'success [95 % interval]':<32}" + "".join(f"{report.agent:>24}" for report in reports)]
    for index, kind in enumerate(kinds):
        cells = []
        for report in reports:
            row = report.rows()[index]
            cells.append(f"{row.success:.1%} [{row.success_low:.1%}, {row.success_high:.1%}]")
        lines.append(f"{kind:<32}" + "".join(f"{cell:>24}" for cell in cells))
    lines.append(f"{'episodes':<32}" + "".join(f"{report.overall.episodes:>24}" for report in reports))
    lines.append(f"{'mean score':<32}" + "".join(f"{report.overall.mean_score:>24.2f}" for report in reports))
    lines.append(f"{'mean steps':<32}" + "".join(f"{report.overall.mean_steps:>24.1f}" for report in reports))
    lines.append(f"{'grounding':<32}" + "".join(f"{report.overall.grounding:>24.1%}" for report in reports))
    asked = [report for report in reports if report.overall.usage]
    lines += [f"{report.agent}: an episode took {report.overall.usage}" for report in asked]
    return "\n".join(lines)


def _model_settings(name: str, model: Model, games: Games, service: Service) -> dict[str, Any]:
    """What ``config.json`` tells besides the agent's name; nothing of an agent that is no model."""
    if name in (*AGENTS, "expert") and model.scorer is None:
        return {}
    return {"model": name, **model.settings(name, games, service)}


def _known_names(names: Sequence[str], games: Games) -> None:
    """Refuse a wrong name before the models of the others are loaded."""
    for name in names:
        if _is_chat(name):
            if not is_model_name(name) and not is_engine_name(name):
                raise UnknownNameError.of("model", name, _MODELS)
        elif "/" not in name and not Path(name).is_dir():
            games.agent(name)


def report(run_dir: Path, /, out: Path | None = None) -> int:
    """Write a run as one HTML page: success, learning curves, quality of the reward model, episodes to read.

    Args:
        run_dir: Folder of `pipeline`, `eval` or `rollout`, finished or not.
        out: File to write; by default RUN_DIR/report.html.
    """
    from agentgym_prm.report import write_report

    print(write_report(run_dir, out))
    return 0


def export_games(
    out: Path,
    /,
    split: str = "train",
    difficulty: str = "full",
    games: int = 100,
    first: int = 0,
) -> int:
    """Write builtin games as official-format game files, with a shortest plan as their walkthrough.

    Args:
        out: Folder to write to; files go to OUT/SPLIT/TASK/TRIAL/game.tw-pddl.
        split: train, valid_seen or valid_unseen.
        difficulty: small or full.
        games: How many.
        first: Number of the first game within its split, from 0.
    """
    from agentgym_prm.envs.alfworld.export import export_builtin_games
    from agentgym_prm.envs.alfworld.generate import SPLIT_SIZES

    _at_least_one(games=games)
    _not_negative(first=first)
    size = SPLIT_SIZES.get(split, first + games)
    if first + games > size:
        raise UsageError(f"{split} has {size} games: --first {first} and --games {games} go past its end")
    written = export_builtin_games(out, split, difficulty, range(first, first + games))
    for _ in tqdm(written, total=games, unit="game", disable=None):
        pass
    print(f"{games} games -> {out / split}")
    return 0


def serve_index(
    index: str,
    /,
    host: str = "127.0.0.1",
    port: int = 8000,
    topk: int = 3,
    split_pages: bool = False,
) -> int:
    """Serve passages to search in, by the protocol of Search-R1's retrieval server, until Ctrl-C.

    POST /retrieve with {"queries": [...], "topk": 3, "return_scores": true}; GET /health.

    Args:
        index: A corpus (a file of passages, which is indexed on first use), the folder of an index of passages,
            lucene:FOLDER or lucene:NAME (extra [search]), or another server's http://HOST:PORT.
        host: Interface to listen on: 127.0.0.1 for this machine alone, 0.0.0.0 for every machine that can reach it.
        port: Where to listen; 0 takes a free one.
        topk: Passages for a query where a request names no number.
        split_pages: Of a corpus of KILT's pages, serve paragraphs instead of pages.
    """
    from agentgym_prm.search.opening import open_search
    from agentgym_prm.search.server import MOST_PASSAGES, SearchServer

    _check_port(port)
    if not 1 <= topk <= MOST_PASSAGES:
        raise UsageError(f"--topk must be in [1, {MOST_PASSAGES}], got {topk}")
    try:
        search = open_search(index, split_pages=split_pages)
    except ValueError as error:  # also an address that is none
        raise UsageError(str(error)) from error
    try:
        server = SearchServer(search, host=host, port=port, topk=topk)
    except OSError as error:
        raise UsageError(f"{host}:{port} cannot be used ({error.strerror}): choose another --host or --port") from error
    size = f"{len(search):,} passages, " if isinstance(search, Sized) else ""
    print(f"{server.address}/retrieve  ({size}Ctrl-C stops)", flush=True)
    _serve_until_interrupted(server)
    return 0


def push(model: Path, repo: str, /, private: bool = False, message: str = "") -> int:
    """Put a model on the Hugging Face hub, with a model card; a repository that holds files is refused.

    Args:
        model: Folder of the model, or of the stage that trained it.
        repo: OWNER/NAME, made if there is none.
        private: Only its owner sees it.
        message: Of the commit.
    """
    from agentgym_prm.hub import push as push_model

    print(push_model(model, repo, private=private, message=message))
    return 0


def pull(repo: str, folder: Path, /, revision: str | None = None) -> int:
    """Fetch a model from the Hugging Face hub: weights, configuration and tokenizer, no code.

    Args:
        repo: OWNER/NAME.
        folder: Where to; it must not be there, or be empty.
        revision: Branch, tag or commit.
    """
    from agentgym_prm.hub import pull as pull_model

    print(pull_model(repo, folder, revision=revision))
    return 0


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")


def _not_negative(**values: int) -> None:
    for name, value in values.items():
        if value < 0:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 0, got {value}")


def _run_dir(run_dir: Path | None, name: str, resume: bool) -> Path:
    if resume and run_dir is None:
        raise UsageError("--resume needs --run-dir: which run is to be continued?")
    return dated_run_dir(name) if run_dir is None else run_dir


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return int(
            tyro.extras.subcommand_cli_from_dict(
                _commands(arguments),
                prog="agentgym-prm",
                description=_DESCRIPTION,
                args=arguments,
            )
        )
    except BrokenPipeError:
        # The reader, e.g. `head`, has seen enough; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (AgentGymError, OSError, gym.error.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ValueError as error:
        if not (arguments and arguments[0] in _TRAINING):
            raise
        # A setting that does not go with the model, the data or another setting.
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        asked = arguments[0] if arguments else ""
        way = "the same command continues it" if asked in _TRAINING else _RESUME
        way = _NOTHING_KEPT if asked == "serve-index" else way
        print(f"\ninterrupted; {way}", file=sys.stderr)
        return 130


def _commands(arguments: Sequence[str]) -> dict[str, Callable[..., int]]:
    """All commands; of those that load torch only the one that is asked for is the real one."""
    asked = arguments[0] if arguments else ""
    commands: dict[str, Callable[..., int]] = {"play": play, "rollout": rollout, "eval": eval_agents}
    if asked in _TRAINING:
        from agentgym_prm.training_cli import commands as training_commands

        training = training_commands(arguments)
    else:
        training = {name: _announced(text) for name, text in _TRAINING.items()}
    others: dict[str, Callable[..., int]] = {"report": report, "export-games": export_games, "serve-index": serve_index}
    return {**commands, **training, **others, "push": push, "pull": pull}


def _announced(text: str) -> Callable[..., int]:
    def command() -> int:
        raise AssertionError("stands in the overview only")

    command.__doc__ = text
    return command
