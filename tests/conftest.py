import os
from pathlib import Path

import pytest

DATA_VARIABLE = "AGENTGYM_PRM_TEST_DATA"
REPOSITORY = Path(__file__).parent.parent


def data_path() -> Path:
    """Where the benchmarks' own data should be."""
    return Path(os.environ.get(DATA_VARIABLE, REPOSITORY / "../shared/data")).resolve()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the benchmarks' own data, which tests read where it is there."""
    folder = data_path()
    needed = folder / "alfworld" / "valid_seen.jsonl.xz"
    if not needed.is_file():
        pytest.skip(f"no {needed}: let ${DATA_VARIABLE} name the folder that holds alfworld/valid_seen.jsonl.xz")
    return folder
