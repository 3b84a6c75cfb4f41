import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest

from agentgym_prm.envs.webshop.catalog import Catalogue, open_catalogue
from tests.conftest import DATA_VARIABLE, REPOSITORY

ORIGINAL = Path(__file__).parent / "original.json.xz"
"""What the original made of the 1,000 products; written by ``tests/live/webshop_record_rewards.py``."""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test reads or writes the user's cache; one cache serves all tests."""
    monkeypatch.setenv("AGENTGYM_PRM_CACHE", str(tmp_path_factory.getbasetemp() / "agentgym_prm_cache"))


@pytest.fixture(scope="session")
def shop_folder() -> Path:
    """The folder with WebShop's 1,000 products."""
    folder = Path(os.environ.get(DATA_VARIABLE, REPOSITORY / "../shared/data")).resolve() / "webshop"
    if not (folder / "items_shuffle_1000.json.gz").is_file():
        pytest.skip(
            f"no {folder / 'items_shuffle_1000.json.gz'}: let ${DATA_VARIABLE} name the folder that webshop/ is in"
        )
    return folder


@pytest.fixture
def real(shop_folder: Path) -> Catalogue:
    return open_catalogue(shop_folder)


@pytest.fixture(scope="session")
def original() -> dict[str, Any]:
    return json.loads(lzma.decompress(ORIGINAL.read_bytes()))
