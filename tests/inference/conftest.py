import pytest

from tests.inference.stub import KEY_VARIABLES

SDKS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google.genai"}
SECRET = "sk-proj-do-not-show-4711"


@pytest.fixture(params=list(SDKS))
def vendor(request):
    """Each vendor in turn, with its own SDK."""
    pytest.importorskip(SDKS[request.param], reason="needs the vendors' SDKs: pip install -e '.[api]'")
    return request.param


@pytest.fixture
def openai_sdk():
    pytest.importorskip("openai", reason="needs the vendors' SDKs: pip install -e '.[api]'")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """No key or address of whoever runs the tests, and no ``.env``."""
    for variable in (*KEY_VARIABLES.values(), "GOOGLE_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
