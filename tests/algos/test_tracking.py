import importlib.util
import sys
from types import ModuleType

import pytest

from agentgym_prm.algos.tracking import open_tracker
from agentgym_prm.errors import MissingDependencyError, UnknownNameError


@pytest.mark.parametrize(("kind", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed_names_the_extra(kind, module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[track\]'"):
        open_tracker(kind, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_tensorboard_itself_may_be_what_is_missing(tmp_path):
    with pytest.raises(MissingDependencyError, match=r"tensorboard is not installed.*\[track\]"):
        open_tracker("tensorboard", tmp_path)


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'wandb'"):
        open_tracker("wanb", tmp_path)


def test_tensorboard_gets_each_metric_at_its_update(monkeypatch, tmp_path):
    calls = []

    class SummaryWriter:
        def __init__(self, folder):
            calls.append(folder)

        def add_scalar(self, name, value, update):
            calls.append((name, value, update))

        def close(self):
            calls.append("closed")

    library = ModuleType("torch.utils.tensorboard")
    library.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", library)
    tracker = open_tracker("tensorboard", tmp_path)
    tracker.log({"a": 1.0, "b": 2.0}, 3)
    tracker.close()
    assert calls == [str(tmp_path / "tensorboard"), ("a", 1.0, 3), ("b", 2.0, 3), "closed"]


def test_wandb_gets_the_settings_and_each_metric_at_its_update(monkeypatch, tmp_path):
    calls = []

    class Run:
        def log(self, metrics, step):
            calls.append((metrics, step))

        def finish(self):
            calls.append("finished")

    library = ModuleType("wandb")
    library.init = lambda **settings: calls.append(settings) or Run()
    monkeypatch.setitem(sys.modules, "wandb", library)
    tracker = open_tracker("wandb", tmp_path / "first", {"lr": 0.1})
    tracker.log({"a": 1.0}, 3)
    tracker.close()
    assert calls[0]["config"] == {"lr": 0.1}
    assert (calls[0]["name"], calls[0]["dir"]) == ("first", str(tmp_path / "first"))
    assert calls[1:] == [({"a": 1.0}, 3), "finished"]
