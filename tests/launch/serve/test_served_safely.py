"""Whom the server answers, what it serves, and which mistakes the command names."""

import http.client
import json
import select
import socket
from contextlib import suppress
from urllib.parse import quote

import pytest

from basinet.launch.cli import main
from basinet.launch.serve.watch_server import WatchServer
from basinet.sim.experiment.component import ExperimentError
from tests.launch.serve.planted_studies import ask, link_out, listing, serving


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_only_get_is_answered(server, method):
    answer = ask(server, "/api/runs", method)
    assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD" and "only GET" in answer.content["error"]


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"GARBAGE", 400), (b"<b> / HTTP/1.1 x", 400), (b"GET / HTTP/9.9", 505), (b"GET /" + b"a" * 70_000, 414)],
)
def test_what_is_no_request_is_answered_in_a_sentence(server, line, status):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(line + b"\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == status and json.loads(answer.read())["error"].startswith("this is no request")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_head_is_answered_without_content(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for method in ("HEAD", "GET"):  # one after the other: content would be taken for the next answer
        connection.request(method, "/page.css")
        answer = connection.getresponse()
        assert answer.status == 200 and len(answer.read()) == (method == "GET") * int(answer.headers["Content-Length"])
    connection.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "a b", "10.0.0.1"])
def test_foreign_names_are_refused(server, host):
    assert ask(server, "/api/runs", Host=host).status == 421
    assert ask(server, "/", Host=host).status == 421


def test_of_two_names_none_is_believed(server):
    assert ask(server, "/api/runs", host="localhost").status == 421  # besides the usual one


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_names_of_this_machine_are_answered(server, host):
    assert ask(server, "/api/runs", Host=host).status == 200


def test_a_host_that_was_asked_for_is_known_and_names_of_others_never(runs):
    with serving(runs, "0.0.0.0") as server:
        assert server.is_open
        for host, status in (("192.0.2.7:80", 200), (socket.gethostname(), 200), ("evil.example", 421)):
            assert ask(server, "/api/runs", Host=host).status == status


def test_only_addresses_that_others_reach_are_open(tmp_path):
    for host, is_open in (("127.0.0.2", False), ("localhost", False), ("0.0.0.0", True)):
        with WatchServer(tmp_path, host, 0) as server:
            assert server.is_open == is_open


def test_other_sites_may_not_ask(server):
    assert ask(server, "/api/runs", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status == 403
    assert ask(server, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200  # a link
    for origin, status in (("http://evil.example", 403), ("null", 403), ("http://localhost:80", 200)):
        answer = ask(server, "/api/runs", Host="localhost:80", Origin=origin)
        assert answer.status == status
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/runs", "/nothing"])
def test_headers_confine_the_page(server, path):
    headers = ask(server, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


TRAVERSALS = [
    "/../secret/report.html",
    "/report/../secret/report.html",
    "/report/%2e%2e/secret/report.html",
    "/report/..%2fsecret%2freport.html",
    "/report//etc/passwd",
    "/report/first/linked/report.html",
    "/report/second/report.html",
    "/report/first/.hidden/report.html",
    "/report/first/diffusion/config.yaml",
    "/report/first/..\\..\\secret/report.html",
    "/report/%00/report.html",
    "/report/first/%ff/report.html",
    "/page/../watch_server.py",
    "/%2e%2e/watch_server.py",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_paths_lead_nowhere_else(server, runs, path):
    secret = runs.parent / "secret"
    secret.mkdir()
    (secret / "report.html").write_text("secret")
    (runs / "first" / "linked").symlink_to(secret)
    (runs / "second" / "report.html").symlink_to(secret / "report.html")
    (runs / "first" / ".hidden").mkdir()
    (runs / "first" / ".hidden" / "report.html").write_text("secret")
    answer = ask(server, path)
    assert answer.status in (403, 404) and "secret" not in json.dumps(answer.content.get("error"))


def test_reports_are_served_in_a_sandbox(server, runs):
    (runs / "first" / "report.html").write_text("<script>parent</script>")
    answer = ask(server, "/report/first/report.html")
    assert answer.status == 200 and answer.content == b"<script>parent</script>"
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy and "allow-same-origin" not in policy and "connect-src" not in policy


def test_a_run_that_becomes_a_link_while_it_is_watched_is_not_followed(server, runs):
    listing(server)
    link_out(runs / "first" / "diffusion")
    answer = ask(server, "/api/run?run=1")
    assert answer.status == 422 and "leads out of" in answer.content["error"]
    assert "first/diffusion" not in {server.index.entry(n).id for n in listing(server)["numbers"]}


@pytest.mark.parametrize(
    "query",
    ["run=-1", "run=x", "run=1&replica=1e9", "run=1&replica=2", f"run={'9' * 40}", "run=999", "run=%00", "a=&" * 30],
)
def test_wrong_requests_are_answered_in_a_sentence(server, query):
    listing(server)
    answer = ask(server, f"/api/agents?{query}")
    assert answer.status in (400, 404) and answer.content["error"]


@pytest.mark.parametrize("groups", ["x", "0-999999", "0-60000;0-60000", "1--2", "0,"])
def test_wrong_groups_are_answered_in_a_sentence(server, groups):
    assert ask(server, f"/api/curves?groups={quote(groups)}").status == 400


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_connections_that_ask_nothing_or_never_come_to_an_end_are_closed(server, sent):
    server.patience = 0.2
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        with suppress(ConnectionError):
            while not select.select([connection], [], [], 0.02)[0]:
                connection.sendall(sent[:1])  # a byte now and then
            assert connection.recv(1) == b""


def test_many_connections_are_answered_one_after_another(server):
    server.patience = 1.0  # each makes room for the next one
    assert {ask(server, "/page.css").status for _ in range(40)} == {200}
    open_ones = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    try:
        assert ask(server, "/api/runs").status == 200
    finally:
        for connection in open_ones:
            connection.close()


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
    with WatchServer(tmp_path, port=0) as server:
        assert main(["serve", str(tmp_path), "--port", str(server.port)]) == 2
        assert "--port" in capsys.readouterr().err
    with pytest.raises(ExperimentError, match="--host"):
        WatchServer(tmp_path, "no.such.host.invalid", 0)
