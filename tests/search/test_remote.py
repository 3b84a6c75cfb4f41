import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agentgym_prm.errors import SearchServerError
from agentgym_prm.search import remote
from agentgym_prm.search.core import Found, Passage
from agentgym_prm.search.passages import PassageIndex
from agentgym_prm.search.remote import RemoteSearch
from agentgym_prm.search.server import LONGEST_BODY, SearchServer
from tests.search.test_passages import drawn, questions


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def index():
    odd = [Passage("q", '"Quoted" title', "text"), Passage("n", "two\nlines", ""), Passage("é", "", "東京 \ud800")]
    return PassageIndex.build([*drawn(), *odd])


@pytest.fixture
def server(index):
    with running(SearchServer(index)) as server:
        yield server


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """How long the client waited between tries, without waiting."""
    waited = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    return waited


def ask(server, body=b"", path="/retrieve", method="POST", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = json.loads(answer.read() or "null")
    connection.close()
    return answer.status, content


# --- client and server together ---


def test_what_the_server_finds_is_what_the_index_finds(index, server):
    client = RemoteSearch(server.address)
    asked = [*questions(), "quoted", "two lines", "東京", "", "the of", "\ud800", 'title:"x" [', "w1 " * 100_000]
    assert client.search(asked, 7) == index.search(asked, 7)
    assert client.search([], 7) == []


def test_many_threads_share_a_client(index, server):
    client, asked = RemoteSearch(server.address), questions(320)
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda query: client.search([query], 5)[0], asked))
    assert found == index.search(asked, 5)
    assert 1 <= len(client._idle) <= 32


def test_a_connection_is_used_again(server, monkeypatch):
    opened = []
    monkeypatch.setattr(http.client.HTTPConnection, "connect", _counting(http.client.HTTPConnection.connect, opened))
    client = RemoteSearch(server.address)
    for query in questions(5):
        client.search([query], 1)
    assert len(opened) == 1
    client.close()
    client.search(["w1"], 1)
    assert len(opened) == 2


def _counting(function, calls):
    return lambda *arguments: (calls.append(1), function(*arguments))[1]


def test_a_server_that_was_started_anew_is_found_without_a_pause(index, pauses):
    with running(SearchServer(index)) as server:
        client = RemoteSearch(server.address)
        before = client.search(["w1"], 3)
        port = server.server_port
        client._idle[0].sock.shutdown(socket.SHUT_RDWR)  # as if it had gone away and come back
    with running(SearchServer(index, port=port)):
        assert client.search(["w1"], 3) == before
    assert pauses == []


# --- the server's protocol ---


def test_answers_have_the_fields_of_the_original(index, server):
    (best,) = index.search(["w7"], 1)[0]
    document = {
        "id": best.passage.id,
        "title": best.passage.title,
        "contents": f'"{best.passage.title}"\n{best.passage.text}',
    }
    request = {"queries": ["w7", "nothing"], "topk": 1, "return_scores": True}
    assert ask(server, json.dumps(request)) == (200, {"result": [[{"document": document, "score": best.score}], []]})
    # Without scores the documents stand alone, and without a number there are three, as many as the original's default.
    assert ask(server, json.dumps({"queries": ["w7"], "topk": 1})) == (200, {"result": [[document]]})
    assert [len(found) for found in ask(server, json.dumps({"queries": ["w7"]}))[1]["result"]] == [3]
    assert [len(found) for found in ask(server, json.dumps({"queries": ["w7"], "topk": None}))[1]["result"]] == [3]


def test_health_tells_how_many_passages_there_are(index, server):
    assert ask(server, path="/health", method="GET") == (200, {"status": "ok", "passages": len(index)})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        (b"[" * 200_000, 400, "no JSON"),
        (b"[]", 400, "expected {"),
        (b"null", 400, "expected {"),
        (b"{}", 400, "'queries' must be a list of strings"),
        (b'{"queries": "x"}', 400, "'queries' must be a list of strings"),
        (b'{"queries": ["x", 1]}', 400, "'queries' must be a list of strings"),
        (b'{"queries": ["x"], "topk": -1}', 400, "'topk' must be a whole number in [1, 1000]"),
        (b'{"queries": ["x"], "topk": 1001}', 400, "'topk' must be a whole number"),
        (b'{"queries": ["x"], "topk": 1.5}', 400, "'topk' must be a whole number"),
        (b'{"queries": ["x"], "topk": true}', 400, "'topk' must be a whole number"),
        (b'{"queries": ["x"], "topk": "3"}', 400, "'topk' must be a whole number"),
        (b'{"queries": ["x"], "return_scores": 1}', 400, "'return_scores' must be true or false"),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(server, body, status, message):
    code, answer = ask(server, body)
    assert code == status
    assert message in answer["detail"]
    assert ask(server, path="/health", method="GET")[0] == 200


def test_other_paths_and_methods_are_refused(server):
    assert ask(server, b"{}", path="/search")[0] == 404
    assert ask(server, path="/", method="GET")[0] == 404
    assert ask(server, path="/retrieve", method="PUT")[0] == 501
    assert ask(server, b'{"queries": []}', path="/retrieve/?x=1") == (200, {"result": []})


def raw(server, request, *, shut=True):
    """What the server answers to mere bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(request)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


HEAD = b"POST /retrieve HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD + b"\r\n", 411),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1e3\r\n\r\n", 400),
        (HEAD + b"Content-Length: " + str(LONGEST_BODY + 1).encode() + b"\r\n\r\n", 413),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (HEAD + b'Content-Length: 100\r\n\r\n{"queries": []}', 400),
        (HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/9\r\n\r\n", 400),
        (b"GET / HTTP/9.1\r\n\r\n", 505),
    ],
)
def test_requests_that_are_none_end_the_connection_and_nothing_else(index, server, request_, status):
    answer = raw(server, request_)
    assert str(status).encode() in answer.partition(b"\r\n")[0]
    assert RemoteSearch(server.address).search(["w1"], 2) == index.search(["w1"], 2)


def test_a_client_that_goes_away_is_no_error(index, server, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        body = json.dumps({"queries": ["w1"] * 1000, "topk": 100}).encode()
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    assert RemoteSearch(server.address).search(["w1"], 2) == index.search(["w1"], 2)
    assert capfd.readouterr().err == ""


def test_a_search_that_fails_is_an_error_of_the_server(caplog):
    class Broken:
        def search(self, queries, k):
            raise RuntimeError("disk gone")

    with running(SearchServer(Broken())) as server:
        assert ask(server, path="/health", method="GET") == (200, {"status": "ok"})
        client = RemoteSearch(server.address, retries=1)
        with pytest.raises(
            SearchServerError, match=r"in 2 tries.*status 500: the search failed: RuntimeError: disk gone"
        ):
            client.search(["x"], 1)
    assert "a search failed" in caplog.text


def test_a_default_number_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match=r"topk must be in \[1, 1000\], got 0"):
        SearchServer(index, topk=0)


# --- the client with other servers ---


class Scripted(ThreadingHTTPServer):
    """Answers each request with the next of some answers: status and content, ``"drop"``, or ``"wait"``."""

    daemon_threads = True

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        super().__init__(("127.0.0.1", 0), _ScriptedHandler)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class _ScriptedHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.requests.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        answer = self.server.answers.pop(0)
        if answer == "drop":
            self.close_connection = True
            return
        if answer == "wait":
            threading.Event().wait(0.5)
            self.close_connection = True
            return
        status, content = answer
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def answered(*answers, queries=("x",), k=2, **settings):
    with running(Scripted(*answers)) as server:
        client = RemoteSearch(server.address, **settings)
        try:
            return client.search(queries, k)
        finally:
            client.close()


def result(*items):
    return 200, {"result": [list(items)]}


def test_the_request_is_that_of_the_original():
    with running(Scripted(result())) as server:
        RemoteSearch(server.address + "/").search(["x"], 2)
        assert server.requests == [("/retrieve", {"queries": ["x"], "topk": 2, "return_scores": True})]


def test_another_path_is_kept_and_a_password_is_not_shown():
    with running(Scripted(result())) as server:
        client = RemoteSearch(server.address.replace("//", "//me:secret@") + "/api/find?key=1")
        client.search(["x"], 2)
        assert server.requests[0][0] == "/api/find?key=1"
    assert repr(client) == f"RemoteSearch('{server.address}/api/find?key=1')"


@pytest.mark.parametrize(
    ("item", "found"),
    [
        # As Search-R1's servers answer: from wiki-18, from its Lucene index, from the web, reranked, without scores.
        ({"document": {"id": "7", "contents": '"T"\nx'}, "score": 1.5}, (("7", "T", "x"), 1.5)),
        ({"document": {"title": "T", "text": "x", "contents": '"T"\nx'}, "score": 2}, (("T", "T", "x"), 2.0)),
        ({"document": {"contents": '"T"\nx'}}, (("T", "T", "x"), 0.0)),
        ({"document": '"T"\nx', "score": -1.0}, (("T", "T", "x"), -1.0)),
        ({"id": 7, "contents": '"T"\nx'}, (("7", "T", "x"), 0.0)),
        ({"document": {"id": "7", "title": "T", "text": "x"}, "score": None}, (("7", "T", "x"), 0.0)),
    ],
)
def test_documents_of_all_known_servers_are_passages(item, found):
    passage, score = found
    assert answered(result(item)) == [[Found(Passage(*passage), score)]]


def test_more_than_was_asked_for_is_cut_off():
    items = [{"document": {"id": name, "contents": name}, "score": 1.0} for name in "abc"]
    assert [each.passage.id for each in answered(result(*items))[0]] == ["a", "b"]


def test_failures_that_pass_are_tried_again_after_growing_pauses(pauses):
    good = result({"document": {"id": "7", "contents": "x"}, "score": 1.0})
    # A kept connection that is dropped is no try; that the new one is dropped too is one.
    failures = [(503, b"starting"), (429, {}), "drop", "drop", (500, {}), (502, b""), (504, b""), (500, b"")]
    assert len(answered(*failures, good, retries=7)[0]) == 1
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_a_time_out_is_tried_again(pauses):
    assert answered("wait", result(), timeout=0.1) == [[]]
    assert pauses == [0.25]


def test_failures_that_do_not_pass_are_an_error_with_address_and_cause():
    with pytest.raises(
        SearchServerError, match=r"no answer from http://127.0.0.1:\d+/retrieve in 3 tries; .*status 503: busy"
    ):
        answered(*[(503, {"detail": "busy"})] * 3, retries=2)
    with pytest.raises(SearchServerError, match="in one try; the last ended with RemoteDisconnected"):
        answered("drop", retries=0)
    with pytest.raises(SearchServerError, match="in one try; the last ended with TimeoutError: timed out"):
        answered("wait", retries=0, timeout=0.1)


def test_nobody_there_is_an_error_after_all_tries(pauses):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        with pytest.raises(SearchServerError, match="in 5 tries; the last ended with ConnectionRefusedError") as caught:
            RemoteSearch(f"http://127.0.0.1:{taken.getsockname()[1]}").search(["x"], 1)
    assert isinstance(caught.value, ConnectionError)
    assert len(pauses) == 4


def test_a_refusal_is_not_tried_again(pauses, server):
    with pytest.raises(SearchServerError, match=r"refused the request with status 422: \[\{'msg': 'topk'\}\]"):
        answered((422, {"detail": [{"msg": "topk"}]}))
    with pytest.raises(SearchServerError, match=r"status 400: 'topk' must be a whole number in \[1, 1000\]"):
        RemoteSearch(server.address).search(["x"], 2000)
    with pytest.raises(SearchServerError, match="status 301"):  # another address is the user's to give
        answered((301, b"x" * 1000))
    assert pauses == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>", "the answer is no JSON"),
        (b"[]", "holds no 'result'"),
        ({"result": {}}, "holds no 'result'"),
        ({"result": [1]}, "holds no 'result'"),
        ({"result": []}, "1 queries were answered by 0 lists"),
        ({"result": [[1]]}, "a document must be an object, got 1"),
        ({"result": [[{"document": {"id": "1"}}]]}, "a document states no passage: there is no 'title'"),
        ({"result": [[{"document": {"id": "1", "contents": 5}}]]}, "'contents' must be a string, got 5"),
        ({"result": [[{"document": "x", "score": "1"}]]}, "a score must be a number, got '1'"),
    ],
)
def test_another_protocol_is_an_error_that_says_so(content, problem):
    with pytest.raises(SearchServerError, match=f"does not speak the protocol of retrieval servers: .*{problem}"):
        answered((200, content))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://x:y", "http://x:99999", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="given as http://HOST:PORT"):
        RemoteSearch(url)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="timeout must be above 0 seconds, got 0"):
        RemoteSearch("http://x", timeout=0)
    with pytest.raises(ValueError, match="retries must be at least 0, got -1"):
        RemoteSearch("http://x", retries=-1)
    with pytest.raises(ValueError, match="k must be positive, got 0"):
        RemoteSearch("http://x").search(["x"], 0)
