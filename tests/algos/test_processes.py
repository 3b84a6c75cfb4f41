import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import accelerate
import pytest
import torch

from agentgym_prm.algos.processes import Processes
from agentgym_prm.store import read_trajectories
from tests.algos.launched import CONFIG, train

ROOT = Path(__file__).parents[2]


def test_without_a_launcher_this_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Processes.launched()
    assert (alone.rank, alone.count, alone.is_first) == (0, 1, True)
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    assert alone.gather([1, 2]) == [1, 2]
    parameter = torch.nn.Parameter(torch.ones(2))
    alone.sum_gradients([parameter])
    assert parameter.grad is None


def test_processes_that_are_not_connected_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", lambda cpu: SimpleNamespace(num_processes=1, process_index=0))
    with pytest.raises(RuntimeError, match="started 2 processes, but 1 are connected"):
        Processes.launched()


def test_shares_are_disjoint_and_complete():
    shares = [Processes(rank, 3).share(list(range(8))) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert [Processes(rank, 3).is_first for rank in range(3)] == [True, False, False]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_two_processes_train_what_one_does(tmp_path, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    launched = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "ACCELERATE_USE_CPU": "true",  # as accelerate launch --cpu; the others are torchrun's
    }
    command = [sys.executable, "-m", "tests.algos.launched", str(tmp_path / "two")]
    running = [
        subprocess.Popen(
            command, env={**launched, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, cwd=ROOT
        )
        for rank in range(2)
    ]
    train(tmp_path / "one")
    try:
        for process in running:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors.decode()
    finally:
        for process in running:
            process.kill()
    one = torch.load(tmp_path / "one" / "0.pt")
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt") for rank in range(2))
    assert (one["processes"], first["processes"], second["processes"]) == (1, 2, 2)
    assert torch.equal(first["weights"], second["weights"])
    # AdamW takes a step of about the learning rate, 1e-3, whatever the size of a gradient: float32 sums in another
    # order tell where one is near 0, so that single weights may be a part of a step apart.
    gaps = (first["weights"] - one["weights"]).abs()
    assert gaps.max() < CONFIG.learning_rate
    assert gaps.mean() < 1e-3 * CONFIG.learning_rate
    # What is written, is written by the first, and once.
    assert (len(first["saved"]), second["saved"]) == (3, [])
    lines = [json.loads(line) for line in (tmp_path / "two" / "run" / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (tmp_path / "one" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 3]
    for line, other in zip(lines, expected, strict=True):
        timeless = {name: value for name, value in other.items() if not name.startswith("time/")}
        assert {name: line[name] for name in timeless} == pytest.approx(timeless, rel=1e-3, abs=1e-5)
    for update in (1, 2, 3):
        name = f"run/rollouts/{update:06d}.jsonl"
        played, alone = (list(read_trajectories(tmp_path / folder / name)) for folder in ("two", "one"))
        assert [each.episode for each in played] == [each.episode for each in alone]
        commands = [[step.action.command for each in part for step in each.steps] for part in (played, alone)]
        assert commands[0] == commands[1]
