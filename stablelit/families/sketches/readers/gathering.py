"""What every reader does with what it has read: counting what cannot be used, naming classes, telling of copies."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.sketches.readers.source_files import SketchFiles, Unreadable
from stablelit.families.sketches.sketches import SHOWN, LeftOutSketches, Sketches
from stablelit.families.sketches.strokes import Strokes
from stablelit.families.sketches.told import say

CANNOT_BE_READ = "cannot be read"
EMPTY = "empty drawing"
TOO_FEW = "the only sketch of its class"
FAR_POINTS = "points that are not finite or beyond 1e15 (of drawings that are kept without them)"
# of files or lines, those that may be bad before all of them are refused: a share, but never less than a few
BAD_SHARE, BAD_FEW = 0.01, 3
_FARTHEST = 1e15

Content = TypeVar("Content")
Drawing = tuple[NDArray[np.float32], NDArray[np.bool_]]


@dataclass(frozen=True)
class Request:
    """What the user asked for; see `open_source`."""

    size: int = 32
    max_per_class: int | None = None
    recognized_only: bool = True
    invert: bool | Literal["auto"] = "auto"
    seed: int = 0


class LeaveOut(Exception):
    """A sketch that is well formed and of no use; the message is the reason under which it is counted."""


@dataclass
class Gathering(Generic[Content]):
    """What has been read so far: of each sketch its class, its place and its content."""

    path: Path
    names: list[str | None] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    left_out: LeftOutSketches = field(default_factory=LeftOutSketches)
    n_bad: int = 0
    n_seen: int = 0

    def take(self, name: str | None, place: str, read: Callable[[], Content]) -> bool:
        """Reads one and keeps it, or counts why not; returns whether it is kept."""
        self.n_seen += 1
        try:
            content = read()
        except Unreadable as why:
            self.add_bad(place, str(why))
        except LeaveOut as why:
            self.left_out.add(str(why), place)
        else:
            self.names.append(name)
            self.places.append(place)
            self.contents.append(content)
            return True
        return False

    def add_bad(self, place: str, why: str) -> None:
        """Counts a file or a line that cannot be read."""
        self.n_bad += 1
        self.left_out.add(CANNOT_BE_READ, f"{place}: {why}")

    def take_files(
        self,
        files: SketchFiles,
        classes: Mapping[str | None, Sequence[str]],
        read: Callable[[str], Content],
        request: Request,
    ) -> None:
        """Reads the files of each class: all, or so many good ones of them, drawn by the seed."""
        for name in sorted(classes, key=lambda known: known or ""):
            first = len(self.names)
            for file in _in_order(classes[name], name, request):
                if len(self.names) - first == request.max_per_class:
                    break
                self.take(name, files.place(file), lambda file=file: read(file))  # type: ignore[misc]
            # drawn in some order, kept in that of the names
            order = sorted(range(first, len(self.names)), key=self.places.__getitem__)
            self.places[first:] = [self.places[i] for i in order]
            self.contents[first:] = [self.contents[i] for i in order]
        self.check_bad("files")

    def check_bad(self, of: str) -> None:
        """Refuses what is mostly not what it should be.

        Raises:
            DataError: more than 1 % of the files or lines are bad, and more than 3 of them.
        """
        if self.n_bad > max(BAD_FEW, BAD_SHARE * self.n_seen):
            raise DataError(
                f"{self.path}: {self.n_bad} of {self.n_seen} {of} cannot be read; allowed: {BAD_SHARE:.0%} of them, or "
                f"{BAD_FEW}. The first: {'; '.join(self.left_out.places[CANNOT_BE_READ])}. Repair or remove them, or "
                f"name another format."
            )

    def sketches(self, content: NDArray[np.uint8] | Strokes, group_of: Callable[[str], str] | None = None) -> Sketches:
        """All that is kept, as pictures or strokes; a class of one sketch is left out.

        Args:
            content: the pictures or strokes of all that was taken.
            group_of: the group of a class, by its name.

        Raises:
            DataError: nothing is left.
        """
        counts = Counter(self.names)
        kept = np.array([i for i, n in enumerate(self.names) if n is None or counts[n] > 1], dtype=np.int64)
        for name, place in zip(self.names, self.places, strict=True):
            if name is not None and counts[name] == 1:
                self.left_out.add(TOO_FEW, place)
        if not len(kept):
            raise DataError(
                f"{self.path}: no sketch is left. {'; '.join(self.left_out.lines()) or 'Nothing was found'}. "
                f"Allowed: at least 2 sketches of a class."
            )
        classes = sorted({name for name in counts if name is not None and counts[name] > 1})
        number = {name: i for i, name in enumerate(classes)}
        labels = np.array([-1 if (n := self.names[i]) is None else number[n] for i in kept], dtype=np.int64)
        images = content[kept] if isinstance(content, np.ndarray) else None
        strokes = content.take(kept) if isinstance(content, Strokes) else None
        groups = None if group_of is None else [group_of(name) for name in classes]
        made = Sketches(images, strokes, labels, classes, groups, [self.places[i] for i in kept], self.left_out)
        _tell_of_copies(self.path, made)
        return made

    def drawing(self, points: NDArray[np.floating], lengths: Sequence[int], place: str) -> Drawing:
        """The points of strokes of these lengths, one after another, without those that are nowhere.

        Raises:
            LeaveOut: no point is left.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            near = (np.abs(points) < _FARTHEST).all(axis=1)
        stroke = np.repeat(np.arange(len(lengths)), lengths)
        if not near.all():
            points, stroke = points[near], stroke[near]
            if len(points):
                self.left_out.add(FAR_POINTS, place)
                self.left_out.counts[FAR_POINTS] += int((~near).sum()) - 1
        if not len(points):
            raise LeaveOut(EMPTY)
        begins = np.concatenate([[True], stroke[1:] != stroke[:-1]])
        return points.astype(np.float32), begins


def strokes_of(drawings: Sequence[Drawing]) -> Strokes:
    """The drawings in one."""
    if not drawings:
        return Strokes.of([])
    offsets = np.cumsum([0, *(len(points) for points, _ in drawings)], dtype=np.int64)
    return Strokes(np.concatenate([p for p, _ in drawings]), np.concatenate([b for _, b in drawings]), offsets)


def _in_order(files: Sequence[str], name: str | None, request: Request) -> Sequence[str]:
    if request.max_per_class is None or request.max_per_class >= len(files):
        return sorted(files)
    # by the name of the class, so that another class beside it changes nothing
    digest = hashlib.sha1((name or "").encode()).digest()
    rng = np.random.default_rng([request.seed, *digest])
    return [sorted(files)[i] for i in rng.permutation(len(files))]


def _tell_of_copies(path: Path, sketches: Sketches) -> None:
    def digest(i: int) -> bytes:
        if sketches.images is not None:
            return hashlib.sha1(sketches.images[i].tobytes()).digest()
        assert sketches.strokes is not None
        here = slice(int(sketches.strokes.offsets[i]), int(sketches.strokes.offsets[i + 1]))
        return hashlib.sha1(sketches.strokes.points[here].tobytes() + sketches.strokes.begins[here].tobytes()).digest()

    first: dict[bytes, int] = {}
    copies = [(i, j) for i in range(len(sketches)) if (j := first.setdefault(digest(i), i)) != i]
    if not copies:
        return
    others = [(i, j) for i, j in copies if sketches.labels[i] != sketches.labels[j]]
    shown = ", ".join(f"{sketches.places[i]} of {sketches.places[j]}" for i, j in (others or copies)[:SHOWN])
    say(
        f"{path}: {len(copies)} of {len(sketches)} sketches are, as read, exact copies of an earlier one, "
        f"{len(others)} of them in another class; all are kept ({shown})."
    )
