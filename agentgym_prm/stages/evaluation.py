"""What policy and reward model are worth together, and whether that is enough: the gates."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from agentgym_prm.agents.best_of_n import BestOfN
from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.scripted import RandomAgent
from agentgym_prm.envs import ALFWORLD, TOY, VIRTUALHOME, WEBSHOP
from agentgym_prm.envs.virtualhome.experts import PlannerExpert
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from agentgym_prm.envs.webshop.experts import Oracle as ShopOracle
from agentgym_prm.errors import UsageError
from agentgym_prm.evaluate import EvalReport, PairedDifference, evaluate, paired_difference
from agentgym_prm.models import ModelConfig, load_model
from agentgym_prm.rewards.baselines import LikelihoodScorer
from agentgym_prm.rewards.core import RandomScorer, StepScorer
from agentgym_prm.rewards.oracle import Chooser, EnvReplay, ExpertScorer, GameReplay, PlannerScorer, ToyOracle
from agentgym_prm.rewards.prm import ProcessRewardModel
from agentgym_prm.stages.config import (
    GamesConfig,
    PolicyConfig,
)
from agentgym_prm.stages.form import (
    Say,
    read_json,
    run_stage,
)
from agentgym_prm.stages.policy import policy_agent
from agentgym_prm.stages.reward import QUALITY_GATE
from agentgym_prm.types import History

_LOG: Final = logging.getLogger(__name__)
SUCCESS: Final = "success_"
"""What the results of agents are called, before their names."""
ORACLE_GATE: Final = 0.20
"""What choosing with the oracle should bring over the policy, or there is nothing for a reward model to gain."""
GAIN_GATE: Final = 0.15
"""What choosing with the reward model should bring over the policy."""
SHARE_GATE: Final = 0.5
"""... and which share of the oracle's gain."""
POLICY_GATE: Final = 0.20
"""What the policy that was trained against the reward model should bring over imitation."""
TRAINED: Final = "policy"
"""What the policy that was trained by more than imitation is called."""


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """How policy and reward model are judged together."""

    episodes: int = 200
    """Games of the evaluation split, from the first on; at most all of them."""
    best_of: tuple[int, ...] = (4, 8, 16)
    """Candidates a turn among which the reward model chooses."""
    control_n: int = 8
    """Candidates a turn of the controls (random, likelihood, oracle) and of the gates."""
    baselines: bool = True
    """Also judge the random agent and the expert that reads texts, where the environment has one."""

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.control_n < 2 or any(n < 2 for n in self.best_of):
            raise ValueError(
                f"need episodes >= 1, control_n >= 2 and best_of >= 2, got {self.episodes}, {self.control_n} and "
                f"{self.best_of}"
            )


@dataclass(frozen=True, slots=True)
class Trained:
    """A policy trained against a reward model, and that model's folder."""

    model: ModelConfig
    prm: str | Path


def evaluate_run(
    folder: str | Path,
    model: ModelConfig,
    prm: str | Path,
    config: EvalConfig,
    policy: PolicyConfig,
    games: GamesConfig,
    *,
    trained: Trained | None = None,
    seed: int = 0,
    say: Say = _LOG.info,
) -> dict[str, Any]:
    """Play the evaluation games with the policy, with Best-of-N under several scorers, and with outer baselines.

    Args:
        folder: The stage's folder; each agent has one in it.
        model: The policy.
        prm: Folder of the reward model.
        config: What is judged.
        policy: How the policy acts.
        games: Which games.
        trained: A policy that was trained further, which is judged too: alone, and in Best-of-N with its own reward
            model.
        seed: Of the agents' draws.
        say: Gets one line about each agent, and one about the stage.

    Returns and raises as ``stages.run_stage``; the results are the agents' success rates and the gates.
    """
    folder = Path(folder)
    settings = {"eval": config, "policy": policy, "games": games, "seed": seed}

    def work() -> dict[str, Any]:
        reports = {}
        for name, make in contestants(model, prm, config, policy, games, seed, trained).items():
            reports[name] = evaluate(
                make(),
                games.env,
                range(min(config.episodes, games.size(games.eval_split))),
                num_envs=games.num_envs,
                run_dir=folder / name,
                resume=True,
                progress=True,
                settings={"agent_seed": seed, "mode": policy.mode, "temperature": policy.temperature},
                **games.kwargs(games.eval_split),
            )
            overall = reports[name].overall
            interval = f"[{overall.success_low:.1%}, {overall.success_high:.1%}]"
            say(f"  {name:<24}{overall.success:7.1%} {interval}, score {overall.mean_score:.2f}")
        success = {SUCCESS + name: report.overall.success for name, report in reports.items()}
        judged = gates(reports, config.control_n, quality_accuracy(Path(prm).parent))
        return success | {f"gate: {gate.claim}": str(gate) for gate in judged}

    builds_on: dict[str, str | Path] = {"policy": model.model, "prm": prm}
    if trained is not None:
        builds_on |= {"trained policy": trained.model.model, "its prm": trained.prm}
    return run_stage(folder, settings, work, builds_on=builds_on, say=say, figures=False)


def contestants(
    model: ModelConfig,
    prm: str | Path,
    config: EvalConfig,
    policy: PolicyConfig,
    games: GamesConfig,
    seed: int,
    trained: Trained | None = None,
) -> dict[str, Callable[[], Agent]]:
    """What is judged, by name; the models are loaded once, the oracle's games when it is asked for."""
    loaded = load_model(model)
    sampled = policy_agent(*loaded, policy, seed=seed)
    greedy = policy_agent(*loaded, policy, seed=seed, name="sft_greedy", temperature=0.0)
    judge = _judge(prm, model)

    def best_of(n: int, scorer: Callable[[], StepScorer]) -> Callable[[], Agent]:
        return lambda: BestOfN(sampled, scorer(), n)

    n = config.control_n
    agents: dict[str, Callable[[], Agent]] = {"sft": lambda: sampled, "sft_greedy": lambda: greedy}
    if trained is not None:
        player = policy_agent(*load_model(trained.model), policy, seed=seed, name=TRAINED)
        own_judge = _judge(trained.prm, trained.model)
        agents[TRAINED] = lambda: player
        agents[f"{TRAINED}_best_of_{n}_prm"] = lambda: BestOfN(player, own_judge, n)
    agents |= {f"best_of_{count}_prm": best_of(count, lambda: judge) for count in sorted({*config.best_of, n})}
    agents[f"best_of_{n}_random"] = best_of(n, lambda: RandomScorer(seed))
    agents[f"best_of_{n}_likelihood"] = best_of(n, lambda: LikelihoodScorer(sampled))
    if games.env in (ALFWORLD, TOY, VIRTUALHOME, WEBSHOP):
        agents[f"best_of_{n}_oracle"] = best_of(n, lambda: oracle(games))
    if config.baselines:
        agents["random"] = lambda: RandomAgent(seed)
        if games.family.make_text_expert is not None:
            agents[games.family.text_expert] = partial(games.family.make_text_expert, games.cap)
    return agents


def _judge(prm: str | Path, model: ModelConfig) -> ProcessRewardModel:
    return ProcessRewardModel.load(prm, device=model.device, dtype=model.dtype, attention=model.attention)


def oracle(games: GamesConfig) -> StepScorer:
    """The scorer that knows the game of the evaluation split; ``UsageError`` if the environment has none."""
    if games.env == TOY:
        return ToyOracle()
    if games.env in (VIRTUALHOME, WEBSHOP):
        replay: Callable[[History], Any] = EnvReplay(games.env, **games.kwargs(games.eval_split))
        make_expert: Callable[[Any], Chooser] = ShopOracle if games.env == WEBSHOP else _HomePlanner
        return ExpertScorer(replay, make_expert, max_episode_steps=games.cap)
    if games.env != ALFWORLD:
        raise UsageError(f"{games.env} has no oracle")
    return PlannerScorer(
        GameReplay(data=games.data, split=games.eval_split, difficulty=games.difficulty, put_grammar=games.put_grammar)
    )


class _HomePlanner:
    """The planner of VirtualHome, which does what it says."""

    def __init__(self, engine: TextEngine) -> None:
        self._expert, self._last = PlannerExpert(engine), ""
        self._expert.begin()

    def choose(self) -> str:
        """A command for the engine's present state, to be given next."""
        if self._last:
            self._expert.observe(self._last)
        self._last = self._expert.choose()
        return self._last


# --- gates ---


@dataclass(frozen=True, slots=True)
class Gate:
    """A claim, whether it holds, and the figures; ``paired`` where these are a difference of success rates."""

    claim: str
    passed: bool
    figures: str
    paired: PairedDifference | None = None

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}: {self.figures}"


def gates(reports: Mapping[str, EvalReport], n: int, accuracy: float | None) -> list[Gate]:
    """Whether there is something to gain, whether the reward model can tell, and whether it gains.

    Args:
        reports: By agent, as ``contestants`` names them.
        n: Candidates a turn.
        accuracy: Pairwise accuracy of the reward model on held-out states.
    """
    judged = []
    most = None
    if f"best_of_{n}_oracle" in reports:
        most = versus(reports, f"best_of_{n}_oracle")
        claim = f"oracle best-of-{n} gains at least {100 * ORACLE_GATE:.0f} points over sft"
        judged.append(Gate(claim, most.difference >= ORACLE_GATE, points(most), most))
    figures = "not judged" if accuracy is None else f"{accuracy:.3f}"
    claim = f"pairwise accuracy on held-out states at least {QUALITY_GATE}"
    judged.append(Gate(claim, accuracy is not None and accuracy >= QUALITY_GATE, figures))
    gain = versus(reports, f"best_of_{n}_prm")
    claim = f"prm best-of-{n} gains at least {100 * GAIN_GATE:.0f} points over sft"
    judged.append(Gate(claim, gain.difference >= GAIN_GATE, points(gain), gain))
    if most is not None:
        share = gain.difference / most.difference if most.difference > 0 else 0.0
        claim = f"prm best-of-{n} gains at least {SHARE_GATE:.0%} of what the oracle gains"
        judged.append(Gate(claim, share >= SHARE_GATE, f"{share:.0%}"))
    if TRAINED in reports:
        gain = versus(reports, TRAINED)
        claim = f"trained policy gains at least {100 * POLICY_GATE:.0f} points over sft"
        judged.append(Gate(claim, gain.difference >= POLICY_GATE, points(gain), gain))
    return judged


def versus(reports: Mapping[str, EvalReport], name: str) -> PairedDifference:
    """How much more often an agent wins than the policy as it is sampled."""
    return paired_difference(reports[name].results, reports["sft"].results)


def points(paired: PairedDifference) -> str:
    """The difference and its interval, in percentage points."""
    return f"{100 * paired.difference:+.1f} [{100 * paired.low:+.1f}, {100 * paired.high:+.1f}] points"


def quality_accuracy(folder: Path) -> float | None:
    """The reward model's pairwise accuracy, from its stage's ``quality.json``; ``None`` if it was not judged."""
    scorers = read_json(folder / "quality.json").get("scorers", {})
    return float(scorers["prm"]["pairwise_accuracy"]) if "prm" in scorers else None
