"""Signals that ask a process to stop, and waiting for others."""

import os
import signal
import threading

import pytest

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run import interruptions
from basinet.sim.run.interruptions import INTERRUPTIONS, stopping
from basinet.sim.runtimes.meeting import WAIT, in_time, patience


@pytest.fixture
def heard():
    """Let a hang-up be heard, though the tests may have been started by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", INTERRUPTIONS)
def test_each_interruption_is_a_wish_to_stop_and_leaves_no_handler_behind(number, heard):
    before = {n: signal.getsignal(n) for n in INTERRUPTIONS}
    said = []
    with stopping(said.append) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(900) and len(said) == 1
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt, match="interrupted twice"):
                os.kill(os.getpid(), number)
        assert len(said) == 1
    assert {n: signal.getsignal(n) for n in INTERRUPTIONS} == before


def test_a_second_signal_is_an_echo_at_first_and_later_ends_at_once(monkeypatch):
    said = []
    with stopping(said.append) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(900)
        monkeypatch.setattr(interruptions, "_ECHO_SECONDS", 900.0)
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(interruptions, "_ECHO_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt, match="interrupted twice"):
            os.kill(os.getpid(), signal.SIGTERM)
    assert len(said) == 1


def test_a_hang_up_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(print) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_waits_gives_up_and_says_for_whom():
    assert in_time(lambda: 3, "three", 60, "count") == 3
    never = threading.Event()
    with pytest.raises(ExperimentError, match=rf"^the bus: not there after 0.3 s \({WAIT} .*\); walk$"):
        in_time(never.wait, "the bus", 0.3, "walk")
    never.set()
    with pytest.raises(ExperimentError, match=r"^the bus: out of fuel; walk$"):
        in_time(lambda: (_ for _ in ()).throw(RuntimeError("out of fuel")), "the bus", 60, "walk")


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_how_long_to_wait_is_a_positive_number(text, monkeypatch):
    monkeypatch.delenv(WAIT, raising=False)
    assert patience(60) == 60
    monkeypatch.setenv(WAIT, "2.5")
    assert patience(60) == 2.5
    monkeypatch.setenv(WAIT, text)
    with pytest.raises(ExperimentError, match=rf"{WAIT}: got '{text}'; allowed are positive"):
        patience(60)
