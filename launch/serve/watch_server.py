"""The server of the page: it answers GET alone, from files of the package and from what it reads below one folder.

It is that of Python's standard library: a page for one reader on the same machine needs neither a framework nor an
event loop, and no further package has to be kept up to date. Answers are complete and short, so that a thread each,
of a limited number, is enough.
"""

import ipaddress
import re
import secrets
import socket
import sys
import threading
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from basinet.launch.serve.page_details import abandoned, listed
from basinet.launch.serve.page_requests import SECONDS, Handler, Refused
from basinet.launch.serve.study_index import Entry, StudyIndex
from basinet.sim.experiment.mistakes import ExperimentError
from basinet.sim.run.folder import load_run

__all__ = ["WatchServer"]

_PAGE = Path(__file__).parent / "page"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE = ("", "0.0.0.0", "::")
_CONNECTIONS = 32


class WatchServer(ThreadingHTTPServer):
    """Serves the page on the runs below a folder.

    Args:
        folder: The folder.
        host: The name or address to listen at.
        port: The port; 0 for any that is free.

    Attributes:
        index: The runs.
        url: Where the page is.
        patience: Seconds after which a connection is closed whose next request has not come in full.
    """

    patience = 15.0
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8765) -> None:
        if not folder.is_dir():
            raise ExperimentError(
                f"DIR: {folder} is no folder; give one that `basinet run` wrote, or one that holds such"
            )
        self.host = host
        self.index = StudyIndex(folder)
        self.session = secrets.token_hex(4)
        self.pages = {f"/{path.name}": path.read_bytes() for path in _PAGE.iterdir() if path.is_file()}
        self.pages["/"] = self.pages["/index.html"]
        self._places = threading.BoundedSemaphore(_CONNECTIONS)
        self._agents: dict[tuple[int, int], tuple[Any, dict[str, Any]]] = {}
        try:
            self.address_family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ExperimentError(
                f"--host, --port: cannot listen at {host}:{port} ({reason}); choose others"
            ) from error
        self.port = int(self.server_address[1])
        shown = "localhost" if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/"

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach the server."""
        if self.host in _LOOPBACK:
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True

    def knows(self, host: str) -> bool:
        """Check the name under which a browser has asked, which another site may have bound to this address.

        Args:
            host: The header `Host`.

        Returns:
            Whether it names this machine, or the host that was asked for.
        """
        found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::\d{1,5})?", host)
        if not found:
            return False
        name = (found[1] or found[2]).lower().rstrip(".")
        if name in (*_LOOPBACK, self.host.lower()):
            return True
        if self.host not in _EVERYWHERE:
            return False
        if name in (socket.gethostname().lower(), socket.getfqdn().lower()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; connections beyond the limit wait for others to end."""
        if self._places.acquire(timeout=self.patience):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for others."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that break off."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def entry(self, number: int) -> Entry:
        """Look up a run.

        Args:
            number: Its number.

        Returns:
            The run.

        Raises:
            Refused: There is none of this number, or no longer.
        """
        try:
            return self.index.entry(number)
        except LookupError as error:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no run {number}, or no longer") from error

    def runs(self, since: int) -> dict[str, Any]:
        """List the runs.

        Args:
            since: Version that the page knows: runs that have not changed after it are left out; 0 for all.

        Returns:
            Plain values.
        """
        pending = self.index.refresh(SECONDS)
        version = self.index.version  # before the entries: what changes meanwhile is listed the next time, too
        entries = self.index.entries()
        known: dict[str, Any] = {}
        for entry in entries:
            known |= {name: quantity for name, quantity in entry.quantities.items() if name not in known}
        return {
            "session": self.session,
            "folder": self.index.folder.name or str(self.index.folder),
            "version": version,
            "pending": pending,
            "numbers": [entry.number for entry in entries],
            "abandoned": abandoned(self.index, entries),
            "runs": [listed(entry) for entry in entries if entry.version > since],
            "problems": [*self.index.problems, *(entry.problem for entry in entries if entry.problem)],
            "quantities": {
                name: {"label": one.label, "heading": one.heading, "unit": one.unit, "direction": one.direction}
                for name, one in known.items()
            },
        }

    def agents(self, number: int, replica: int) -> dict[str, Any]:
        """Describe the agents of a run; kept until its files change.

        Args:
            number: Number of the run.
            replica: Number of the replica.

        Returns:
            Plain values.

        Raises:
            Refused: There is no such run or replica.
        """
        from basinet.launch.serve.page_agents import agents_of  # and with it torch, which takes seconds

        entry = self.entry(number)
        known = self._agents.get((number, replica))
        if known is None or known[0] != entry.stamp:
            run = load_run(self.index.confined(entry.path))
            if replica >= run.config["replicas"]:
                raise Refused(HTTPStatus.NOT_FOUND, f"{entry.id} has no replica {replica}")
            known = entry.stamp, agents_of(run, replica)
            while len(self._agents) > 8:
                self._agents.pop(next(iter(self._agents)), None)
            self._agents[number, replica] = known
        return known[1]

    def report(self, path: str) -> bytes:
        """Read a report below the folder.

        Args:
            path: Its path, as seen from there.

        Returns:
            The page.

        Raises:
            Refused: There is none, or the path leads out of the folder.
        """
        parts = path.split("/")
        wrong = any(part in ("", "..") or part.startswith(".") or "\\" in part or "\0" in part for part in parts)
        if wrong or parts[-1] != "report.html":
            raise Refused(HTTPStatus.FORBIDDEN, "only reports below the folder are served")
        place = self.index.folder.joinpath(*parts)
        try:
            if place.is_symlink() or not self.index.confined(place).is_file():
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such report")
            return place.read_bytes()
        except (ExperimentError, OSError, ValueError) as error:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such report") from error
