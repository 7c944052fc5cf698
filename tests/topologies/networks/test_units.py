"""Quantities with units."""

import numpy as np
import pytest

from basinet.topologies.networks import nanoseconds, rate, share, show_rate, show_size, show_time, size, transfer
from basinet.topologies.networks.units import speed


def test_units_are_read_exactly():
    assert [nanoseconds(text) for text in ("1 ns", "50 us", "50us", "0.1 ms", "1e-3 s", "2 min", "1 h", "0 s")] == [
        1,
        50_000,
        50_000,
        100_000,
        1_000_000,
        120 * 10**9,
        3600 * 10**9,
        0,
    ]
    assert nanoseconds("0.000025ms") == 25 and nanoseconds("2.5 ns") == 2 and nanoseconds("3.5 ns") == 4
    bits = ("8 b/s", "8 bps", "8 kb/s", "8 Kbit/s", "10 Gb/s", "2880Gbps", "1 Gib/s")
    assert [rate(text) for text in bits] == [1, 1, 1e3, 1e3, 1.25e9, 360e9, 2**27]
    assert [rate(text) for text in ("1 B/s", "1 GB/s", "1 GBps", "1 GiB/s", "inf")] == [1, 1e9, 1e9, 2**30, np.inf]
    assert [speed(text) for text in ("20 TFLOP/s", "1 PFLOPS")] == [2e13, 1e15]
    assert [size(text) for text in ("100 MB", "1 KiB", "0.5 kB", "1.5 GiB")] == [10**8, 1024, 500, 3 * 2**29]
    assert [share(text) for text in (0, 0.25, "0.25", "25 %", "25%")] == [0, 0.25, 0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (rate, "10", "got '10'; a bandwidth needs a number and a unit, such as 10 Gb/s"),
        (rate, 10, "got 10; a bandwidth needs a number and a unit"),
        (rate, "10 GB", "got '10 GB'; a bandwidth is given in one of"),
        (rate, "0 Gb/s", "must be positive"),
        (rate, "-1 Gb/s", "must not be negative"),
        (nanoseconds, "1_0 ms", "a time needs a number and a unit"),
        (nanoseconds, "inf", "a time needs a number and a unit"),
        (nanoseconds, "5 m", "a time is given in one of ns, us"),
        (nanoseconds, "1e99 s", "at most 146 years"),
        (nanoseconds, "4611686018427387905 ns", "at most 146 years"),
        (size, "8 Mb", "a size is given in one of"),
        (size, "0.5 B", "whole number of bytes"),
        (share, "100 %", "below 1, or below 100 %"),
        (share, "x", "a loss is given in one of %"),
    ],
)
def test_a_wrong_quantity_names_the_unit_wanted(read, text, message):
    with pytest.raises(ValueError) as caught:
        read(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_transfers_are_rounded_to_even_nanoseconds():
    assert transfer(1_048_576, rate("50 GiB/s")) == 19_531  # 19,531.25
    assert transfer(3, 2e9) == 2 and transfer(5, 2e9) == 2 and isinstance(transfer(5, 2e9), int)  # 1.5 and 2.5
    assert transfer(np.array([0, 10]), np.array([1.0, np.inf])).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"1 EB|1,000,000 TB"):
        transfer(10**18, 1e-3)


def test_quantities_are_shown_with_units():
    assert [show_time(t) for t in (0, 999, 1_000, 20_031, 1_500_000, 90 * 10**9)] == [
        "0 ns",
        "999 ns",
        "1 us",
        "20.03 us",
        "1.5 ms",
        "90 s",
    ]
    assert [show_rate(rate(text)) for text in ("10 Gb/s", "8 b/s", "1 MB/s")] == ["10 Gb/s", "8 b/s", "8 Mb/s"]
    assert [show_size(s) for s in (0, 1024, 10**8, 10**18)] == ["0 B", "1.024 kB", "100 MB", "1,000,000 TB"]
