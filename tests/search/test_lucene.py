import sys

import pytest

from agentgym_prm.errors import DataNotFoundError, MissingDependencyError
from agentgym_prm.search.lucene import LuceneIndex


def test_without_pyserini_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyserini.pyclass", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[search\]'"):
        LuceneIndex.build(["red"], tmp_path / "index")


def test_a_folder_without_an_index_is_named(tmp_path):
    with pytest.raises(DataNotFoundError, match="no Lucene index in"):
        LuceneIndex(tmp_path)
