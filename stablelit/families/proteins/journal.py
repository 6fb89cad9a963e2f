"""Files that grow together, and a journal of how far they are good, so that a process that was killed can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from stablelit.errors import ConfigurationError

JOURNAL = "journal.jsonl"


class JournaledFiles:
    """Files to append to, in a folder with a journal.

    The first line of the journal is the settings, every later one the sizes of the files and a state at a moment when
    both fitted each other. Opening them again with the same settings cuts the files to the last such moment that they
    reach; with other settings all begins anew.

    Args:
        folder: of the files; made if need be.
        names: of the files.
        settings: plain, what the files depend on.

    Attributes:
        state: of the last moment; None at the beginning.
        outdated: whether there were files of other settings, which are gone now.

    Raises:
        ConfigurationError: something else is there.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._names = folder, names
        self.outdated, self.state = False, None
        journal = folder / JOURNAL
        plain = json.loads(json.dumps(settings))
        good = self._good_lines(journal, plain)
        if not good:
            self.outdated = journal.is_file()
            good = [json.dumps(plain)]
            for name in names:
                (folder / name).write_bytes(b"")
        else:
            last = json.loads(good[-1]) if len(good) > 1 else {"sizes": dict.fromkeys(names, 0), "state": None}
            self.state = last["state"]
            for name in names:
                os.truncate(folder / name, last["sizes"][name])
        journal.write_text("".join(line + "\n" for line in good), encoding="utf-8")
        self._files: dict[str, IO[bytes]] = {name: (folder / name).open("ab") for name in names}
        self._journal = journal.open("a", encoding="utf-8")

    def append(self, name: str, data: bytes | memoryview) -> None:
        """Appends to one of the files."""
        self._files[name].write(data)

    def commit(self, state: Mapping[str, Any]) -> None:
        """Notes a moment: what was appended so far, and the state that goes with it."""
        for file in self._files.values():
            file.flush()
        sizes = {name: file.tell() for name, file in self._files.items()}
        self._journal.write(json.dumps({"sizes": sizes, "state": state}) + "\n")
        self._journal.flush()

    def __enter__(self) -> JournaledFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (*self._files.values(), self._journal):
            file.close()

    def _good_lines(self, journal: Path, settings: Mapping[str, Any]) -> list[str]:
        """The journal's lines up to the last one that the files reach; none where it is of other settings."""
        if not journal.is_file():
            if any(self.folder.iterdir()):
                raise ConfigurationError(
                    f"{self.folder}: is there already and has no {JOURNAL}. It is where an unfinished preparation "
                    f"lies: delete it, or name another output."
                )
            return []
        good: list[str] = []
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the line that was being written
                break
            if not good and entry != settings:
                return []
            if good and not all(self._reaches(name, size) for name, size in entry["sizes"].items()):
                break
            good.append(line)
        return good

    def _reaches(self, name: str, size: int) -> bool:
        path = self.folder / name
        return path.is_file() and path.stat().st_size >= size
