"""Fetch, copy or generate the raw files of a weather record or of the reviews, and check them."""

import importlib
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, format_reason
from stages.lib.settings.base import read_settings
from stages.lib.settings.source import RecordSource, ReviewsSource, Source, get_file_name, is_address
from stages.lib.weather import archives
from stages.lib.weather.fetching import RefusedError, Session, check_file, describe_file, fetch_file
from stages.lib.weather.record import FOLDER

REVIEWS = "reviews"  # the one section that is no record


def copy_files(section: str, paths: list[str], directory: Path, size: int | None, sha256: str | None) -> list[Path]:
    """Copy the files at `paths` into `directory`, check them, and return the copies in the same order.

    Several files get a number in front of their names. `size` and `sha256` are checked for a single file only.
    Raises UserError naming the path.
    """
    if len(paths) > 1 and (size, sha256) != (None, None):
        print(f"{section}: size and sha256 are not checked: they are for one file, source lists {len(paths)}")
        size = sha256 = None
    copies = []
    for number, path in enumerate(paths, start=1):
        prefix = f"{number:0{len(str(len(paths)))}d}_" if len(paths) > 1 else ""
        copies.append(directory / (prefix + get_file_name(path)))
        location = f"params.yaml: {section}.source: {path}"
        original = Path(os.path.expanduser(path))  # unlike Path.expanduser, accepts the home of an unknown user
        try:
            status = original.stat()
            if not stat.S_ISREG(status.st_mode):  # reading from a device or a pipe may never end
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
                raise RefusedError(f"expected a file, found {kind}")
            if status.st_size > archives.LIMIT:
                raise RefusedError(f"expected at most {archives.LIMIT:,} bytes, found {status.st_size:,}")
            shutil.copyfile(original, copies[-1])
            check_file(copies[-1], size, sha256)
        except FileNotFoundError:
            raise UserError(f"{location}: no such file (looked in {Path.cwd()})") from None
        except OSError as error:
            raise UserError(f"{location}: cannot be copied to {directory.parent}: {format_reason(error)}") from None
        except RefusedError as refused:
            is_mismatch = str(refused).startswith("wrong ")
            hint = f"; correct {section}.size and {section}.sha256, or set them to null" if is_mismatch else ""
            raise UserError(f"{location}: {refused}{hint}") from None
    return copies


def fetch_first_good(
    section: str, addresses: list[str], directory: Path, size: int | None, sha256: str | None
) -> tuple[dict[str, str], Path]:
    """Try `addresses` in order until one serves a good file; raise UserError with every failure if none does.

    Returns a note with the address as `source`, and after a redirect the last address as `redirected`; and the
    path.
    """
    failures = []
    with Session() as session:
        for address in addresses:
            print(f"{section}: trying {address}", flush=True)
            path = directory / get_file_name(address)
            try:
                final = fetch_file(session, address, path, size or archives.LIMIT)
                check_file(path, size, sha256)
            except RefusedError as refused:
                path.unlink(missing_ok=True)
                failures.append(f"  {address}: {refused}")
            else:
                redirected = {} if final == re.split("[?#]", address)[0] else {"redirected": final}
                return {"source": address} | redirected, path
    example = "imdb.npz" if section == REVIEWS else "jena_climate_2009_2016.csv.zip"
    advice = f"""Try one of these:
  a path: set {section}.source in params.yaml to a file you have, such as ~/Downloads/{example}
  another URL: put it into the list {section}.source in params.yaml
  synthetic data, no network needed: `make demo` runs the whole pipeline on `source: sample`
Size and hash of another file go into {section}.size and {section}.sha256 (or null: not checked)."""
    raise UserError("\n".join([f"{section}: no address served a good file:", *failures, advice]))


def download(name: str) -> None:
    """Fetch, copy or generate the raw files of the record NAME, or of the `reviews`, and note their source."""
    settings: Source
    if name == REVIEWS:
        settings = read_settings(ReviewsSource, "reviews")
        section, folder, sample = "reviews", Path("data/raw/reviews"), "reviews"
    else:
        settings = read_settings(RecordSource, "records", name)
        section, folder, sample = f"records.{name}", FOLDER / name / "raw", "weather"
    sources, size, sha256 = settings.addresses, settings.size, settings.sha256 and settings.sha256.lower()
    note: dict[str, Any] = {"source": ", ".join(sources)}
    with atomic_output(folder) as directory:
        directory.mkdir()
        is_synthetic = sources[0] in settings.samples
        if is_synthetic:
            importlib.import_module(f"stages.samples.{sample}").write_sample(directory, *sources[0].split()[1:])
            files = sorted(directory.iterdir())
            print(f"{name}: wrote SYNTHETIC data (source: {sources[0]}); nothing in it was measured")
        elif is_address(sources[0]):
            note, path = fetch_first_good(section, sources, directory, size, sha256)
            files = [path]
        else:
            files = copy_files(section, sources, directory, size, sha256)
        note |= {"synthetic": is_synthetic, "files": [describe_file(path) for path in files]}
        (directory / "source.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    print(f"{name}: {len(files)} file{'s' * (len(files) > 1)} in {folder}, from {note['source']}")
