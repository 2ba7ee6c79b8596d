"""Today's files of several records, each of which is fetched and read once, when it is first needed."""

import re
from pathlib import Path

from stages.lib.errors import UserError
from stages.lib.files import check_is_file
from stages.lib.settings.source import get_file_name, hide_secrets, is_address
from stages.lib.weather import archives
from stages.lib.weather.latest import Content, read_content

TIME_LIMIT = 120.0  # seconds for one address, retries included


class LatestFiles:
    """The files of some records, by name."""

    def __init__(self, sources: dict[str, str], folder: Path) -> None:
        """`sources` has the path or the address of each file; fetched files go to `folder`."""
        self.sources, self.folder = sources, folder
        self._contents: dict[str, Content | UserError] = {}

    def read(self, name: str) -> Content:
        """Return the rows of the record `name`; raise UserError, each time, if they cannot be had."""
        if name not in self._contents:
            try:
                self._contents[name] = self._read_file(name)
            except UserError as error:
                self._contents[name] = error
        content = self._contents[name]
        if isinstance(content, UserError):
            raise content
        return content

    def _read_file(self, name: str) -> Content:
        source = self.sources[name]
        if not is_address(source):
            path = Path(source)
            check_is_file(path)
            return read_content(name, path, source)
        # Imported here, as requests takes a tenth of a second that a forecast from files need not wait for.
        from stages.lib.weather.fetching import RefusedError, Session, check_file, fetch_file

        location, path = hide_secrets(source), self.folder / name / (get_file_name(source) or "latest.csv")
        path.parent.mkdir()
        try:
            with Session() as session:
                fetch_file(session, source, path, archives.LIMIT, TIME_LIMIT)
            check_file(path, None, None)
        except RefusedError as refused:
            reason = re.sub(r"\?[^ )]*", "", str(refused))  # a query may hold a key
            raise UserError(f"{location}: cannot be fetched ({reason}); see records.{name}.latest") from None
        return read_content(name, path, location)
