"""Workers that hang are named, by what they do not answer and by how long their work took before."""

import json
import os
import socket
import threading

import pytest

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.runtimes import silence
from basinet.sim.runtimes.silence import SILENCE, Address, Heart, Silence


@pytest.fixture
def heart():
    made = Heart("127.0.0.1", lambda: 7)
    yield made
    made.close()


class Stopped(Address):
    """A process that is stopped."""

    def ask(self):
        raise TimeoutError


STOPPED = Stopped("127.0.0.1", 1, "far", 42)


def test_a_worker_tells_its_step_and_the_line_that_its_work_is_at(heart):
    answer = heart.address.ask()
    assert answer["step"] == 7 and heart.address.process == os.getpid()
    assert answer["place"].partition(":")[0] == "socket.py", "where this thread waits for the answer"
    heart.close()
    with pytest.raises(OSError):
        heart.address.ask()


def test_a_process_that_is_stopped_does_not_answer(monkeypatch):
    monkeypatch.setattr(silence, "_ANSWER_SECONDS", 0.01)
    # The system still accepts connections for it.
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        Address("127.0.0.1", server.getsockname()[1], "far", 42).ask()


def test_who_does_not_answer_is_named_after_a_number_of_looks_and_forgiven_by_an_answer(heart, monkeypatch):
    monkeypatch.setenv(SILENCE, "30")
    watched = Silence({0: heart.address, 1: heart.address})
    watched.workers[1] = STOPPED
    assert watched.pause == 3
    assert [watched.look() for _ in range(9)] == [None] * 9
    watched.workers[1] = heart.address
    assert watched.look() is None
    watched.workers[1] = STOPPED
    assert [watched.look() for _ in range(9)] == [None] * 9
    assert watched.look() == "worker 1 (process 42 on far) has not answered for 30 s"
    assert watched.absent() == "worker 1 (process 42 on far) is gone"
    assert watched.absent(lambda number: number == 1) is None
    watched.forget()
    assert watched.look() is None


def test_who_could_never_be_asked_is_not_taken_to_hang_or_to_be_gone(heart, monkeypatch, caplog):
    """As behind a firewall, which lets through what the workers compute."""
    monkeypatch.setenv(SILENCE, "30")
    watched = Silence({0: heart.address, 1: STOPPED})
    assert [record.getMessage() for record in caplog.records] == [
        "worker 1 (process 42 on far) cannot be asked from here: nobody will notice if they hang"
    ]
    assert [watched.look() for _ in range(20)] == [None] * 20 and watched.absent() is None


def test_how_long_work_may_take_is_learnt_from_the_longest_before(heart, monkeypatch):
    monkeypatch.setenv(SILENCE, "10")
    clock = [0.0]
    monkeypatch.setattr(silence.time, "monotonic", lambda: clock[0])
    watched = Silence({3: heart.address})

    def takes(seconds, steps):
        with watched.during("advance", steps):
            clock[0] += seconds

    with watched.during("advance", 1):
        assert [watched.look() for _ in range(40)] == [None] * 40, "nothing is known of the first one"
    takes(20, 5)
    takes(1, 5)
    assert watched.allowed("advance", 3) == 20 * 4 * 3
    assert watched.allowed("advance", 0.1) == 10
    with watched.during("advance", 1):
        assert [watched.look() for _ in range(80)] == [None] * 80
        said = watched.look()
    assert said is not None and said.startswith(
        f"worker 3 (process {os.getpid()} on {socket.gethostname()}) has not ended a piece of work for 81 s that took"
        " at most 4 s before: at step 7 in "
    )
    assert watched.look() is None, "between calls, nobody need get on"


def test_of_workers_that_wait_for_each_other_those_that_are_behind_are_named(monkeypatch):
    monkeypatch.setenv(SILENCE, "10")
    hearts = [Heart("127.0.0.1", lambda step=step: step) for step in (8, 7, 8, None)]
    watched = Silence({rank: made.address for rank, made in enumerate(hearts)})
    with watched.during("advance"):
        pass
    with watched.during("advance"):
        said = [watched.look() for _ in range(11)][-1]
        for made in hearts:
            made.close()
        assert watched.look() is None, "nobody tells where the work is"
    assert said is not None and said.startswith("worker 1 (") and "at step 7 in " in said


def test_who_is_to_stop_tells_the_others(heart):
    """Also one that only hears of it, and not those that cannot be reached."""
    for asked in (0, 1):
        own, words = Heart("127.0.0.1", lambda: 7), [threading.Event(), threading.Event()]
        words[1] = own.stop if asked else words[1]
        watched = Silence({0: own.address, 1: heart.address, 2: STOPPED})
        with watched.passing_on(words[0], words[1]):
            assert not heart.stop.is_set()
            own.address.stop() if asked else words[0].set()
            assert heart.stop.wait(900) and words[0].is_set()
        assert heart.address.ask()["step"] == 7
        heart.stop.clear()
        own.close()
        with watched.passing_on(threading.Event()):
            heart.address.ask()
        assert not heart.stop.is_set()


def test_a_port_to_which_something_else_answers_is_no_answer(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for words in ("HTTP/1.1 400", "[1]", '{"step": 1}', json.dumps({"step": 1, "place": "a.py:1"})):
                with server.accept()[0] as connection:
                    connection.sendall(f"{words}\n".encode())

        threading.Thread(target=answer, daemon=True).start()
        address = Address("127.0.0.1", server.getsockname()[1], "near", 1)
        for _ in range(3):
            with pytest.raises(ValueError):
                address.ask()
        assert address.ask()["step"] == 1


def test_the_time_without_an_answer_is_a_positive_number(monkeypatch):
    monkeypatch.setenv(SILENCE, "never")
    with pytest.raises(ExperimentError, match=f"{SILENCE}: got 'never'; allowed are positive"):
        Silence({})
