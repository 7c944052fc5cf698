"""A script that gathers machines into a Ray cluster of its own, runs an experiment there, and stops it again."""

import shlex

from basinet.launch.clusters.machines import Job, bash

__all__ = ["ray_script"]


def ray_script(job: Job) -> str:
    """Write the script.

    Args:
        job: The experiment and the machines.

    Returns:
        It.
    """
    machines, group = job.machines, job.machines.only
    if machines.nodes == 1:
        return bash(f"basinet {job.command()}")
    return bash(_RAY.format(
        others=machines.nodes - 1,
        resources=f"--num-cpus={group.workers * machines.cpus} --num-gpus={group.gpus}",
        name=shlex.quote(job.name),
        words=job.command(),
    ))  # fmt: skip


_RAY = """\
# With `head` on the first machine, with `join` on each of the {others} others; then with `run` on the first one, and at
# the end with `stop` on all. HEAD=node1 names the first machine, PORT another port than this user's usual one.
: "${{PORT:=$((20000 + UID % 10000))}}"
# What Ray writes on this machine, and the session in which it runs there: it alone is stopped.
FOLDER="${{RAY_TMPDIR:-/tmp}}/basinet-$UID-$PORT"
# Who holds this token may run code here: the folder of this script is seen by all machines, its owner alone reads it.
TOKEN="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"/.{name}-token
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$TOKEN"
running() {{ [ -s "$FOLDER/session" ] && pgrep -s "$(cat "$FOLDER/session")" > /dev/null; }}
start() {{
    if running; then echo "Ray is running here; first: $0 stop" >&2; exit 1; fi
    mkdir -p -m 700 "$FOLDER"
    setsid --wait bash -c 'echo $$ > "$0/session"; exec ray start --temp-dir="$0" "$@"' "$FOLDER" "$@" {resources}
}}
case "${{1:?head, join, run or stop}}" in
    head)
        [ -s "$TOKEN" ] || (umask 077; od -An -tx1 -N32 /dev/urandom | tr -d ' \\n' > "$TOKEN")
        start --head --port="$PORT" --include-dashboard=false ;;
    join)
        start --address="${{HEAD:?name the first machine, such as HEAD=node1}}:$PORT" ;;
    run)
        RAY_ADDRESS="${{HEAD:?name the first machine, such as HEAD=node1}}:$PORT" basinet {words} ;;
    stop)
        for signal in TERM KILL; do
            running && pkill -$signal -s "$(cat "$FOLDER/session")"
            for _ in {{1..50}}; do running && sleep 0.2; done
        done
        rm -rf "$FOLDER" ;;
esac"""
