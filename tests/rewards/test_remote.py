"""Scorers behind a server: ours with real models, vLLM and SGLang as stubs that answer in their forms."""

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agentgym_prm import BestOfN, FunctionScorer, RandomScorer, collect
from agentgym_prm.agents.local import LocalAgent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.cli import main
from agentgym_prm.errors import ServiceError, UnknownNameError, UsageError
from agentgym_prm.evaluate import make_envs
from agentgym_prm.inference import RetryPolicy
from agentgym_prm.inference.service import plain
from agentgym_prm.models import ModelConfig
from agentgym_prm.rewards.prm import PRMReader, PRMSettings, ProcessRewardModel
from agentgym_prm.rewards.progress import ProgressEstimator
from agentgym_prm.rewards.remote import (
    KEY_VARIABLE,
    OwnServer,
    RemoteScorer,
    SGLangClassify,
    VLLMClassify,
    VLLMPooling,
    VLLMScore,
    connect_scorer,
    history_from_json,
    history_to_json,
    is_remote,
    reader_folder,
)
from agentgym_prm.rewards.server import ScorerServer
from agentgym_prm.rewards.specification import RewardSpecification, load_terms
from agentgym_prm.rewards.wrappers import rewarded
from agentgym_prm.testing import check_scorer
from agentgym_prm.types import Action, History, Step
from tests.chat_models import chat_model, chat_tokenizer
from tests.rewards import scoring_stub
from tests.rewards.scoring_stub import Network, ScoringStub
from tests.rewards.test_prm import COMMANDS, HISTORIES, all_pairs

ROUNDING = 1e-5  # float32; sums in another order differ by about 1e-6
AT_ONCE = RetryPolicy(attempts=4, first_delay=0.0, longest_delay=0.0)
SECRET = "scorer-key-4711"
TOY = "agentgym_prm/Toy-v0"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """No key of whoever runs the tests, and no ``.env``."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def trained(folder, head="scalar", **settings):
    """A reward model with weights large enough that actions differ, saved in FOLDER."""
    chat_model().save_pretrained(folder / "body")
    chat_tokenizer().save_pretrained(folder / "body")
    body = ModelConfig(str(folder / "body"), device="cpu", dtype="float32")
    settings = {"head": head, "scale": 1.5, "offset": -0.25, **settings}
    prm = ProcessRewardModel.start(body, Prompt.load("bare"), PRMSettings(**settings), seed=3)
    prm.save(folder / "prm" / "model")
    return str(folder / "prm" / "model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("scalar"))


@pytest.fixture(scope="module")
def local(folder):
    return ProcessRewardModel.load(folder, device="cpu")


class Serving:
    """A scorer on a server of ours, for the ``with`` block."""

    def __init__(self, scorer, **options):
        self.server = ScorerServer(scorer, **options)

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self.server

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def post(server, body, path="/score", **headers):
    """Status and reply of a request that is written here."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# --- our own server ---


@pytest.mark.parametrize("head", ["scalar", "likelihood"])
def test_served_scores_are_the_local_ones_to_the_last_bit(head, tmp_path):
    prm = ProcessRewardModel.load(trained(tmp_path, head), device="cpu")
    histories, actions = map(list, all_pairs())
    with Serving(prm) as server:
        remote = RemoteScorer(server.address)
        assert remote.score(histories, actions).tolist() == prm.score(histories, actions).tolist()
        assert len(set(prm.score(histories, actions).tolist())) > 10
        check_scorer(remote, histories, actions, tolerance=ROUNDING)


def test_the_order_of_pairs_and_the_size_of_requests_change_no_score(local):
    histories, actions = map(list, all_pairs())
    order = np.random.default_rng(0).permutation(len(actions))
    mixed = [histories[place] for place in order], [actions[place] for place in order]
    with Serving(local) as server:
        small = RemoteScorer(server.address, OwnServer(pairs=2))
        assert small.score(*mixed) == pytest.approx(local.score(histories, actions)[order], abs=ROUNDING)


def test_a_progress_estimator_is_served_with_the_token_ids_of_replies(tmp_path):
    chat_model().save_pretrained(tmp_path)
    chat_tokenizer().save_pretrained(tmp_path)
    estimator = ProgressEstimator.start(ModelConfig(str(tmp_path), device="cpu"), Prompt.load("bare"))
    torch.nn.init.normal_(estimator.model.score.weight)
    # These ids are not those that the text would be encoded to: they have to travel.
    sampled = Action("look", reply="look", token_ids=(12, 13, 2))
    history = replace(HISTORIES[0], steps=(Step("dark", (), sampled),))
    pairs = [history, history, HISTORIES[1]], [sampled, Action("open door"), Action("go")]
    with Serving(estimator) as server:
        assert RemoteScorer(server.address).score(*pairs).tolist() == estimator.score(*pairs).tolist()
        assert connect_scorer(server.address).name == "progress"
        for wrong in (10**6, -1):
            foreign = replace(sampled, token_ids=(12, wrong, 2))
            with pytest.raises(ServiceError, match=r"status 422\): turn 1 of .* token ids that are not in"):
                RemoteScorer(server.address).score([history], [foreign])


def test_a_history_travels_whole():
    step = Step(
        "a", ("b",), Action("b", reply="r", reasoning="w", token_ids=(1,), scores={"x": 0.1}), 0.5, info={"n": 1}
    )
    history = History("t", "o", ("c", "d"), (step,), "id", "kind", 7, 2)
    assert history_from_json(json.loads(json.dumps(history_to_json(history)))) == history
    # What was considered and not done is not shown to a judge, an expert's advice neither.
    seen = replace(step, action=replace(step.action, candidates=(Action("z"),), logprobs=(-1.0,)))
    assert history_from_json(history_to_json(replace(history, steps=(seen,), expert_action="c"))) == history
    assert plain(np.float64(0.5)) == 0.5
    with pytest.raises(TypeError, match="no JSON form"):
        plain(object())


def test_best_of_n_with_a_remote_scorer_plays_as_with_the_local_one(local):
    policy = LocalAgent(chat_model(), chat_tokenizer(), "bare", mode="choose", temperature=2.0)

    def play(scorer):
        envs = make_envs(TOY, 3)
        try:
            return collect(BestOfN(policy, scorer, 3), envs, range(3))
        finally:
            envs.close()

    with Serving(local) as server:
        remote = play(RemoteScorer(server.address))
    expected = play(local)
    assert [each.to_json()["steps"][0]["action"]["command"] for each in remote] == [
        each.to_json()["steps"][0]["action"]["command"] for each in expected
    ]
    for one, other in zip(remote, expected, strict=True):
        assert [step.action.command for step in one.steps] == [step.action.command for step in other.steps]
        for mine, theirs in zip(one.steps, other.steps, strict=True):
            assert mine.action.scores == pytest.approx(theirs.action.scores, abs=ROUNDING)
    # Another judge chooses otherwise.
    assert any(
        [step.action.command for step in one.steps] != [step.action.command for step in other.steps]
        for one, other in zip(play(RandomScorer(5)), expected, strict=True)
    )


def test_thirty_two_clients_get_their_own_scores_from_common_batches(local):
    histories = [
        replace(HISTORIES[number % 3], observation=f"room {number % 10} key {number // 10} lamp")
        for number in range(32)
    ]
    expected = [local.score([history] * 2, [Action("look"), Action("go to lamp")]) for history in histories]
    together = threading.Barrier(32)

    def client(number):
        remote = RemoteScorer(server.address)
        together.wait()
        return [remote.score([histories[number]] * 2, [Action("look"), Action("go to lamp")]) for _ in range(3)]

    with Serving(local, window=0.02) as server, ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(client, range(32)))
        requests, calls = server.batcher.requests, server.batcher.calls
    for mine, whole in zip(answers, expected, strict=True):
        for each in mine:
            assert each == pytest.approx(whole, abs=ROUNDING)
    assert len({tuple(each.round(4)) for each in expected}) > 16  # so a mix-up would show
    assert requests == 96
    assert calls < 48


class Picky:
    """Refuses some commands, and counts how many pairs each call had."""

    name = "picky"

    def __init__(self):
        self.sizes = []

    def score(self, histories, actions):
        self.sizes.append(len(actions))
        if any(action.command == "too long" for action in actions):
            raise ValueError("turn 0 takes 5000 tokens")
        if any(action.command == "nan" for action in actions):
            return np.full(len(actions), np.nan)
        return np.array([float(len(action.command)) for action in actions])


def test_what_one_client_may_not_ask_does_not_hurt_the_others_of_its_batch():
    scorer = Picky()
    commands = ["a", "bb", "too long", "dddd"]
    with Serving(scorer, window=0.3) as server, ThreadPoolExecutor(4) as pool:
        remote = RemoteScorer(server.address, retry=AT_ONCE)
        futures = [pool.submit(remote.score, [HISTORIES[0]], [Action(command)]) for command in commands]
        assert [future.result().tolist() for future in futures if future is not futures[2]] == [[1.0], [2.0], [4.0]]
        with pytest.raises(ServiceError, match=r"status 422\): turn 0 takes 5000 tokens"):
            futures[2].result()
    assert scorer.sizes[0] > 1  # they were in one batch


def test_a_scorer_that_gives_no_finite_number_is_an_error_at_the_client(caplog):
    caplog.set_level(logging.CRITICAL, "agentgym_prm.rewards.server")
    with Serving(Picky()) as server, pytest.raises(ServiceError, match="gave no finite score"):
        RemoteScorer(server.address, retry=AT_ONCE).score([HISTORIES[0]], [Action("nan")])


GOOD = json.dumps(
    {"histories": [history_to_json(HISTORIES[0])], "pairs": [[0, {"command": "look"}], [0, {"command": "go"}]]}
)


@pytest.mark.parametrize(
    "body",
    [
        "{", "[]", "7", "null", '"x"', "", "\ud800".encode("utf-8", "surrogatepass"), "[" * 100_000,
        '{"histories": []}',
        GOOD.replace("[0, {", "[1, {"), GOOD.replace("[0, {", "[-1, {"), GOOD.replace("[0, {", "[true, {"),
        GOOD.replace('"look"}', "3}"), GOOD.replace('"look"}', '"look", "weight": 1}'),
        GOOD.replace('"task"', '"tusk"'), GOOD.replace('"dark room"', "null"),
        GOOD.replace('"steps": []', '"steps": [{}]'), GOOD.replace('"steps": []', '"steps": 4'),
    ],
    ids=str,
)  # fmt: skip
def test_malformed_requests_are_refused_and_the_server_goes_on(body):
    with Serving(Picky()) as server:
        assert post(server, GOOD) == (200, {"scores": [4.0, 2.0]})
        status, reply = post(server, body)
        assert status == 400
        assert reply["error"]["message"]
        assert post(server, GOOD)[0] == 200


def test_limits_of_requests(monkeypatch):
    with Serving(Picky()) as server:
        assert post(server, GOOD, path="/scores")[0] == 404
        assert post(server, GOOD, **{"Content-Type": "text/plain"})[0] == 415
        assert post(server, "", **{"Content-Length": str(1 << 40)})[0] == 413
        assert post(server, "", **{"Content-Length": "many"})[0] == 413
        monkeypatch.setattr("agentgym_prm.rewards.server._MOST_PAIRS", 1)
        assert post(server, GOOD)[0] == 413


def test_a_full_queue_is_told_and_asked_again():
    begun, go_on = threading.Event(), threading.Event()

    def slow(history, action):
        begun.set()
        go_on.wait(10)
        return 1.0

    with Serving(FunctionScorer(slow), window=0.0) as server, ThreadPoolExecutor(2) as pool:
        server.batcher._waiting.maxsize = 1
        first = pool.submit(post, server, GOOD)
        begun.wait(10)
        second = pool.submit(post, server, GOOD)
        while server.batcher._waiting.empty():
            time.sleep(0.01)
        assert post(server, GOOD)[0] == 503
        go_on.set()
        assert (first.result()[0], second.result()[0]) == (200, 200)


def test_a_server_with_a_key_asks_for_it(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    with Serving(Picky()) as server:
        scorer = connect_scorer(server.address)
        assert scorer.score([HISTORIES[0]], [Action("look")]).tolist() == [4.0]
        assert post(server, GOOD)[0] == 401
        monkeypatch.setenv(KEY_VARIABLE, "wrong")
        with pytest.raises(ServiceError, match=KEY_VARIABLE) as raised:
            RemoteScorer(server.address).score([HISTORIES[0]], [Action("look")])
    assert "wrong" not in str(raised.value)
    assert SECRET not in caplog.text


# --- engines ---

ENGINES = {
    "vllm": (VLLMClassify, "/classify", scoring_stub.vllm_classify),
    "vllm-pooling": (VLLMPooling, "/pooling", scoring_stub.vllm_pooling),
    "vllm-pooling of tokens": (VLLMPooling, "/pooling", scoring_stub.vllm_pooling_tokens),
    "vllm-score": (VLLMScore, "/score", scoring_stub.vllm_score),
    "sglang": (SGLangClassify, "/classify", scoring_stub.sglang_classify),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reads", ["reply", "command"])
def test_an_engine_that_serves_the_network_gives_the_local_scores(engine, reads, tmp_path):
    folder = trained(tmp_path, reads=reads)
    network, (api, path, answer) = Network(folder), ENGINES[engine]
    histories, actions = map(list, all_pairs())
    actions[2] = Action("go", reply="dark it is : go", reasoning="dark")
    with ScoringStub(lambda path, body, number: (200, answer(network, body))) as stub:
        remote = RemoteScorer(stub.url, api(PRMReader.load(folder), items=4))
        scores = remote.score(histories, actions)
        assert {each for each, _ in stub.asked} == {path}
        assert len(stub.asked) == -(-len(actions) // 4)
        check_scorer(remote, histories[:3], actions[:3])
    assert scores == pytest.approx(
        ProcessRewardModel.load(folder, device="cpu").score(histories, actions), abs=ROUNDING
    )
    assert np.ptp(scores) > 0.01


def test_equal_texts_are_sent_once_and_the_model_is_named(folder):
    network = Network(folder)
    with ScoringStub(lambda path, body, number: (200, scoring_stub.vllm_classify(network, body))) as stub:
        remote = RemoteScorer(stub.url, VLLMClassify(PRMReader.load(folder), model="ours"))
        twice = remote.score([HISTORIES[0], replace(HISTORIES[0])], [Action("look")] * 2)
        assert twice[0] == twice[1]
        ((_, body),) = stub.asked
    assert len(body["input"]) == 1
    assert body["model"] == "ours"
    assert (body["use_activation"], body["add_special_tokens"]) == (False, False)


def test_an_activation_of_the_engines_would_be_noticed(folder, local):
    """The negative control: a server that squashes scores although it is asked not to."""
    network = Network(folder)

    def deaf(path, body, number):
        return 200, scoring_stub.vllm_classify(network, {"input": body["input"]})

    histories, actions = map(list, all_pairs())
    with ScoringStub(deaf) as stub:
        scores = RemoteScorer(stub.url, VLLMClassify(PRMReader.load(folder))).score(histories, actions)
    assert np.abs(scores - local.score(histories, actions)).max() > 100 * ROUNDING


def test_engines_serve_scalar_heads_that_judge_actions_only(tmp_path):
    with pytest.raises(UsageError, match="the head 'likelihood' and judges action"):
        VLLMClassify(PRMReader.load(trained(tmp_path / "one", "likelihood")))
    with pytest.raises(UsageError, match="judges history"):
        SGLangClassify(PRMReader.load(trained(tmp_path / "two", judges="history")))


@pytest.mark.parametrize(
    ("status", "reply", "message"),
    [
        (404, {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model",
                         "code": 404}}, r"\(status 404\): The model `x` does not exist.*model's name"),
        (400, {"object": "error", "message": "This model does not appear to be an embedding model by default. Please "
               "add `--is-embedding` when launching the server", "code": 400}, "status 400.*--is-embedding"),
        (422, {"detail": [{"type": "missing", "loc": ["body", "input"], "msg": "Field required"}]}, "Field required"),
        (200, [{"embedding": [0.1, 0.2, 0.3]}], "another form.*one number for a text, this gave 3"),
        (200, [{"embedding": []}], "this gave 0"),
        (200, [{"embedding": 0.5}], "no list"),
        (200, [{"embedding": [None]}], "another form"),
        (200, [], "gave 0 scores for 1"),
        (200, {"text": "hello"}, "another form"),
        (200, b'[{"embedding": [NaN]}]', "not finite"),
        (200, b"", "another form"),
        (200, b"<html>nginx</html>", "in 4 attempts.*the reply is no JSON"),
        (500, {"error": "boom"}, "status 500: boom"),
        (501, {"error": "The model does not support Classification API"}, "status 501.*does not support"),
    ],
)  # fmt: skip
def test_what_an_engine_should_not_answer_is_a_clear_error(folder, status, reply, message):
    with ScoringStub(lambda path, body, number: (status, reply)) as stub:
        remote = RemoteScorer(stub.url, SGLangClassify(PRMReader.load(folder)), retry=AT_ONCE)
        with pytest.raises(ServiceError, match=message) as raised:
            remote.score([HISTORIES[0]], [Action("look")])
        assert stub.url in str(raised.value)
        repeated = status == 500 or (isinstance(reply, bytes) and b"html" in reply)
        assert len(stub.asked) == (4 if repeated else 1)


def test_what_passes_is_tried_again(folder):
    network = Network(folder)

    def busy(path, body, number):
        if number < 2:
            return 503, {"error": "starting"}
        return 200, scoring_stub.sglang_classify(network, body)

    with ScoringStub(busy) as stub:
        remote = RemoteScorer(stub.url, SGLangClassify(PRMReader.load(folder)), retry=AT_ONCE)
        assert remote.score([HISTORIES[0]], [Action("look")]).shape == (1,)
        assert len(stub.asked) == 3


def test_one_refusal_stops_the_requests_that_wait():
    def refuse(path, body, number):
        return 400, {"error": "no"}

    with ScoringStub(refuse) as stub:
        remote = RemoteScorer(stub.url, OwnServer(pairs=1), concurrency=1)
        with pytest.raises(ServiceError, match="status 400"):
            remote.score([HISTORIES[0]] * 200, [Action("look")] * 200)
        assert len(stub.asked) < 50


def test_a_server_that_is_not_there_is_said_at_once():
    with ScoringStub(lambda path, body, number: (200, {})) as stub:
        url = stub.url
    with pytest.raises(
        ServiceError, match=r"gave no usable answer: the connection failed.*is the server running there"
    ):
        connect_scorer(url)
    with pytest.raises(ServiceError, match="in 4 attempts"):
        RemoteScorer(url, retry=AT_ONCE).score([HISTORIES[0]], [Action("look")])


# --- addresses ---


def test_addresses_are_told_from_folders():
    assert is_remote("http://h:1")
    assert is_remote("https://h")
    assert is_remote("runs/prm@vllm+http://h:1")
    assert not is_remote("runs/prm")
    assert reader_folder("http://h:1") is None
    assert reader_folder("runs/a@b@sglang+https://h") == "runs/a@b"
    with pytest.raises(UnknownNameError, match=r"unknown engine 'vlm' \(did you mean 'vllm'"):
        reader_folder("runs/prm@vlm+http://h:1")
    with pytest.raises(UsageError, match=r"FOLDER@ENGINE\+http"):
        reader_folder("vllm+http://h:1")
    with pytest.raises(UsageError, match="password"):
        RemoteScorer("http://me:secret@h:1")


@pytest.mark.parametrize("health", [b"", {}, {"status": "ok"}])
def test_connecting_to_an_engine_as_if_it_were_ours_says_how_it_is_written(health):
    with (
        ScoringStub(lambda path, body, number: (200, health)) as stub,
        pytest.raises(ServiceError, match=r"FOLDER@vllm\+http"),
    ):
        connect_scorer(stub.url)


def test_rewards_name_served_models(folder, local):
    stage = str(Path(folder).parent)
    envs = make_envs(TOY, 2)
    episodes = collect(LocalAgent(chat_model(), chat_tokenizer(), "bare", mode="choose"), envs, range(2))
    envs.close()
    network = Network(folder)
    expected = rewarded(episodes, load_terms([RewardSpecification.parse(f"prm:{stage}@0.5")], device="cpu"))
    with (
        Serving(local) as server,
        ScoringStub(lambda path, body, number: (200, scoring_stub.vllm_classify(network, body))) as stub,
    ):
        for text in (f"prm:{server.address}@0.5", f"prm:{stage}@vllm+{stub.url}@0.5"):
            specification = RewardSpecification.parse(text)
            assert str(specification) == text
            paid = rewarded(episodes, load_terms([specification]))
            for one, other in zip(paid, expected, strict=True):
                assert [step.process_reward for step in one.steps] == pytest.approx(
                    [step.process_reward for step in other.steps], abs=ROUNDING
                )
    assert any(step.process_reward < -0.001 for episode in expected for step in episode.steps)
    assert RewardSpecification.parse("prm:http://h:1").folder is None
    with pytest.raises(UsageError, match="no process reward model"):
        RewardSpecification.parse("prm:nowhere@vllm+http://h:1")


# --- the command line ---


def test_eval_takes_the_address_of_a_server_and_forgets_its_port(local, capsys):
    arguments = ["eval", "--env", TOY, "--agent", "random", "--best-of", "3", "--episodes", "4", "--run-dir", "out"]
    with Serving(local) as server:
        assert main([*arguments, "--scorer", server.address]) == 0
        assert server.batcher.requests > 0
    (run,) = Path("out").iterdir()
    assert run.name == "best_of_3(random, prm)"
    assert json.loads((run / "config.json").read_text())["settings"]["scorer"] == "served"
    with Serving(local) as server:
        assert main([*arguments, "--scorer", server.address, "--resume"]) == 0
    assert main([*arguments[:-1], "other", "--scorer", server.address]) == 2
    assert "is the server running there" in capsys.readouterr().err


def test_serve_prm_answers_until_it_is_interrupted(folder):
    code = "from agentgym_prm.cli import main; raise SystemExit(main())"
    stage = str(Path(folder).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve-prm", stage, "--port", "0", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("prm at http://127.0.0.1:")
        scorer = connect_scorer(line.split()[2])
        assert scorer.score([HISTORIES[0]], [Action(COMMANDS[0])]).shape == (1,)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, output.strip(), errors) == (0, "", "")


def test_serve_prm_refuses_what_it_cannot_serve(tmp_path, folder, capsys):
    assert main(["serve-prm", str(tmp_path)]) == 2
    assert "holds neither a process reward model nor a progress estimator" in capsys.readouterr().err
    assert main(["serve-prm", trained(tmp_path, judges="history"), "--device", "cpu"]) == 2
    assert "value model" in capsys.readouterr().err
    with Serving(Picky()) as server:
        assert main(["serve-prm", folder, "--device", "cpu", "--port", str(server.server_port)]) == 2
    assert "choose another --port" in capsys.readouterr().err


def test_an_open_server_is_told():
    with Serving(Picky(), host="0.0.0.0") as server:
        assert server.is_open
    with Serving(Picky()) as server:
        assert not server.is_open
