"""Targets for data sets that memory does not hold: trajectories -> Parquet of steps -> Parquet of targets.

The same quantities as in ``targets.py``, by Polars' streaming engine (extra ``[data]``). ``write_steps`` makes one pass
over the trajectories (a file, or a running ``rollout.stream``) and writes shards with one row a step; the functions
``write_…_targets`` and ``write_preferences`` read from them only the columns they need, in several passes over disjoint
sets of histories if there are many, so memory does not grow with the data; only ``write_shaped_targets`` holds the
values of all histories at once (some fifty bytes each).

Columns of steps:

================= ======= =============================================================================================
``history``       u64     key of the history before the step, see ``identity.py``
``next_history``  u64     key of the history after it; null on the last step of an episode
``command``       str     what was done
``return_to_go``  f64     of the outcome, at the table's ``gamma``
``steps_to_end``  i32     0 on the last step
``task_id``       str     by which train and held-out rows are told apart
``position``      i64     shard number * 2**32 + row: where ``StepTable.visits`` finds the step again
the others                all that makes the episode's ``History`` and ``Action`` again, exactly
================= ======= =============================================================================================

An episode never straddles shards. Values are rounded to 12 digits, because the engine adds in no fixed order. Data are
split by task *before* means are taken: a history that tasks of both sides share has a row, with its own value, on each.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentgym_prm.errors import MissingDependencyError, StoreError
from agentgym_prm.rewards.identity import history_keys
from agentgym_prm.rewards.targets import (
    GAMMA,
    PREFERENCE_MARGIN,
    SHAPING_CONSTANT,
    TRAIN_SHARE,
    outcome_returns,
    task_split,
)
from agentgym_prm.types import Action, History, Step, Trajectory

if TYPE_CHECKING:
    from polars import DataFrame, LazyFrame

TABLE_VERSION: Final = 1
SHARD_ROWS: Final = 100_000
ROWS_A_PASS: Final = 4_000_000
_MANIFEST: Final = "table.json"
_DIGITS: Final = 12
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def _polars() -> Any:
    try:
        return import_module("polars")
    except ImportError as error:
        raise MissingDependencyError("Polars is not installed: pip install 'agentgym_prm[data]'") from error


# --- steps ---


class StepTable:
    """A finished folder that ``write_steps`` made.

    Attributes:
        folder: Where it is.
        gamma: Discount of ``return_to_go``.
        steps: Number of rows.
        episodes: Number of trajectories.

    Raises:
        StoreError: The folder holds no finished table, or one of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            manifest = json.loads((self.folder / _MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(f"{self.folder} holds no finished table of steps: write_steps makes one") from error
        if manifest["table_version"] != TABLE_VERSION:
            raise StoreError(f"{self.folder} is of table_version {manifest['table_version']}, not {TABLE_VERSION}")
        self.gamma = float(manifest["gamma"])
        self.steps, self.episodes, self.shards = (int(manifest[name]) for name in ("steps", "episodes", "shards"))

    def scan(self) -> "LazyFrame":
        """All steps, lazily."""
        frame: LazyFrame = _polars().scan_parquet([_shard(self.folder, number) for number in range(self.shards)])
        return frame

    def visits(self, positions: Iterable[int], *, shards_in_memory: int = 2) -> Iterator[tuple[History, Action]]:
        """The history and the action of steps, in the order asked for; fast if that is by rising position.

        Args:
            positions: Values of the column ``position``.
            shards_in_memory: How many shards are kept open.
        """
        kept: OrderedDict[int, DataFrame] = OrderedDict()
        for position in positions:
            number, row = divmod(position, 2**32)
            if number not in kept:
                kept[number] = _polars().read_parquet(_shard(self.folder, number))
                if len(kept) > shards_in_memory:
                    kept.popitem(last=False)
            turn = int(kept[number]["turn"][row])
            yield _visit(kept[number].slice(row - turn, turn + 1).to_dicts())


def write_steps(
    trajectories: Iterable[Trajectory], folder: str | Path, *, gamma: float = GAMMA, shard_rows: int = SHARD_ROWS
) -> StepTable:
    """Write one row for each step; holds one shard in memory.

    Args:
        trajectories: Read once: ``read_trajectories(path)``, or ``stream(…)`` while it plays.
        folder: Made if missing. What a killed run left there is written over.
        gamma: Discount of the returns, in ``[0, 1]``.
        shard_rows: A shard ends with the episode that reaches so many rows.

    Raises:
        FileExistsError: ``folder`` holds a finished table.
    """
    folder = Path(folder)
    if (folder / _MANIFEST).exists():
        raise FileExistsError(f"{folder} holds a table of steps: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Any, ...]] = []
    steps = episodes = shards = 0
    for trajectory in trajectories:
        rows += _rows(trajectory, gamma, shards, len(rows))
        episodes += 1
        if len(rows) >= shard_rows:
            steps += _write_shard(rows, folder, shards)
            shards, rows = shards + 1, []
    if rows or not shards:
        steps += _write_shard(rows, folder, shards)
        shards += 1
    manifest = {
        "table_version": TABLE_VERSION,
        "gamma": gamma,
        "steps": steps,
        "episodes": episodes,
        "shards": shards,
    }
    temporary = folder / f"{_MANIFEST}.tmp"
    temporary.write_text(json.dumps(manifest) + "\n", encoding="utf-8")
    temporary.replace(folder / _MANIFEST)
    return StepTable(folder)


def _schema() -> dict[str, Any]:
    pl = _polars()
    return {
        "position": pl.Int64,
        "history": pl.UInt64,
        "next_history": pl.UInt64,
        "command": pl.String,
        "return_to_go": pl.Float64,
        "steps_to_end": pl.Int32,
        "task_id": pl.String,
        "task_type": pl.String,
        "task": pl.String,
        "seed": pl.Int64,
        "episode": pl.Int64,
        "turn": pl.Int32,
        "observation": pl.String,
        "admissible_commands": pl.String,  # a JSON list: as a Polars list it takes forty times as long to make
        "step": pl.String,  # the rest of the step, as JSON
    }


def _shard(folder: Path, number: int) -> Path:
    return folder / f"steps-{number:05d}.parquet"


def _rows(trajectory: Trajectory, gamma: float, shard: int, first_row: int) -> Iterator[tuple[Any, ...]]:
    keys: list[int | None] = [*history_keys(trajectory), None]
    returns = outcome_returns(trajectory, gamma, signed=False).tolist()
    last = len(returns) - 1
    for turn, step in enumerate(trajectory.steps):
        yield (
            shard * 2**32 + first_row + turn,
            keys[turn],
            keys[turn + 1],
            _utf8(step.action.command),
            returns[turn],
            last - turn,
            trajectory.task_id,
            trajectory.task_type,
            trajectory.task,
            trajectory.seed,
            trajectory.episode,
            turn,
            _utf8(step.observation),
            _admissible_json(step.admissible_commands),
            _rest_json(step),
        )


@lru_cache(maxsize=4096)
def _admissible_json(commands: tuple[str, ...]) -> str:
    return json.dumps(commands)


def _rest_json(step: Step) -> str:
    """What ``Step.to_json`` has and no column of its own holds."""
    action = step.action.to_json()
    del action["command"]
    record: dict[str, Any] = {"action": action, "info": dict(step.info), "outcome_reward": step.outcome_reward}
    if step.process_reward or step.terminated or step.truncated:
        record |= {"process_reward": step.process_reward, "terminated": step.terminated, "truncated": step.truncated}
    # Parquet's texts are UTF-8, which half a surrogate pair is not; JSON writes it as an escape.
    for name, text in (("observation", step.observation), ("command", step.action.command)):
        if _utf8(text) != text:
            record[name] = text
    return _ENCODER.encode(record)


def _utf8(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _write_shard(rows: Sequence[tuple[Any, ...]], folder: Path, number: int) -> int:
    pl, schema = _polars(), _schema()
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    frame = pl.DataFrame(
        [pl.Series(name, list(column), dtype=schema[name]) for name, column in zip(schema, columns, strict=True)]
    )
    _replace(frame.lazy(), _shard(folder, number))
    return len(rows)


def _visit(rows: Sequence[dict[str, Any]]) -> tuple[History, Action]:
    """The history before the last of an episode's rows, and what was done there."""
    steps = []
    for row in rows:
        record = json.loads(row["step"])
        record["action"]["command"] = record.pop("command", row["command"])
        record.setdefault("observation", row["observation"])
        record["admissible_commands"] = json.loads(row["admissible_commands"])
        steps.append(Step.from_json(record))
    first = rows[0]
    trajectory = Trajectory(
        first["task"], first["seed"], tuple(steps), "", first["task_id"], first["task_type"], first["episode"]
    )
    return trajectory.history(len(steps) - 1), steps[-1].action


# --- targets ---


def write_q_targets(
    steps: StepTable,
    folder: str | Path,
    *,
    signed: bool = True,
    seed: int = 0,
    train_share: float = TRAIN_SHARE,
    rows_a_pass: int = ROWS_A_PASS,
) -> "LazyFrame":
    """Monte-Carlo Q targets, as ``targets.q_targets``.

    Args:
        steps: The steps.
        folder: For the Parquet files; what an earlier call left there is written over.
        signed: Map outcomes to [-1, 1] inside and means back to [0, 1].
        seed: Of the split by task.
        train_share: Of the tasks, by ``targets.task_split``.
        rows_a_pass: About how many steps are aggregated at a time, which bounds the memory.

    Returns:
        The rows written, lazily: ``split, history, command, q, visits, position``, the latter that of the first visit.
    """
    return _write_means(
        steps,
        folder,
        "q",
        ["split", "history", "command"],
        signed=signed,
        seed=seed,
        train_share=train_share,
        rows_a_pass=rows_a_pass,
    )


def write_v_targets(
    steps: StepTable,
    folder: str | Path,
    *,
    signed: bool = True,
    seed: int = 0,
    train_share: float = TRAIN_SHARE,
    rows_a_pass: int = ROWS_A_PASS,
) -> "LazyFrame":
    """Monte-Carlo V targets, as ``targets.v_targets``; ``split, history, v, visits, position``, else as for Q."""
    return _write_means(
        steps,
        folder,
        "v",
        ["split", "history"],
        signed=signed,
        seed=seed,
        train_share=train_share,
        rows_a_pass=rows_a_pass,
    )


def write_preferences(
    q_targets: "LazyFrame",
    folder: str | Path,
    *,
    delta: float = PREFERENCE_MARGIN,
    rows_a_pass: int = ROWS_A_PASS,
) -> "LazyFrame":
    """All pairs of commands after one history whose Q differ by more than ``delta``, as ``targets.preference_pairs``.

    Args:
        q_targets: What ``write_q_targets`` returned.
        folder: For the Parquet files; what an earlier call left there is written over.
        delta: Smallest difference that counts, at least 0.
        rows_a_pass: About how many targets are compared at a time, which bounds the memory.

    Returns:
        The rows written, lazily: ``split, history, chosen, rejected, margin, position, position_rejected``.
    """
    pl = _polars()
    if delta < 0:
        raise ValueError(f"delta must be at least 0, got {delta}")
    keys = ["split", "history"]
    count = q_targets.select(pl.len()).collect(engine="streaming").item()
    paths = _part_paths(folder, "pairs", count, rows_a_pass)
    for number, path in enumerate(paths):
        targets = _pass(q_targets.select(*keys, "command", "q", "position"), number, len(paths))
        branching = targets.group_by(keys).len().filter(pl.col("len") > 1).select(keys)
        several = targets.join(branching, on=keys, how="semi")
        _replace(
            several.join(several, on=keys, suffix="_rejected")
            .filter(pl.col("q") > pl.col("q_rejected") + delta)
            .select(
                *keys,
                pl.col("command").alias("chosen"),
                pl.col("command_rejected").alias("rejected"),
                (pl.col("q") - pl.col("q_rejected")).alias("margin"),
                "position",
                "position_rejected",
            )
            .sort("position", "position_rejected"),
            path,
        )
    frame: LazyFrame = pl.scan_parquet(paths)
    return frame


def write_shaped_targets(
    steps: StepTable, v_targets: "LazyFrame", path: str | Path, *, c: float = SHAPING_CONSTANT
) -> int:
    """Shaped returns and soft labels, as ``targets.shaped_targets``.

    Args:
        steps: The steps.
        v_targets: ``history`` and ``v`` of the reference policy, plain returns (``signed=False``), one row a history.
        path: Parquet file: ``position, q, label``.
        c: Steepness of the labels.

    Returns:
        How many steps were left out because the reference policy has no value for a history they need.

    Raises:
        ValueError: There is nothing to label, or no scale to label it by.
    """
    pl = _polars()
    target, raw = Path(path), Path(path).with_suffix(".raw.tmp")
    v_here = v_targets.select("history", "v")
    v_next = v_targets.select(pl.col("history").alias("next_history"), pl.col("v").alias("v_next"))
    is_last = pl.col("steps_to_end") == 0
    shaped = pl.col("return_to_go") + steps.gamma * pl.col("v_next") - pl.col("v")
    _replace(
        steps.scan()
        .select("position", "history", "next_history", "return_to_go", "steps_to_end")
        .join(v_here, on="history", how="left")
        .join(v_next, on="next_history", how="left")
        .select("position", pl.when(is_last).then(pl.col("return_to_go")).otherwise(shaped).alias("q"))
        .drop_nulls("q")
        .sort("position"),
        raw,
    )
    frame = pl.scan_parquet(raw)
    q = pl.col("q")
    count, mean, low, high = (
        frame.select(
            q.len().alias("count"),
            q.mean().alias("mean"),
            q.quantile(0.25, "linear").alias("low"),
            q.quantile(0.75, "linear").alias("high"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if not count or not high - low > 1e-9:
        raw.unlink()
        raise ValueError(
            f"no scale to label {count} values by: their middle half lies at {low}: collect rollouts that both win and "
            "fail, or use a value function that tells histories apart"
        )
    logit = c / (high - low) * (q - mean)
    _replace(frame.with_columns((1 / (1 + (-logit).exp())).alias("label")), target)
    raw.unlink()
    return int(steps.steps - count)


def _write_means(
    steps: StepTable,
    folder: str | Path,
    value: str,
    keys: Sequence[str],
    *,
    signed: bool,
    seed: int,
    train_share: float,
    rows_a_pass: int,
) -> "LazyFrame":
    pl = _polars()
    splits = _splits(steps, seed, train_share)
    target = pl.col("return_to_go")
    if signed:
        _check_outcomes(steps)
        target = 2 * target - pl.lit(steps.gamma, dtype=pl.Float64).pow(pl.col("steps_to_end"))
    mean = target.mean()
    paths = _part_paths(folder, value, steps.steps, rows_a_pass)
    for number, path in enumerate(paths):
        columns = ["position", "history", "command", "return_to_go", "steps_to_end", "task_id"]
        rows = steps.scan().select(column for column in columns if column in keys or column != "command")
        _replace(
            _pass(rows, number, len(paths))
            .join(splits.lazy(), on="task_id")
            .group_by(keys)
            .agg(
                ((mean + 1) / 2 if signed else mean).round(_DIGITS).alias(value),
                pl.len().cast(pl.Int64).alias("visits"),
                pl.col("position").min(),
            )
            .sort("position"),
            path,
        )
    frame: LazyFrame = pl.scan_parquet(paths)
    return frame


def _part_paths(folder: str | Path, name: str, rows: int, rows_a_pass: int) -> list[Path]:
    """One new file for each pass; files of an earlier call are removed, or they would be read along."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{name}-*.parquet"):
        stale.unlink()
    return [folder / f"{name}-{number:03d}.parquet" for number in range(max(1, -(-rows // rows_a_pass)))]


def _pass(frame: "LazyFrame", number: int, passes: int) -> "LazyFrame":
    """The rows of this pass: each history is in one of them, with all its rows."""
    return frame.filter(_polars().col("history") % passes == number) if passes > 1 else frame


def _splits(steps: StepTable, seed: int, train_share: float) -> "DataFrame":
    """The side of the split of every task in the table."""
    pl = _polars()
    tasks = steps.scan().select(pl.col("task_id").unique()).collect(engine="streaming")["task_id"].to_list()
    sides = [task_split(task, seed, train_share) for task in tasks]
    frame: DataFrame = pl.DataFrame(
        {"task_id": tasks, "split": sides}, schema={"task_id": pl.String, "split": pl.String}
    )
    return frame


def _check_outcomes(steps: StepTable) -> None:
    """Signed targets need returns that mapped outcomes can have."""
    pl = _polars()
    low, high = (
        steps.scan()
        .select(pl.col("return_to_go").min().alias("low"), pl.col("return_to_go").max().alias("high"))
        .collect(engine="streaming")
        .row(0)
    )
    if low is not None and not 0 <= low <= high <= 1:
        raise ValueError(f"signed targets need outcomes in [0, 1], got returns from {low} to {high}")


def _replace(frame: "LazyFrame", path: Path) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.part")
    frame.sink_parquet(temporary, engine="streaming")
    temporary.replace(path)
