"""`basinet serve`: a local page to watch and compare runs."""

import argparse
import webbrowser

from basinet.launch.cli.output import DONE, say
from basinet.launch.serve.watch_server import WatchServer

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    with WatchServer(options.folder, options.host, options.port) as server:
        say(f"serve: {server.url} shows the runs below {options.folder}; Ctrl-C ends it")
        if server.is_open:
            say(f"serve: whoever reaches {options.host} on this port can read them; there is no password")
        if options.open:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("serve: ended")
    return DONE
