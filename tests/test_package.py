import subprocess
import sys
import tomllib
from pathlib import Path

import agentgym_prm

HEAVY = (
    "torch",
    "transformers",
    "jinja2",
    "peft",
    "vllm",
    "openai",
    "anthropic",
    "textworld",
    "alfworld",
    "tyro",
    "pandas",
    "polars",
)


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout


def test_importing_the_package_loads_no_heavy_library_and_no_environment():
    loaded = run("import sys, agentgym_prm; print(*sorted(sys.modules))").split()
    assert not set(HEAVY) & {name.partition(".")[0] for name in loaded}
    assert "agentgym_prm.envs.alfworld" not in loaded
    assert "agentgym_prm.cli" not in loaded


def test_environments_are_registered_on_import():
    assert run("import gymnasium as gym, agentgym_prm; print('agentgym_prm/ALFWorld-v0' in gym.registry)") == "True\n"


def test_importing_twice_registers_once():
    assert run("import agentgym_prm as a; a.register_envs(); a.register_envs(); print('ok')") == "ok\n"


def test_public_names_are_sorted_and_pinned():
    assert sorted(agentgym_prm.__all__, key=lambda name: (not name.isupper(), name)) == agentgym_prm.__all__
    assert set(agentgym_prm.__all__) == {
        "ENV_IDS", "Action", "Agent", "EvalReport", "ExpertAgent", "HandcodedAgent", "History", "InfoKey",
        "RandomAgent", "ReplayAgent", "Step", "TextEnv", "TextSpace", "TextVectorEnv", "Trajectory", "__version__",
        "collect", "evaluate",
    }  # fmt: skip
    assert all(hasattr(agentgym_prm, name) for name in agentgym_prm.__all__)


def test_layers_import_only_downwards():
    """types, transcript ← envs ← agents ← rollout, evaluate ← algos ← cli: no module imports one of a later layer."""
    package = Path(agentgym_prm.__file__).parent
    forbidden = {
        "types.py": ("envs", "agents", "rollout", "evaluate", "models", "algos", "cli"),
        "transcript.py": ("envs", "agents", "rollout", "evaluate", "models", "algos", "cli", "testing"),
        "models.py": ("envs", "agents", "rollout", "evaluate", "algos", "cli", "testing"),
        "envs": ("agents", "rollout", "evaluate", "models", "transcript", "algos", "cli", "testing"),
        "agents": ("rollout", "evaluate", "algos", "cli", "testing"),
        "rollout.py": ("evaluate", "models", "algos", "cli", "testing"),
        "evaluate.py": ("models", "algos", "cli", "testing"),
        "algos": ("cli", "testing"),
    }
    for place, names in forbidden.items():
        paths = [package / place] if place.endswith(".py") else sorted((package / place).rglob("*.py"))
        for path in paths:
            text = path.read_text()
            for name in names:
                assert f"agentgym_prm.{name}" not in text, f"{path} imports {name}"


def test_python_versions_agree_between_metadata_and_linter():
    root = Path(__file__).parents[1]
    assert tomllib.loads((root / "pyproject.toml").read_text())["tool"]["ruff"]["target-version"] == "py311"
    assert "python_requires = >=3.11,<3.14" in (root / "setup.cfg").read_text()
