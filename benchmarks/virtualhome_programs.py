"""Claim: the benchmark's programs, given as text commands, reach their goals wherever the original executor does.

    VIRTUALHOME_HOME=... python -m benchmarks.virtualhome_programs [--tasks 388]

Each task's program is played line by line as text commands, and as script lines in the original if $VIRTUALHOME_HOME
names a checkout. Reported: how many commands need an id beside the class name, how many programs are executed to the
end and how many reach the goal (``vh_goal``, else what the program changed), why lines are refused, and whether text
and original agree in every line and in the end. Also: in how many of these tasks each expert reaches the goal within 40
commands, and commands a second with the admissible ones listed every time.
"""

import argparse
import os
import re
import time
from collections import Counter

from agentgym_prm.envs.virtualhome.commands import parse_command
from agentgym_prm.envs.virtualhome.env import VirtualHomeEnv
from agentgym_prm.envs.virtualhome.experts import EXPERTS
from agentgym_prm.envs.virtualhome.files import open_tasks
from agentgym_prm.envs.virtualhome.goal import Edge, Goal, InState, InStates
from agentgym_prm.envs.virtualhome.task import Task
from agentgym_prm.envs.virtualhome.text_engine import TextEngine
from agentgym_prm.types import InfoKey
from tests.live.virtualhome_original import HOME_VARIABLE, Original
from tests.live.virtualhome_parity import data_folder

CAP = 40


def holds_in_original(goal: Goal, original: Original, performed: set[str]) -> bool:
    """Whether the original's graph fulfils a goal, read off its own JSON form."""
    states, edges = original.read()
    fulfilled = []
    for each in goal.conditions:
        if isinstance(each, InState):
            fulfilled.append(each.state.name in states[each.node])
        elif isinstance(each, InStates):
            fulfilled.append({state.name for state in each.states} == states[each.node])
        elif isinstance(each, Edge):
            fulfilled.append(((each.start, each.relation.name, each.stop) in edges) is each.wanted)
        else:
            fulfilled.append(any(action.name in performed for action in each.actions))
    return all(fulfilled)


def replay(task: Task, counts: Counter[str], refusals: Counter[str], compare: bool) -> None:
    """Play one program; what came of it is added to the counts."""
    engine, refused, ids = TextEngine(), 0, 0
    engine.reset(task)
    original = Original(task.apartment.as_json()) if compare else None
    performed: set[str] = set()
    agree = True
    for line in task.program:
        command = engine.command_for(line)
        parsed = parse_command(command)
        ids += parsed is not None and any(name.id is not None for name in parsed.names)
        engine.step(command)
        if not engine.valid:
            refused += 1
            told = re.sub(r"<[^>]*> \(\d+\)", "X", engine.error.partition(" when executing")[0])
            refusals[f"{line.action.name}: {told}"] += 1
        if original is not None:
            success = original.execute(str(line)).success
            performed |= {line.action.name} if success else set()
            agree = agree and success == engine.valid
    counts["programs"] += 1
    counts["programs with an id in a command"] += ids > 0
    counts["executed to the end"] += refused == 0
    counts["reach the goal"] += engine.won
    counts["executed to the end, goal not reached"] += refused == 0 and not engine.won
    if original is not None:
        won = holds_in_original(task.goal, original, performed)
        counts["original: reach the goal"] += won
        counts["text and original agree in every line and the outcome"] += agree and won == engine.won


def play(expert: str, count: int) -> tuple[int, int, float]:
    """Tasks won by an expert, commands given, and seconds."""
    env = VirtualHomeEnv(data=data_folder(), split="all", expert=expert)
    won = given = 0
    seconds = 0.0
    for index in range(count):
        _, info = env.reset(options={"task": index})
        start, terminated = time.process_time(), False
        for _ in range(CAP):
            if terminated or not info[InfoKey.EXPERT_ACTION]:
                break
            *_, terminated, _, info = env.step(info[InfoKey.EXPERT_ACTION])
            given += 1
        seconds += time.process_time() - start
        won += info[InfoKey.WON]
    return won, given, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=388)
    arguments = parser.parse_args()
    tasks = open_tasks(data_folder(), "all", "full", "activity")
    count = min(arguments.tasks, len(tasks))
    counts: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    for index in range(count):
        replay(tasks.task(index), counts, refusals, compare=HOME_VARIABLE in os.environ)
    for name, number in counts.items():
        print(f"{name:<60}{number:>6}")
    print("refused lines:")
    for name, number in refusals.most_common(8):
        print(f"  {name:<58}{number:>6}")
    for expert in EXPERTS:
        won, given, seconds = play(expert, count)
        print(f"expert {expert:<12} wins {won} of {count}; {given / max(seconds, 1e-9):,.0f} commands/s with info")


if __name__ == "__main__":
    main()
