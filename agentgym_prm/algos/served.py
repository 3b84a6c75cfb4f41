"""Training on what an inference engine samples: the policy's weights are handed to it before each update."""

import shutil
from pathlib import Path

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.tokens import EngineAgent
from agentgym_prm.algos.core import Rollouts, Source, TrainerConfig
from agentgym_prm.algos.processes import Processes
from agentgym_prm.types import Trajectory


class ServedRollouts(Source):
    """Fresh ones, played by an engine with the policy's present weights.

    They travel by disk: a folder for each update, the last of which is kept. Of a policy with LoRA adapters the adapter
    alone is written. How far engine and trainer disagree is ``sampler/logprob_gap``; old log-probabilities are the
    trainer's, as for ``Rollouts``. Evaluations play with the policy's own agent.

    Left out: transfer over NCCL or shared memory, sampling while training, a policy that chooses among commands.

    Args:
        rollouts: Which tasks, and where they are played.
        sampler: With the policy's tokenizer, prompt, temperature and longest reply.
        folder: Where weights are written; a server must see it under the same path.
    """

    fresh = True

    def __init__(self, rollouts: Rollouts, sampler: EngineAgent, folder: str | Path) -> None:
        self._rollouts, self._sampler, self._folder = rollouts, sampler, Path(folder).absolute()

    def batch(self, agent: Agent, update: int, config: TrainerConfig, processes: Processes) -> list[Trajectory]:
        """As ``Source.batch``.

        Raises:
            ValueError: The policy chooses among commands or has another temperature than the sampler, or several
                processes train with an engine that is not a server.
            ServiceError: The engine cannot reload its weights.
        """
        if not isinstance(agent, LocalAgent) or agent.mode != "generate":
            raise ValueError("an engine samples replies token by token: the policy must have mode 'generate'")
        if agent.temperature != self._sampler.temperature:
            raise ValueError(
                f"the sampler's temperature is {self._sampler.temperature}, the policy's is {agent.temperature}: they "
                "must be the same"
            )
        if processes.count > 1 and not self._sampler.waits:
            raise ValueError("several processes share a server as their sampler, not an engine in each")
        if processes.is_first:
            self._hand_over(agent, update)
        processes.gather([])  # the others play when the server has the weights
        return self._rollouts.batch(self._sampler, update, config, processes)

    def _hand_over(self, agent: LocalAgent, update: int) -> None:
        # A folder of its own each time: engines may keep what they computed for a path that they know.
        folder = self._folder / f"update-{update}"
        shutil.rmtree(folder, ignore_errors=True)
        agent.model.save_pretrained(folder)
        self._sampler.reload(folder)
        for earlier in self._folder.glob("update-*"):
            if earlier != folder:
                shutil.rmtree(earlier)
