import pytest


@pytest.fixture(scope="session")
def labels_folder(data_folder):
    """Samples of step labels in the forms that they are distributed in."""
    folder = data_folder / "prm_labels"
    needed = folder / "processbench_gsm8k.jsonl.gz"
    if not needed.is_file():
        pytest.skip(f"no {needed}: samples of step labels in their distributed forms")
    return folder
