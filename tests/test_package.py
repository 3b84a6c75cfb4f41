import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agentgym_prm
from agentgym_prm.errors import MissingDependencyError
from agentgym_prm.inference import ChatRequest, connect
from agentgym_prm.rewards.dataset import write_steps

HEAVY = (
    "torch",
    "transformers",
    "jinja2",
    "peft",
    "vllm",
    "openai",
    "anthropic",
    "google",
    "httpx2",
    "huggingface_hub",
    "textworld",
    "alfworld",
    "tyro",
    "pandas",
    "polars",
    "sklearn",
    "scipy",
    "pyserini",
    "jnius",
    "numba",
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
    # Registering an id again makes Gymnasium warn, which is an error here.
    code = "import warnings; warnings.simplefilter('error'); import agentgym_prm as a; a.register_envs(); print('ok')"
    assert run(code) == "ok\n"


def test_public_names_are_sorted_and_pinned():
    assert sorted(agentgym_prm.__all__, key=lambda name: (not name.isupper(), name)) == agentgym_prm.__all__
    assert set(agentgym_prm.__all__) == {
        "ENV_IDS", "Action", "Agent", "BestOfN", "EvalReport", "ExpertAgent", "FunctionScorer", "HandcodedAgent",
        "HomekeeperAgent",
        "History", "InfoKey", "Mixture", "RandomAgent", "RandomScorer", "ReplayAgent", "RewardTerm", "Rubric",
        "SearcherAgent", "Shaping", "ShopperAgent", "Step", "StepLabels", "StepReward", "StepScorer", "Switch",
        "TextEnv",
        "TextSpace", "TextVectorEnv", "Trajectory", "TreeSearch", "VectorStepReward", "Weighted", "__version__",
        "collect", "evaluate", "rewarded",
    }  # fmt: skip
    assert all(hasattr(agentgym_prm, name) for name in agentgym_prm.__all__)


def test_layers_import_only_downwards():
    """One way only: types, folding, transcript ← models, envs ← agents, rewards ← rollout ← evaluate ← report, algos.

    Sampling tokens knows no agent; decoding texts knows step labels, and the generator on this machine knows decoding.

    ``search``, ``inference`` and ``hub`` know nothing of the package but its errors; environments may import the first,
    agents and rewards the second.

    Above these: families ← stages ← pipeline ← training_cli ← cli.

    Agents and rewards are one layer. Agents know of ``rewards.core`` alone, which knows no agent. A report knows only
    what runs leave on disk; its charts know nothing of the package.
    """
    package = Path(agentgym_prm.__file__).parent
    top = ("decoding", "generation", "families", "stages", "pipeline", "training_cli", "cli", "testing")
    late = ("rollout", "evaluate", "report", "charts", "algos", *top)
    forbidden = {
        "types.py": ("draws", "transcript", "models", "envs", "agents", "rewards", *late),
        "draws.py": ("types", "transcript", "models", "envs", "agents", "rewards", *late),
        "folding.py": ("draws", "transcript", "models", "envs", "agents", "rewards", *late),
        "inference": (
            *("types", "draws", "folding", "transcript", "models", "envs", "agents", "rewards", "store", "search"),
            *late,
        ),
        "hub.py": (
            *("types", "draws", "folding", "transcript", "models", "envs", "agents", "rewards", "store", "search"),
            *("inference", *late),
        ),
        "search": ("types", "draws", "folding", "transcript", "models", "envs", "agents", "rewards", "store", *late),
        "transcript.py": ("models", "envs", "agents", "rewards", *late),
        "sampling.py": ("types", "transcript", "models", "envs", "agents", "rewards", *late),
        "decoding.py": ("models", "sampling", "envs", "agents", *(name for name in late if name != "decoding")),
        "generation.py": ("envs", "rewards", *(name for name in late if name != "decoding")),
        "models.py": ("envs", "agents", "rewards", *late),
        "envs": ("transcript", "models", "agents", "rewards", *late),
        "agents": (
            *(f"rewards.{path.stem}" for path in (package / "rewards").glob("[!_]*.py") if path.stem != "core"),
            *late,
        ),
        "rewards": late,
        "rewards/core.py": ("agents", "envs"),
        "rewards/identity.py": ("agents", "envs"),
        "rollout.py": ("models", "evaluate", "report", "charts", "algos", *top),
        "evaluate.py": ("models", "report", "charts", "algos", *top),
        "charts.py": ("types", "draws", "transcript", "models", "envs", "agents", "rewards", "store", *late),
        "report.py": ("transcript", "models", "envs", "agents", "rewards", "rollout", "algos", *top),
        "algos": ("report", *top),
        "families.py": ("transcript", "models", "rewards", *(name for name in late if name != "families")),
        "stages": ("report", "charts", "pipeline", "training_cli", "cli", "testing"),
        "pipeline.py": ("training_cli", "cli", "testing"),
        "training_cli.py": ("testing",),
    }
    for place, names in forbidden.items():
        paths = [package / place] if place.endswith(".py") else sorted((package / place).rglob("*.py"))
        for path in paths:
            text = path.read_text()
            for name in names:
                assert f"agentgym_prm.{name}" not in text, f"{path} imports {name}"


@pytest.mark.parametrize(
    "module",
    [
        *("search", "inference", "agents.chat_api", "agents.engines", "agents.sglang", "agents.vllm"),
        *("rewards.remote", "rewards.judge", "rewards.server", "hub"),
    ],
)
def test_importing_what_talks_to_servers_loads_no_heavy_library(module):
    loaded = run(f"import sys, agentgym_prm.{module}; print(*sys.modules)").split()
    assert not set(HEAVY) & {name.partition(".")[0] for name in loaded}


@pytest.mark.parametrize(
    "module",
    [
        "agents",
        "agents.best_of_n",
        "agents.tree_search",
        "decoding",
        "rewards",
        "rewards.baselines",
        "rewards.branching",
        "rewards.oracle",
        "rewards.quality",
        "rewards.step_quality",
    ],
)
def test_agents_and_rewards_can_be_imported_in_any_order_and_load_no_heavy_library(module):
    loaded = run(f"import sys, agentgym_prm.{module}; print(*sys.modules)").split()
    assert not set(HEAVY) & {name.partition(".")[0] for name in loaded}


def test_importing_the_command_line_loads_no_torch():
    loaded = run("import sys, agentgym_prm.cli; print(*sys.modules)").split()
    assert not (set(HEAVY) - {"tyro"}) & {name.partition(".")[0] for name in loaded}


def test_importing_the_report_loads_no_jinja():
    assert run("import sys, agentgym_prm.report; print('jinja2' in sys.modules)") == "False\n"


def test_missing_polars_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[data\]'"):
        write_steps([], tmp_path)


@pytest.mark.parametrize(
    ("vendor", "sdk"),
    [("openai", "openai"), ("anthropic", "anthropic"), ("gemini", "google.genai"), ("openai", "httpx2")],
)
def test_missing_sdks_name_the_extra(vendor, sdk, monkeypatch):
    pytest.importorskip("httpx2")
    monkeypatch.setitem(sys.modules, sdk, None)
    model = connect(f"{vendor}:m", base_url="http://localhost:1")
    with pytest.raises(MissingDependencyError, match=r"pip install 'agentgym_prm\[api\]'"):
        model.complete([ChatRequest((("user", "x"),))])


def test_python_versions_agree_between_metadata_and_linter():
    root = Path(__file__).parents[1]
    assert tomllib.loads((root / "pyproject.toml").read_text())["tool"]["ruff"]["target-version"] == "py311"
    assert "python_requires = >=3.11,<3.14" in (root / "setup.cfg").read_text()


def test_the_readme_has_no_gaps():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert "@@" not in text
    assert "TODO" not in text
