import json
import subprocess
import sys

import pytest

from agentgym_prm.errors import StoreError
from agentgym_prm.stages.config import TargetsConfig
from agentgym_prm.stages.form import fingerprint, locked, run_stage, write_folder


def test_a_stage_is_done_once_and_its_results_are_kept(tmp_path):
    done = []

    def work():
        done.append(1)
        return {"loss": 0.5}

    lines = []
    for _ in range(2):
        assert run_stage(tmp_path / "sft", {"epochs": 1}, work, say=lines.append) == {"loss": 0.5}
    assert len(done) == 1
    assert lines[0].endswith("s (loss 0.5)")
    assert lines[1] == "sft: complete, skipped"


def test_a_stage_that_fails_is_not_done(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_stage(tmp_path, {}, lambda: {"x": 1 / 0})
    assert not (tmp_path / "done.json").exists()


def test_a_stage_that_failed_before_it_left_anything_may_be_started_with_other_settings(tmp_path):
    """Settings that turn out wrong when the work begins can be put right in the same folder."""
    for folder, leaves in ((tmp_path / "nothing", False), (tmp_path / "something", True)):

        def fails(folder=folder, leaves=leaves):
            if leaves:
                (folder / "metrics.jsonl").write_text("")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run_stage(folder, {"temperature": 0}, fails)
    assert run_stage(tmp_path / "nothing", {"temperature": 1}, lambda: {"x": 1}) == {"x": 1}
    with pytest.raises(StoreError, match="temperature"):
        run_stage(tmp_path / "something", {"temperature": 1}, lambda: {"x": 1})


def test_fingerprints_depend_on_settings_and_on_what_a_stage_builds_on(tmp_path):
    def made(name, epochs, *before):
        run_stage(tmp_path / name, {"epochs": epochs}, dict, builds_on={each: tmp_path / each for each in before})
        return fingerprint(tmp_path / name)

    first, second = made("a", 1), made("b", 2)
    assert made("c", 1) == first != second
    assert made("d", 1, "a") != made("e", 1)
    assert fingerprint(tmp_path / "a" / "model") == first  # what lies in a stage's folder is the stage's


def test_a_file_without_a_stage_is_known_by_its_content(tmp_path):
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text("a\n")
    other.write_text("a\n")
    assert fingerprint(one) == fingerprint(other)
    other.write_text("b\n")
    assert fingerprint(one) != fingerprint(other)


def test_a_changed_setting_is_named_within_its_group(tmp_path):
    run_stage(tmp_path, {"targets": TargetsConfig(n=2)}, dict)
    with pytest.raises(StoreError, match=r"targets\.n = 2, not 3: go back to that, or choose another run directory"):
        run_stage(tmp_path, {"targets": TargetsConfig(n=3)}, dict)


def test_a_damaged_result_is_an_error(tmp_path):
    run_stage(tmp_path, {}, dict)
    (tmp_path / "done.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        run_stage(tmp_path, {}, dict)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    def half(path):
        path.mkdir()
        (path / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "model", half)
    assert not (tmp_path / "model").exists()

    def whole(path):
        path.mkdir()
        (path / "weights").write_text(json.dumps([1]))

    write_folder(tmp_path / "model", whole)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["weights"]


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    code = "import sys; from agentgym_prm.stages.form import locked\nwith locked(sys.argv[1]): print('in')"
    with locked(tmp_path):
        second = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "StoreError: another process works in" in second.stderr
    third = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert third.stdout == "in\n"


def test_settings_that_change_the_speed_only_may_change(tmp_path):
    run_stage(tmp_path, {"games": {"num_envs": 4, "env": "x"}, "targets": {"workers": 1}}, dict)
    run_stage(tmp_path, {"games": {"num_envs": 8, "env": "x"}, "targets": {"workers": 2}}, dict)
    with pytest.raises(StoreError, match=r"games\.env = 'x', not 'y'"):
        run_stage(tmp_path, {"games": {"num_envs": 8, "env": "y"}, "targets": {"workers": 2}}, dict)


def test_a_damaged_done_file_says_what_to_do(tmp_path):
    run_stage(tmp_path, {}, dict)
    (tmp_path / "done.json").write_text("{}")
    with pytest.raises(StoreError, match="delete it, and the stage is finished again"):
        run_stage(tmp_path, {}, dict)
