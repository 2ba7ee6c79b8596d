"""Input sets, the contract between data and models: flat rows, and the first row of each window.

An input set is a directory with `rows.npy`, `train.npy`, `val.npy`, `test.npy` and `meta.json`. A window is `time`
consecutive entries of `rows`, so no value is stored twice and reading a window is one contiguous copy. Input sets
by the clock also have `targets.npy`, one target per row, and `all.npy`, every window regardless of splits, from
which `load_input_set` makes other splits. With weather models, `ahead.npy` has what was known at each row about the
next ones. The stages `inputs`, `tokens` and `clock` write input sets; later stages
read them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.lib.files import open_input
from stages.lib.weather.units import get_unit, slugify

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Meta:
    """Properties of an input set that models and metrics need."""

    time: int  # entries in a window
    columns: list[str] = field(default_factory=list)  # of `rows`, if these are two-dimensional
    target: int | None = None  # index of the column to forecast
    mean: float = 0.0  # of the target in the training rows, in its own unit
    std: float = 1.0
    words: int | None = None  # token ids lie in [0, words)
    leads: int | None = None  # by the clock: targets per window, the first one entry after the window
    every: int | None = None  # by the clock: hours between entries
    record: str | None = None  # by the clock: the record that the rows come from
    source: dict[str, Any] | None = None  # by the clock: where that came from, and whether it is synthetic
    clock: dict[str, Any] | None = None  # by the clock: the settings of the input set
    neighbours: dict[str, list[int]] = field(default_factory=dict)  # of each: its first column, and the end
    ahead_columns: list[str] = field(default_factory=list)  # of `ahead`
    ahead_targets: list[int] = field(default_factory=list)  # of these, the forecasts of the target, best first
    windows: dict[str, int] = field(default_factory=dict)  # by the clock: of each split
    windows_lacking_values: dict[str, int] = field(default_factory=dict)  # of these, with a value that is missing
    reach: list[float] = field(default_factory=list)  # share of test origins with such a forecast, by lead

    @property
    def may_lack_target(self) -> bool:
        """Whether the target may be missing at the end of a window."""
        return self.clock is not None and self.clock["max_missing"] > 0

    @property
    def unit(self) -> str | None:
        """The unit of the target as a suffix of names: `degc` for `T (degC)`; None for reviews."""
        if self.target is None:
            return None
        return slugify(get_unit(self.columns[self.target]))


class Windows:
    """A read-only array of windows, (windows, time, features) or (windows, time); indexing returns a copy.

    `ahead` (entries, leads, columns), if there is one, has what was known at each entry about the next ones.
    """

    def __init__(self, rows: np.ndarray, starts: np.ndarray, time: int, ahead: np.ndarray | None = None) -> None:
        view = np.lib.stride_tricks.sliding_window_view(rows, time, axis=0)
        self.rows, self.ahead, self.time = rows, ahead, time
        self.view = np.moveaxis(view, -1, 1)  # all windows of `time` entries, valid or not, without a copy
        self.starts = starts
        self.shape = (len(starts), *self.view.shape[1:])

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        return self.view[self.starts[index]]

    def get_ahead(self, index: int | slice | np.ndarray) -> np.ndarray:
        """Return what was known at the last entry of each window: (windows, leads, columns)."""
        return self.ahead[self.starts[index] + self.time - 1]

    def get_inputs(self, index: slice | np.ndarray) -> dict[str, np.ndarray]:
        """Return the inputs of a station's model for the windows at `index`, by name."""
        return {"past": self[index]} | ({} if self.ahead is None else {"ahead": self.get_ahead(index)})

    def select(self, index: slice | np.ndarray) -> "Windows":
        """Return the windows at `index`."""
        return Windows(self.rows, self.starts[index], self.time, self.ahead)


class Split(NamedTuple):
    """One split: n windows in order, their targets and times."""

    windows: Windows
    targets: np.ndarray  # (n,) float32; by the clock (n, leads), NaN if not measured
    times: np.ndarray  # (n,) datetime64[s] of the target, or by the clock of the origin; NaT for reviews


@dataclass(frozen=True)
class Inputs:
    """One input set; `rows` is (entries, features) float32 or (entries,) int16."""

    rows: np.ndarray
    meta: Meta
    train: Split
    val: Split
    test: Split
    ahead: np.ndarray | None = None  # by the clock, with weather models: (entries, leads, columns) float32

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one window: (time, features) or (time,)."""
        return self.train.windows.shape[1:]


def save_input_set(
    directory: Path,
    rows: np.ndarray,
    splits: Mapping[str, tuple[np.ndarray, np.ndarray | None, np.ndarray | None]],
    meta: Meta,
    measured: np.ndarray | None = None,
    ahead: np.ndarray | None = None,
) -> None:
    """Write an input set; `splits` maps train, val, test, and by the clock also all, to (starts, targets, times).

    By the clock, `measured` (entries,) has the target at every row, and the targets of the splits are None. `ahead`
    (entries, leads, columns) has what was known at every row about the next ones.
    """
    directory.mkdir()
    np.save(directory / "rows.npy", rows)
    for name, (starts, targets, times) in splits.items():
        windows = np.empty(len(starts), [("start", "<i4"), ("target", "<f4"), ("time", "<M8[s]")])
        windows["start"], windows["target"] = starts, np.nan if targets is None else targets
        windows["time"] = np.datetime64("NaT") if times is None else times
        np.save(directory / f"{name}.npy", windows)
    properties = asdict(meta)
    if measured is None:  # the bytes of the notebooks' input sets stay the same
        keys = ("time", "columns", "target", "mean", "std", "words")
        properties = {key: properties[key] for key in keys}
    else:
        np.save(directory / "targets.npy", measured)
    if ahead is not None:
        np.save(directory / "ahead.npy", ahead)
    (directory / "meta.json").write_text(json.dumps(properties, indent=2) + "\n")


def load_input_set(
    directory: str | Path, bounds: Sequence[np.datetime64 | None] | None = None, stage: str = "inputs"
) -> Inputs:
    """Read an input set; raise UserError naming the `stage` that makes it if it is missing or damaged.

    By the clock, `bounds` replace its splits: the times at which train, val and test begin, and the end of test or
    None. A split has the windows that lie within it, targets included; a row covers the hours since the previous
    row.
    """
    directory = Path(directory)
    with open_input(directory / "meta.json", f"{stage}@{directory.name}") as path:
        meta = Meta(**json.loads(path.read_text()))
    arrays = {}
    optional = [name for name, there in (("targets", meta.leads), ("ahead", meta.ahead_columns)) if there]
    for name in ("rows", *(("all",) if bounds else SPLITS), *optional):
        with open_input(directory / f"{name}.npy", f"{stage}@{directory.name}") as path:
            arrays[name] = np.load(path)
    rows, measured, ahead = arrays.pop("rows"), arrays.pop("targets", None), arrays.pop("ahead", None)
    if bounds:
        windows, interval = arrays.pop("all"), np.timedelta64(meta.every, "h")
        first, last = windows["time"] - meta.time * interval, windows["time"] + meta.leads * interval
        for name, start, end in zip(SPLITS, bounds, bounds[1:], strict=False):
            arrays[name] = windows[(first >= start) & ((last < end) if end is not None else True)]
    splits = {}
    for name, windows in arrays.items():
        starts, targets, times = (np.ascontiguousarray(windows[key]) for key in ("start", "target", "time"))
        if measured is not None:
            targets = np.lib.stride_tricks.sliding_window_view(measured[meta.time :], meta.leads)[starts]
        splits[name] = Split(Windows(rows, starts, meta.time, ahead), targets, times)
    return Inputs(rows, meta, **splits, ahead=ahead)
