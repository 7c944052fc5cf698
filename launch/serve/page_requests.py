"""Requests of the page: who may ask, what is asked for, and answers in its form."""

import gzip
import io
import json
import math
import mimetypes
import re
import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from basinet.launch.serve.page_curves import curves
from basinet.launch.serve.page_details import details
from basinet.launch.serve.study_index import ODD
from basinet.sim.experiment.mistakes import ExperimentError

if TYPE_CHECKING:
    from basinet.launch.serve.watch_server import WatchServer

__all__ = ["SECONDS", "Handler", "Refused"]

SECONDS = 0.8
"""Time that one answer may spend on reading files; the page asks for the rest."""

_MOST_RUNS = 100_000

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_OF_REPORTS = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)
"""A report needs no other file. It is sandboxed, so that nothing in it may ask this server for more."""


class Refused(Exception):
    """A request that is not answered as asked.

    Args:
        status: The status of the answer.
        reason: A sentence.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Patient(io.RawIOBase):
    """Reads from a connection up to a time, whatever trickles in."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.connection.settimeout(max(1e-3, self.until - time.monotonic()))
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: "WatchServer"
    protocol_version = "HTTP/1.1"
    server_version = "basinet"
    sys_version = ""

    def setup(self) -> None:
        """Read patiently, but not for ever."""
        super().setup()
        self._patient = _Patient(self.connection)
        self.rfile = io.BufferedReader(self._patient)

    def handle_one_request(self) -> None:
        """Answer the next request."""
        self._patient.until = time.monotonic() + self.server.patience
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without content."""
        self._answer()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request, or one of another method, with a sentence instead of a page."""
        self.close_connection = True
        self.request_version = self.protocol_version  # that of a line that cannot be read would have no headers
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._tell(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered", {"Allow": "GET, HEAD"})
        else:
            self._tell(HTTPStatus(code), f"this is no request: {message or HTTPStatus(code).phrase}")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""

    def _answer(self) -> None:
        self.connection.settimeout(self.server.patience)
        try:
            content, kind, headers = self._content()
            self._send(HTTPStatus.OK, content, kind, headers)
        except Refused as error:
            self._tell(error.status, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except (ExperimentError, OSError) as error:
            self._tell(HTTPStatus.UNPROCESSABLE_ENTITY, " ".join(str(error).split()))
        except ODD as error:
            words = " ".join(str(error).split())
            self._tell(HTTPStatus.UNPROCESSABLE_ENTITY, f"a file does not hold what a run writes ({words})")

    def _tell(self, status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, _json({"error": sentence}), "application/json", headers or {})

    def _content(self) -> tuple[bytes, str, Mapping[str, str]]:
        """Return the content of the answer, its kind, and headers of its own."""
        if len(hosts := self.headers.get_all("Host", [])) != 1 or not self.server.knows(hosts[0]):
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "the page is not served under this name; see --host")
        is_foreign = (
            self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
            and self.headers.get("Sec-Fetch-Mode") != "navigate"
        )
        if is_foreign or self.headers.get("Origin", own := f"http://{hosts[0]}") != own:
            raise Refused(HTTPStatus.FORBIDDEN, "other sites may not ask")
        address = urlsplit(self.path)
        if address.path in self.server.pages:
            name = "index.html" if address.path == "/" else address.path
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return self.server.pages[address.path], "text/javascript" if name.endswith(".js") else kind, {}
        if address.path.startswith("/report/"):
            path = unquote(address.path.removeprefix("/report/"), errors="surrogateescape")
            return self.server.report(path), "text/html", {"Content-Security-Policy": _OF_REPORTS}
        answers: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/api/runs": lambda asked: self.server.runs(_whole(asked, "since")),
            "/api/curves": self._curves,
            "/api/run": lambda asked: details(self.server.index, self.server.entry(_whole(asked, "run"))),
            "/api/agents": lambda asked: self.server.agents(_whole(asked, "run"), _whole(asked, "replica")),
        }
        if address.path not in answers:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        try:
            asked = {name: values[0] for name, values in parse_qs(address.query, max_num_fields=20).items()}
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the query cannot be read: {error}") from error
        return _json(answers[address.path](asked)), "application/json", {}

    def _curves(self, asked: Mapping[str, str]) -> dict[str, Any]:
        groups: list[list[int]] = []
        for group in filter(None, asked.get("groups", "").split(";")):
            groups.append(_numbers(group, _MOST_RUNS - sum(map(len, groups))))
        return curves(self.server.index, groups, asked.get("metric", "train_loss"), asked.get("x", "step"), SECONDS)

    def _send(self, status: HTTPStatus, content: bytes, kind: str, headers: Mapping[str, str]) -> None:
        asked = getattr(self, "headers", {})  # there are none before the first line could be read
        packed = len(content) > 2000 and "gzip" in asked.get("Accept-Encoding", "")
        if packed:
            content = gzip.compress(content, 1)
        self.send_response(status)
        text = kind.startswith("text/") or kind.endswith(("json", "javascript"))
        own = {"Content-Type": f"{kind}; charset=utf-8" if text else kind, "Content-Length": str(len(content))}
        for name, value in {**_HEADERS, **own, **({"Content-Encoding": "gzip"} if packed else {}), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _whole(asked: Mapping[str, str], name: str) -> int:
    text = asked.get(name, "0")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name}: got {text[:40]!r}, where a whole number must be")
    return int(text)


def _numbers(text: str, most: int) -> list[int]:
    """Read numbers of runs, such as 0-4,8."""
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if ends is None:
            raise Refused(HTTPStatus.BAD_REQUEST, f"groups: got {part[:40]!r}, where numbers of runs must be")
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
        if len(found) > most:
            raise Refused(HTTPStatus.BAD_REQUEST, f"groups: more than {_MOST_RUNS:,} runs")
    return found


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=str).encode()
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"), default=str).encode()


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by their names."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
