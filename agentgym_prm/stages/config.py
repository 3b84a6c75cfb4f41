"""Settings of the stages that have none in ``algos``."""

import random
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import gymnasium as gym
from tyro.conf import arg

from agentgym_prm.agents.local import MODES
from agentgym_prm.envs import ALFWORLD
from agentgym_prm.errors import UnknownNameError, UsageError
from agentgym_prm.evaluate import make_envs
from agentgym_prm.families import Family, family_of, parse_arguments
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards.targets import GAMMA, check_gamma

KINDS: Final = ("branching", "monte_carlo")
COMPLETERS: Final = ("policy", "expert", "random")


@dataclass(frozen=True, slots=True)
class GamesConfig:
    """Which games are played."""

    env: Annotated[str, arg(aliases=["--env"])] = ALFWORLD
    """Registered id of the environment."""
    data: str = "builtin"
    """'builtin' (no download), 'official' (below $ALFWORLD_DATA, $WEBSHOP_DATA or $VIRTUALHOME_DATA), or a path."""
    difficulty: str = "small"
    """Size of builtin games: small (for tiny models) or full (as large as the benchmark's)."""
    put_grammar: str | None = None
    """ALFWorld: list puts as 'move' (move X to Y) or 'put' (put X in/on Y); by default as the game file does."""
    env_args: tuple[str, ...] = ()
    """Further arguments of the environment, NAME=VALUE each."""
    train_split: str = "train"
    """Split of demonstrations, rollouts and targets."""
    eval_split: str = "valid_unseen"
    """Split of the evaluation."""
    max_episode_steps: int | None = None
    """Step cap in commands; by default the cap of the registered id (ALFWorld: 50, VirtualHome: 40,
    WebShop: 15, WikiSearch: 10)."""
    num_envs: int = 32
    """Games stepped together; changes the speed only."""

    @classmethod
    def of(cls, env: str) -> "GamesConfig":
        """The defaults for an environment."""
        splits = family_of(env).splits
        return cls(env=env, train_split=splits.train, eval_split=splits.test)

    def __post_init__(self) -> None:
        _at_least(1, self, "num_envs", *(["max_episode_steps"] if self.max_episode_steps is not None else []))
        if ":" not in self.env and self.env not in gym.registry:
            known = [name for name in gym.registry if name.startswith("agentgym_prm/")]
            raise UnknownNameError.of("environment", self.env, known)
        parse_arguments(self.env_args)

    @property
    def family(self) -> Family:
        """What is known of the environment."""
        return family_of(self.env)

    @property
    def cap(self) -> int:
        """Most commands of an episode."""
        cap = self.max_episode_steps or gym.spec(self.env).max_episode_steps
        if cap is None:
            raise UsageError(f"{self.env} has no step cap: give --games.max-episode-steps")
        return cap

    def kwargs(self, split: str, max_episode_steps: int | None = None) -> dict[str, Any]:
        """Arguments of the environment; a cap of its own for these games, at most that of all."""
        settings = {"split": split, "data": self.data, "difficulty": self.difficulty, "put_grammar": self.put_grammar}
        return {
            "max_episode_steps": min(max_episode_steps or self.cap, self.cap),
            **{name: value for name, value in settings.items() if name in self.family.settings},
            **parse_arguments(self.env_args),
        }

    def size(self, split: str) -> int:
        """How many games a split has; shows early what is wrong with them."""
        envs = make_envs(self.env, 1, **self.kwargs(split))
        number = int(envs.unwrapped.envs[0].unwrapped.num_tasks)  # type: ignore[attr-defined]
        envs.close()
        return number

    def training_seeds(self, seed: int, first: int, count: int) -> list[int]:
        """Games ``first`` to ``first + count`` of the training split in random order; past its end from its start."""
        size = self.size(self.train_split)
        order = random.Random(seed).sample(range(size), size)
        return [order[(first + number) % size] for number in range(count)]


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """What the policy is shown, and how it acts."""

    prompt: str = "brief"
    """Name or file of the prompt: brief and memory (ALFWorld), home (VirtualHome) and shop (WebShop) suit tiny models,
    the environment's reason_action and thought_action pretrained chat models."""
    mode: str = "choose"
    """choose among the admissible commands, or generate freely."""
    temperature: float = 1.0
    """Of rollouts, of continuations and of the candidates of Best-of-N."""
    max_new_tokens: int = 64
    """Longest generated reply."""
    max_prompt_tokens: int | None = None
    """Longest prompt: the oldest turns go first, whole."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownNameError.of("mode", self.mode, MODES)
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        _at_least(1, self, "max_new_tokens")


@dataclass(frozen=True, slots=True)
class DevelopmentConfig:
    """The held-out games that a policy is judged on while it trains; those of the final evaluation are others."""

    split: str = "valid_seen"
    """Their split."""
    episodes: int = 100
    """How many of its games, from the first on; at most all. 0 for no judgement."""
    judged_turns: int = 5
    """Turns of each episode, evenly spaced, whose actions reward models judge."""

    def __post_init__(self) -> None:
        _at_least(0, self, "episodes")
        _at_least(1, self, "judged_turns")


@dataclass(frozen=True, slots=True)
class DemonstrationsConfig:
    """What is imitated."""

    games: int = 100
    """Training games that the expert plays."""
    expert: str = "handcoded"
    """Expert of the environment: handcoded or planner (ALFWorld), homekeeper or planner (VirtualHome), shopper or
    oracle (WebShop); the toy environment has its exact solution instead."""
    noise: float = 0.25
    """Share of turns at which a random command is executed, and not imitated."""

    def __post_init__(self) -> None:
        _at_least(1, self, "games")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise must be in [0, 1], got {self.noise}")


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """Where the policy plays by itself."""

    games: int = 1500
    """Further training games, other ones than the demonstrations'."""
    repeats: int = 1
    """Rollouts of each."""
    max_episode_steps: int | None = 25
    """Step cap of these rollouts, at most that of the games."""

    def __post_init__(self) -> None:
        _at_least(1, self, "games", "repeats", *(["max_episode_steps"] if self.max_episode_steps is not None else []))


@dataclass(frozen=True, slots=True)
class TargetsConfig:
    """What the reward model is to learn."""

    kind: str = "branching"
    """branching: try commands and play on; monte_carlo: mean returns of the rollouts as they are (arXiv:2502.10325)."""
    states_per_episode: int = 10
    """At most so many states of each rollout, drawn at random."""
    expert_share: float = 0.0
    """Share of the states that come from demonstrations, as far as there are enough. The policy has imitated these, so
    where they are held out, figures of the reward model flatter it."""
    max_commands: int | None = None
    """Most commands tried at a state, drawn at random, the one taken among them; None for all."""
    completer: str = "expert"
    """Who plays on: policy, or a prover (arXiv:2410.08146) that acts from the texts alone: expert (ALFWorld's handcoded
    agent, VirtualHome's homekeeper, WebShop's shopper), random."""
    n: int = 1
    """Continuations of each command; one is enough for a completer that draws nothing."""
    gamma: float = GAMMA
    """Discount per step."""
    signed: bool = False
    """Map outcomes to [-1, 1] first, so that late failures are better than early ones."""
    workers: int = 2
    """Processes that play on; completer policy takes one."""
    chunk: int = 100
    """States estimated, and written, together."""

    def __post_init__(self) -> None:
        for kind, name, valid in (("kind of targets", self.kind, KINDS), ("completer", self.completer, COMPLETERS)):
            if name not in valid:
                raise UnknownNameError.of(kind, name, valid)
        check_gamma(self.gamma)
        _at_least(1, self, "states_per_episode", "n", "workers", "chunk")
        if not 0 <= self.expert_share < 1:
            raise ValueError(f"expert_share must be in [0, 1), got {self.expert_share}")
        if self.max_commands is not None and self.max_commands < 2:
            raise ValueError(f"max_commands must be at least 2 or None, got {self.max_commands}")


def _at_least(least: int, config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(config, name)}")


def loading(model: ModelConfig) -> dict[str, Any]:
    """How a model is loaded: which one it is is told by its fingerprint, wherever it lies."""
    return {name: value for name, value in asdict(model).items() if name != "model"}
