import json

import pytest

from agentgym_prm.algos.step_labels import StepLabelsConfig
from agentgym_prm.cli import main
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.models import TINY, ModelConfig, TinyConfig
from agentgym_prm.rewards.step_labels import RIGHT, WRONG, StepLabels, read_step_labels
from agentgym_prm.rewards.step_quality import BASELINES, evaluate_steps
from agentgym_prm.rewards.targets import task_split
from agentgym_prm.rewards.token_labels import TokenLabelScorer
from agentgym_prm.stages.step_labels import evaluation_table, split_problems, step_scorer, train_on_step_labels

CONFIG = StepLabelsConfig(epochs=4, batch_size=8, learning_rate=1e-2, optimizer="muon")
SHAPE = TinyConfig(hidden_size=32, num_heads=2, intermediate_size=64, vocab_size=512, max_positions=128)


def attempt(number):
    """Right is what says yes."""
    labels = (RIGHT, WRONG) if number % 2 else (RIGHT, RIGHT)
    return StepLabels(
        f"problem {number // 2}", tuple("say yes" if each == RIGHT else "say no" for each in labels), labels
    )


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    path.write_text("".join(json.dumps(attempt(number).to_json()) + "\n" for number in range(60)))
    return path


@pytest.fixture(scope="module")
def trained(labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "steps"
    lines = []
    model = ModelConfig(TINY, device="cpu")
    results = train_on_step_labels(folder, labels, model, CONFIG, tiny=SHAPE, say=lines.append)
    assert train_on_step_labels(folder, labels, model, CONFIG, tiny=SHAPE, say=lines.append) == results
    assert lines[1] == "steps: complete, skipped"
    return folder, results


def run(*arguments):
    try:
        return main(list(arguments))
    except SystemExit as exit_:  # the argument parser's own errors
        return int(exit_.code or 0)


def test_all_attempts_at_a_problem_are_on_one_side():
    attempts = [attempt(number) for number in range(60)]
    train, held_out = split_problems([*attempts, StepLabels("?", ("a",)), StepLabels("?", ("a",), (0,))])
    assert len(train) + len(held_out) == 60
    assert {each.input for each in train}.isdisjoint({each.input for each in held_out})
    assert all(task_split(each.input) == "held_out" for each in held_out)


def test_the_stage_leaves_a_scorer_and_what_it_is_worth_on_held_out_problems(labels, trained):
    folder, results = trained
    train, held_out = split_problems(read_step_labels(labels))
    assert (results["train_attempts"], results["held_out_attempts"]) == (len(train), len(held_out))
    assert (results["examples"], results["steps"], results["cut_steps"]) == (len(train), 2 * len(train), 0)
    scorer = TokenLabelScorer.load(folder / "model", device="cpu")
    found = evaluate_steps(scorer, held_out)
    assert results["held_out_auc"] == pytest.approx(found.steps.auc)
    assert results["held_out_first_error_f1"] == pytest.approx(found.first_errors.f1)
    assert found.steps.auc > 0.95
    record = json.loads((folder / "quality.json").read_text())["scorers"]
    assert set(record) == {"step_labels", *BASELINES}
    assert record["step_labels"]["steps"]["accuracy"] == pytest.approx(found.steps.accuracy)
    assert f"AUC {found.steps.auc:.3f}" in (folder / "model" / "README.md").read_text()


def test_scorers_are_baselines_or_folders(trained):
    folder, _ = trained
    assert step_scorer("random") is BASELINES["random"]
    assert step_scorer(str(folder)).name == step_scorer(str(folder / "model")).name == "step_labels"
    with pytest.raises(UnknownNameError, match="did you mean 'length'"):
        step_scorer("lenght")


def test_the_table_leaves_open_what_is_not_known():
    row = evaluate_steps(BASELINES["correct"], [StepLabels("p", ("a", "b"), (1, None))])
    assert evaluation_table([("correct", row)]).splitlines() == [
        "scorer             steps  accuracy       AUC    errors   correct        F1 threshold",
        "correct                1     1.000         -         -         -         -     0.500",
    ]


def test_the_commands_train_and_judge(labels, trained, tmp_path, capsys):
    folder, _ = trained
    arguments = [
        "--model",
        TINY,
        "--device",
        "cpu",
        "--steps.epochs",
        "1",
        "--tiny.hidden-size",
        "32",
        "--tiny.num-heads",
        "2",
    ]
    run_dir = tmp_path / "out"
    assert run("train-step-labels", "--labels", str(labels), "--run-dir", str(run_dir), *arguments) == 0
    assert (run_dir / "model" / "step_labels.json").is_file()
    assert json.loads((run_dir / "config.json").read_text())["settings"]["steps.optimizer"] == "muon"
    capsys.readouterr()
    options = ["--scorer", "correct", str(folder), "--threshold-from", str(labels)]
    assert run("eval-steps", "--labels", str(labels), *options) == 0
    correct, model = capsys.readouterr().out.splitlines()[1:]
    # 60 attempts: 90 of 120 steps are right.
    assert correct.split()[1:4] == ["120", "0.750", "0.500"]
    assert float(model.split()[6]) > 0.9


def test_the_commands_say_what_is_wrong(labels, tmp_path, capsys):
    assert run("train-step-labels", "--labels", str(labels), "--run-dir", str(tmp_path / "out")) == 2
    assert "--model is missing" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text('{"input": 1, "value": [], "label": []}\n')
    assert run("eval-steps", "--labels", str(tmp_path / "bad.jsonl")) == 2
    assert "bad.jsonl, line 1: field 'input' should be of type str, got 1" in capsys.readouterr().err


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="did you mean 'muon'"):
        StepLabelsConfig(optimizer="moun")
    with pytest.raises(UnknownNameError, match="'ignore'"):
        StepLabelsConfig(neutral="ignored")
    with pytest.raises(ValueError, match="epochs and batch_size must be at least 1, got 0 and 8"):
        StepLabelsConfig(epochs=0)
    with pytest.raises(ValueError, match="learning_rate must be above 0, got 0"):
        StepLabelsConfig(learning_rate=0)
