"""Claim: a process reward model lifts Best-of-N far above the policy that it judges, on unseen games, for every seed.

    python benchmarks/best_of_n.py [--seeds 0 1 2] [--output runs/best_of_n]

The main job (`agentgym-prm pipeline`, as `make demo` runs it) once for each seed: other demonstrations, other weights,
other rollouts; the 200 valid_unseen games are the same. Prints each seed's success and gates, then the means. A run
that was stopped is continued. Best without anything else running; one thread is as fast as two for so small a model.
"""

import argparse
import csv
import json
from pathlib import Path

import torch

from agentgym_prm.pipeline import PipelineConfig, run_pipeline


def rows(run: Path) -> dict[str, dict[str, str]]:
    """The summary's rows by agent or gate."""
    with (run / "summary.csv").open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def qualities(run: Path) -> dict[str, float]:
    """Pairwise accuracy on held-out states, by scorer."""
    record = json.loads((run / "prm" / "quality.json").read_text(encoding="utf-8"))
    return {name: quality["pairwise_accuracy"] for name, quality in record["scorers"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/best_of_n"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = {seed: options.output / f"seed{seed}" for seed in options.seeds}
    for seed, run in runs.items():
        print(f"--- seed {seed}", flush=True)
        run_pipeline(run, PipelineConfig(seed=seed), say=lambda line: print(line, flush=True))
    tables = {seed: rows(run) for seed, run in runs.items()}
    print(f"\n{'success':<26}" + "".join(f"{f'seed {seed}':>9}" for seed in runs) + f"{'mean':>9}")
    for name, row in tables[options.seeds[0]].items():
        if not row["verdict"]:
            success = [float(table[name]["success"]) for table in tables.values()]
            print(f"{name:<26}" + "".join(f"{each:>9.1%}" for each in [*success, sum(success) / len(success)]))
    accuracies = [qualities(run) for run in runs.values()]
    print(f"\n{'pairwise accuracy':<26}")
    for name in accuracies[0]:
        values = [each[name] for each in accuracies]
        print(f"{name:<26}" + "".join(f"{each:>9.3f}" for each in [*values, sum(values) / len(values)]))
    for seed, table in tables.items():
        print(f"\nseed {seed}", *(f"{name}: {row['verdict']}" for name, row in table.items() if row["verdict"]), sep="\n  ")


if __name__ == "__main__":
    main()
