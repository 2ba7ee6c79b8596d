"""The contract between the input sets and the models: flat rows, and where each window starts in them.

Every input set is a directory: `rows.npy`, one `<split>.npy` for train, val and test, `meta.json`. By the clock,
`all.npy` has the windows of every split and of none, from which `load` makes other splits.
A window is `time` consecutive entries of `rows`, so that nothing is stored twice and reading one is
one contiguous copy. Input sets by the clock keep their targets once, too, in `targets.npy`, an entry a row.
The stages `inputs`, `tokens` and `clock` write such directories; all later stages read them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.lib.files import open_input
from stages.lib.weather.units import get_unit, slugify

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Meta:
    """What a model or a metric must know about an input set apart from its numbers."""

    time: int  # entries in a window
    columns: list[str] = field(default_factory=list)  # of rows, where they are two-dimensional
    target: int | None = None  # the column that is forecast
    mean: float = 0.0  # of the target in training, in its own unit
    std: float = 1.0
    words: int | None = None  # token ids lie in [0, words)
    leads: int | None = None  # by the clock: targets a window has, the first one entry after its last
    every: int | None = None  # by the clock: hours from one entry to the next

    @property
    def unit(self) -> str | None:
        """The target's unit as a suffix for names: `degc` for `T (degC)`; None for reviews."""
        if self.target is None:
            return None
        return slugify(get_unit(self.columns[self.target]))


class Windows:
    """A read-only array of windows, (windows, time, features) or (windows, time), that copies on indexing."""

    def __init__(self, rows: np.ndarray, starts: np.ndarray, time: int) -> None:
        view = np.lib.stride_tricks.sliding_window_view(rows, time, axis=0)
        self.rows = rows
        self.view = np.moveaxis(view, -1, 1)  # every window of `time` entries, without a copy
        self.starts = starts
        self.shape = (len(starts), *self.view.shape[1:])

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        return self.view[self.starts[index]]


class Split(NamedTuple):
    """One split: n windows in their order, what to predict from each, and when that is."""

    windows: Windows
    targets: np.ndarray  # (n,) float32; by the clock (n, leads), NaN where nothing was measured
    times: np.ndarray  # (n,) datetime64[s] of the target, by the clock of the origin; not-a-time for reviews


@dataclass(frozen=True)
class Inputs:
    """One input set; `rows` is (entries, features) float32 or (entries,) int16."""

    rows: np.ndarray
    meta: Meta
    train: Split
    val: Split
    test: Split

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
) -> None:
    """Write an input set; `splits` maps train, val and test, by the clock also all, to (starts, targets, times).

    With meta.leads the targets come from `measured` (entries,), the target's value of every row, instead.
    """
    directory.mkdir()
    np.save(directory / "rows.npy", rows)
    for name, (starts, targets, times) in splits.items():
        table = np.empty(len(starts), [("start", "<i4"), ("target", "<f4"), ("time", "<M8[s]")])
        table["start"], table["target"] = starts, np.nan if targets is None else targets
        table["time"] = np.datetime64("NaT") if times is None else times
        np.save(directory / f"{name}.npy", table)
    known = asdict(meta)
    if measured is None:  # the notebooks' input sets: as they were
        known = {key: value for key, value in known.items() if key not in ("leads", "every")}
    else:
        np.save(directory / "targets.npy", measured)
    (directory / "meta.json").write_text(json.dumps(known, indent=2) + "\n")


def load_input_set(
    directory: str | Path, bounds: Sequence[np.datetime64 | None] | None = None, stage: str = "inputs"
) -> Inputs:
    """Read an input set; raises UserError, naming the `stage` that makes it, where it is missing or damaged.

    By the clock, `bounds` are the beginnings of other splits than its own, train, val and test, and the end of test
    (None: that of the record). A split holds the windows that lie within it, targets included; a row counts as the
    hours since the one before it.
    """
    directory = Path(directory)
    with open_input(directory / "meta.json", f"{stage}@{directory.name}") as path:
        meta = Meta(**json.loads(path.read_text()))
    arrays = {}
    splits = ("all",) if bounds else SPLITS
    for name in ("rows", *splits, *(["targets"] if meta.leads else [])):
        with open_input(directory / f"{name}.npy", f"{stage}@{directory.name}") as path:
            arrays[name] = np.load(path)
    rows, measured = arrays.pop("rows"), arrays.pop("targets", None)
    if bounds:
        table, hour = arrays.pop("all"), np.timedelta64(meta.every, "h")
        first, last = table["time"] - meta.time * hour, table["time"] + meta.leads * hour
        for name, begin, end in zip(SPLITS, bounds, bounds[1:], strict=False):
            arrays[name] = table[(first >= begin) & ((last < end) if end is not None else True)]
    found = {}
    for name, table in arrays.items():
        starts, targets, times = (np.ascontiguousarray(table[key]) for key in ("start", "target", "time"))
        if measured is not None:
            targets = np.lib.stride_tricks.sliding_window_view(measured[meta.time :], meta.leads)[starts]
        found[name] = Split(Windows(rows, starts, meta.time), targets, times)
    return Inputs(rows, meta, **found)
