import pickle

import pytest

from agentgym_prm.errors import MissingKeyError, UsageError
from agentgym_prm.inference.keys import Key, find_key, read_env_file, require_key


def test_lines_of_an_env_file_are_read_as_shells_write_them(tmp_path):
    (tmp_path / ".env").write_text(
        "# a comment\n\nA=plain\nexport B=\"in # quotes\"  # said\nC='single'\n"
        "D = spaced \nE=\nnot a line\nF=x=y # end\n"
    )
    assert read_env_file(tmp_path / ".env") == {
        "A": "plain", "B": "in # quotes", "C": "single", "D": "spaced", "E": "", "F": "x=y",
    }  # fmt: skip


def test_no_env_file_is_an_empty_one(tmp_path):
    assert read_env_file(tmp_path / ".env") == {}


def test_the_environment_goes_before_the_file_and_an_empty_variable_counts_as_none(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-file\n")
    assert find_key(["OPENAI_API_KEY"]).value == "from-file"
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert find_key(["OPENAI_API_KEY"]).value == "from-file"
    monkeypatch.setenv("OPENAI_API_KEY", " from-environment\n")
    assert find_key(["OPENAI_API_KEY"]).value == "from-environment"


def test_the_first_variable_that_is_set_counts(monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "second")
    assert find_key(["GEMINI_API_KEY", "GOOGLE_API_KEY"]).value == "second"
    monkeypatch.setenv("GEMINI_API_KEY", "first")
    assert find_key(["GEMINI_API_KEY", "GOOGLE_API_KEY"]).value == "first"


def test_a_missing_key_says_what_to_set():
    with pytest.raises(MissingKeyError, match=r"set GEMINI_API_KEY or GOOGLE_API_KEY in the environment, or in \.env"):
        require_key(["GEMINI_API_KEY", "GOOGLE_API_KEY"], "gemini")


def test_a_key_does_not_show_itself():
    key = Key("sk-secret")
    assert "sk-secret" not in f"{key} {key!r} {[key]}"
    assert key.redact("Incorrect API key provided: sk-secret.") == "Incorrect API key provided: [key]."
    assert pickle.loads(pickle.dumps(key)) == key


@pytest.mark.parametrize("value", ["sk-A\nsk-B", "sk-one two", "sk-\u2013dash", "sk-\x07"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(monkeypatch, value):
    monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UsageError, match="the key in SOME_KEY holds white space or characters") as refused:
        find_key(["SOME_KEY"])
    assert "sk-" not in str(refused.value)
