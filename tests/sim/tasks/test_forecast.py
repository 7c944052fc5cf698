"""Forecasting of time series: windows, the parts of a series, standardisation, trivial forecasts."""

from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
import torch

from basinet.sim.data.nests import move_nest
from basinet.sim.experiment.digest import digest
from basinet.sim.models import MLP, LinearForecaster
from basinet.sim.tasks import forecast

ROWS, NAMES = 60, ("HUFL", "OT")


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(3, 2, size=(ROWS, len(NAMES)))


@pytest.fixture(scope="module")
def etth(numbers, tmp_path_factory):
    """A file in the layout of ETT, of 42 rows for training, 6 for validation and 12 for tests."""
    return write(tmp_path_factory.mktemp("ett") / "ETTh.csv", numbers)


def write(path, numbers, dates=None):
    dates = [f"2016-07-{1 + row // 24:02} {row % 24:02}:00:00" for row in range(ROWS)] if dates is None else dates
    lines = [f"{date},{','.join(map(str, row))}" for date, row in zip(dates, numbers, strict=True)]
    path.write_text("\n".join([",".join(("date", *NAMES)), *lines]))
    return str(path)


def windows(series, length, horizon, stride, first, last, separate):
    """Windows by a loop; what they are to forecast lies in the rows first … last − 1."""
    inputs, targets = [], []
    for start in range(first - length, last - length - horizon + 1, stride):
        pair = series[start : start + length], series[start + length : start + length + horizon]
        for channel in range(series.shape[1]) if separate else [slice(None)]:
            for part, found in zip(pair, (inputs, targets), strict=True):
                found.append(part[:, channel].reshape(len(part), -1))
    return np.array(inputs), np.array(targets)


@pytest.mark.parametrize("test", ["test", "validation"])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("channels", ["joint", "separate"])
def test_windows_are_those_of_a_loop(etth, numbers, channels, stride, test):
    task = forecast(path=etth, inputs=7, horizon=4, channels=channels, stride=stride, test=test)
    scaled = ((numbers - numbers[:42].mean(0)) / numbers[:42].std(0)).astype(np.float32)
    tested = (48, 60) if test == "test" else (42, 48)
    for found, (first, last) in ((task.train, (7, 42)), (task.test, tested)):
        for part, expected in zip(
            found, windows(scaled, 7, 4, stride, first, last, channels == "separate"), strict=True
        ):
            np.testing.assert_allclose(part, expected, rtol=0, atol=1e-6)
    assert task.input_shape == (7, 1 if channels == "separate" else 2)
    assert task.num_outputs == 4 * task.input_shape[1]
    assert len(task.times) == tested[1] - tested[0] + 7 and task.times[7] == f"2016-07-0{1 + tested[0] // 24} " + (
        f"{tested[0] % 24:02}:00:00"
    )


@pytest.mark.parametrize(("test", "tested"), [("test", (48, 60)), ("validation", (36, 48))])
def test_the_split_of_ett(etth, numbers, test, tested):
    task = forecast(path=etth, inputs=7, horizon=4, split=[6, 2, 2], standardize=False, test=test)
    for (inputs, targets), (first, last) in ((task.train, (7, 36)), (task.test, tested)):
        expected = windows(numbers.astype(np.float32), 7, 4, 1, first, last, separate=False)
        np.testing.assert_array_equal(inputs, expected[0])
        np.testing.assert_array_equal(targets, expected[1])


def test_windows_take_no_memory_in_any_type(etth):
    for channels in ("joint", "separate"):
        task = forecast(path=etth, inputs=20, horizon=10, channels=channels)
        for given in (task, task.to("cpu", torch.float64), task.to("cpu", torch.float32)):
            size = ROWS * len(NAMES) * given.train[0].itemsize
            for part, whole in zip((*given.train, *given.test), (*task.train, *task.test), strict=True):
                assert part.untyped_storage().nbytes() <= size
                assert torch.equal(part.float(), whole)
    ordinary = torch.arange(6.0)[::2]
    assert torch.equal(move_nest(ordinary, "cpu", torch.float64), ordinary.double())


def test_splits_among_agents(etth):
    task = forecast(path=etth, inputs=7, horizon=4, channels="separate", periods=4)
    count = 42 - 7 - 4 + 1
    assert task.columns["series"].tolist() == [*NAMES] * count
    assert task.columns["period"].tolist() == [4 * start // count for start in range(count) for _ in NAMES]
    assert forecast(path=etth, inputs=7, horizon=4).columns.keys() == {"period"}
    assert len({*forecast(path=etth, inputs=7, horizon=4, periods=10**6).columns["period"]}) == count


def test_columns_and_their_own_scale(etth, numbers):
    task = forecast(path=etth, inputs=7, horizon=4, columns=["OT"], standardize=False)
    assert (task.names, task.shift, task.scale) == (("OT",), (0.0,), (1.0,))
    np.testing.assert_allclose(task.train[0][0, :, 0], numbers[:7, 1], rtol=1e-6)
    task = forecast(path=etth, inputs=7, horizon=4)
    np.testing.assert_allclose(task.shift, numbers[:42].mean(0), rtol=1e-12)
    np.testing.assert_allclose(task.scale, numbers[:42].std(0), rtol=1e-12)


def test_the_same_file_gives_the_same_task(etth):
    first, again = (digest(forecast(path=etth, inputs=7, horizon=4)) for _ in range(2))
    assert first == again != digest(forecast(path=etth, inputs=7, horizon=5))


@pytest.mark.parametrize("value", [5.0, 0.1, -1e-30, 1e30, 1e-200])
def test_a_constant_channel_is_shifted_only(numbers, tmp_path, value):
    ulps = np.spacing(value) * (np.arange(ROWS) % 2)
    constant = np.stack([numbers[:, 0], value + ulps], axis=1)
    task = forecast(path=write(tmp_path / "c.csv", constant), inputs=7, horizon=4)
    assert task.scale[1] == 1 and task.train[0][..., 1].abs().max() <= ROWS * np.finfo(float).eps * abs(value)
    assert all(np.isfinite(value) for row in task.baselines().values() for value in row.values())


@pytest.mark.parametrize(
    ("name", "season", "first", "last"),
    [
        ("co2", 52, "1958-03-29", "2001-12-29"),
        ("elnino", 12, "1950-01", "2010-12"),
        ("sunspots", 11, "1700", "2008"),
        ("macrodata", 4, "1959Q1", "2009Q3"),
    ],
)
def test_the_series_of_statsmodels(name, season, first, last):
    data = getattr(sm.datasets, name).load_pandas().data
    values = data.drop(columns=[c for c in data if c.lower() in ("year", "quarter")]).ffill().to_numpy(float)
    values = values.reshape(-1, 1) if name == "elnino" else values
    task = forecast(series=name, standardize=False)
    assert task.season == season and task.input_shape == (2 * season, values.shape[1]) and task.horizon == season
    fit, held = int(0.7 * len(values)), int(0.2 * len(values))
    np.testing.assert_array_equal(task.train[0][0], values[: 2 * season].astype(np.float32))
    np.testing.assert_array_equal(task.train[1][-1], values[fit - season : fit].astype(np.float32))
    np.testing.assert_array_equal(task.test[1][0], values[-held:][:season].astype(np.float32))
    np.testing.assert_array_equal(task.test[1][-1], values[-season:].astype(np.float32))
    assert task.times[-1] == last and len(task.times) == held + 2 * season
    if name == "co2":
        dates = [f"{date:%Y-%m-%d}" for date in data.index]
        assert (dates[0], dates[-len(task.times) :]) == (first, [*task.times])


@pytest.mark.parametrize(
    ("fill", "expected"), [("last", [5.0, 5.0, 5.0, 5.0, 8.0, 8.0]), ("linear", [5.0, 5.0, 6.0, 7.0, 8.0, 8.0])]
)
def test_missing_values_are_filled(numbers, tmp_path, fill, expected):
    gaps = numbers.astype(object)
    gaps[:6, 0] = ["", "5", "NaN", "", "8", ""]
    gaps[6:, 0] = 8.0
    task = forecast(path=write(tmp_path / "gaps.csv", gaps), inputs=6, horizon=4, fill=fill, standardize=False)
    assert task.train[0][0, :, 0].tolist() == expected


def test_trivial_forecasts_by_hand(etth, numbers):
    task = forecast(path=etth, inputs=8, horizon=7, season=3).to("cpu", torch.float64)
    (x, y), (x_test, y_test) = [[part.numpy() for part in data] for data in (task.train, task.test)]
    linear = []
    rows = [(a[:, c] - a[-1, c], b[:, c] - a[-1, c]) for a, b in zip(x, y, strict=True) for c in range(2)]
    past, future = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    # Ridge regression as least squares with more rows, the intercept by centring.
    penalty = 1e-3 * np.square(past).sum() / 8
    centred, around = past - past.mean(0), future - future.mean(0)
    more = np.sqrt(penalty) * np.eye(8)
    weights = np.linalg.lstsq(np.concatenate([centred, more]), np.concatenate([around, np.zeros((8, 7))]), rcond=None)[
        0
    ]
    for window in x_test:
        change = np.stack([(window[:, c] - window[-1, c] - past.mean(0)) @ weights for c in range(2)], axis=1)
        linear.append(window[-1] + change + future.mean(0)[:, None])
    expected = {
        "mean target": np.broadcast_to(y.mean(0), y_test.shape),
        "last value": np.array([[w[-1]] * 7 for w in x_test]),
        "seasonal naive": np.array([[w[8 - 3 + h % 3] for h in range(7)] for w in x_test]),
        "ridge regression": np.array(linear),
    }
    found = task.baselines()
    assert found.keys() == expected.keys()
    for name, outputs in expected.items():
        errors = outputs - y_test
        assert found[name]["test_mse"] == pytest.approx(np.square(errors).mean(), rel=1e-9)
        assert found[name]["test_loss"] == pytest.approx(np.square(errors).mean(), rel=1e-9)
        assert found[name]["test_mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert found["ridge regression"]["train_loss"] < min(
        found[name]["train_loss"] for name in ("last value", "mean target")
    )
    assert "seasonal naive" not in forecast(path=etth, inputs=8, horizon=7).baselines()


def test_a_known_season_longer_than_a_window_has_no_baseline():
    assert "seasonal naive" in forecast(series="sunspots").baselines()
    assert "seasonal naive" not in forecast(series="sunspots", inputs=10).baselines()


def test_a_linear_forecaster_starts_at_its_baseline_and_can_be_the_fitted_one(etth):
    task = forecast(path=etth, inputs=8, horizon=7).to("cpu", torch.float64)
    model = LinearForecaster(task.input_shape, task.num_outputs).double()
    found, baselines = task.evaluate(model), task.baselines()
    assert {name: found[name] for name in baselines["last value"]} == pytest.approx(baselines["last value"], rel=1e-12)
    fitted = task.naive["ridge regression"].weights
    with torch.no_grad():
        model.linear.weight.copy_(fitted[:-1].T)
        model.linear.bias.copy_(fitted[-1])
    found = task.evaluate(model)
    assert found["test_mae"] == pytest.approx(baselines["ridge regression"]["test_mae"], rel=1e-9)
    mean = LinearForecaster(task.input_shape, task.num_outputs, shift="mean").double()
    torch.testing.assert_close(mean(task.test[0]), task.test[0].mean(1, keepdim=True).expand(-1, 7, -1))
    assert not LinearForecaster(task.input_shape, task.num_outputs, shift="none").double()(task.test[0]).any()


def test_models_that_know_no_channels(etth):
    task = forecast(path=etth, inputs=8, horizon=7)
    model = MLP(task.input_shape, task.num_outputs, hidden=[3])
    outputs = task.outputs(model, task.test)
    assert torch.equal(outputs.flatten(1), model(task.test[0])) and outputs.shape == task.test[1].shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"series": "c02"}, "series is 'c02'; allowed: co2, elnino, sunspots, macrodata; did you mean 'co2'"),
        ({"series": "co2", "path": "a.csv"}, "series is 'co2' and path 'a.csv'; give one of them"),
        ({"path": "nowhere.csv"}, "nowhere.csv cannot be read"),
        ({"columns": ["OT", "HUFI"]}, "no column 'HUFI'; allowed: HUFL, OT; did you mean 'HUFL'"),
        ({"columns": ["OT", "OT"]}, "names a column twice"),
        ({"columns": []}, "names none; allowed are some of HUFL, OT"),
        (
            {"inputs": 40, "horizon": 3},
            r"training part of .* has 42 of 60 rows, fewer than inputs \+ horizon = 40 \+ 3",
        ),
        ({"inputs": 4, "horizon": 13}, "test part of .* has 12 of 60 rows, fewer than the horizon of 13"),
        ({"inputs": 4, "horizon": 7, "test": "validation"}, "validation part of .* has 6 of 60 rows"),
        ({"split": [7, 0, 2]}, r"split is \[7, 0, 2\]; allowed are three positive numbers"),
        ({"split": [0.7, 0.3]}, r"split is \[0.7, 0.3\]; allowed are three positive numbers"),
        ({"inputs": 4, "horizon": 3, "season": 5}, "season is 5; allowed are at most 4, the inputs"),
    ],
)
def test_settings_that_cannot_be(etth, settings, message):
    given = settings if settings.keys() & {"series", "path"} else {"path": etth, **settings}
    with pytest.raises(ValueError, match=f"^forecast: .*{message}") as caught:
        forecast(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "changed", "message"),
    [
        (3, "2016-07-01 02:00:00,1,", "column 'OT' has no value in line 4 of .*`fill`, which is last or linear"),
        (3, "2016-07-01 02:00:00,1,x", "column 'OT' has 'x' in line 4 of .*; allowed are numbers"),
        (3, "2016-07-01 02:00:00,inf,1", "column 'HUFL' has inf in line 4"),
        (3, "2016-07-01 02:00:00,1,-1e300", r"'OT' has -1e\+300 in line 4 of .*; allowed are .* finite in float32"),
        (3, "2016-07-01 02:00:00,1", "line 4 of .* has 2 values for 3 columns"),
        (3, "2016-06-01 02:00:00,1,1", "the date 2016-06-01 02:00:00 in line 4 of .* is before 2016-07-01 01:00:00"),
        (3, "yesterday,1,1", "the date in line 4 of .* is 'yesterday'; allowed are forms such as"),
        (0, "time,HUFL,OT", "the first has to be 'date'"),
        (0, "date,OT,OT", "column 'OT' appears twice"),
    ],
)
def test_files_that_are_no_series(etth, tmp_path, row, changed, message):
    lines = Path(etth).read_text().split("\n")
    lines[row] = changed
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"^forecast: .*{message}") as caught:
        forecast(path=str(path), inputs=7, horizon=4)
    assert "\n" not in str(caught.value)


def test_other_forms_of_dates_and_empty_columns(numbers, tmp_path):
    dates = [f"1990/1/{1 + row // 24} {row % 24}:00" for row in range(ROWS)]
    assert forecast(path=write(tmp_path / "rates.csv", numbers, dates), inputs=7, horizon=4).times[-1] == dates[-1]
    empty = numbers.astype(object)
    empty[:, 1] = ""
    with pytest.raises(ValueError, match=r"column 'OT' of .* has no values; leave it out"):
        forecast(path=write(tmp_path / "empty.csv", empty), inputs=7, horizon=4, fill="last")
