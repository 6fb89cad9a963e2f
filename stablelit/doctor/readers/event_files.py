"""TensorBoard's event files: every scalar of them, none thinned out.

A file is a row of records: length (8 bytes), its checksum (4), the event (a protobuf), its checksum (4). Read by hand,
because TensorBoard's own loaders check every byte in Python (fifty times as slow) and keep at most 10,000 points.
Source: tensorflow/core/lib/io/record_writer.h; tensorboard/compat/proto/event.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from stablelit.doctor.readers.run_log import RunLog

EVENT_FILES = "events.out.tfevents."
_HEAD = struct.Struct("<QI")
_LONGEST_RECORD = 1 << 31
# a record with a scalar has some hundred bytes; longer ones are pictures and graphs, and are passed over unread
_LONGEST_READ = 64 << 20


def read_event_file(path: Path, log: RunLog) -> None:
    """Adds the scalars of one file; one that is cut off is read up to there, and said so.

    Raises:
        OSError: no permission.
    """
    # a tenth of a second that other logs do not need
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    event = Event()
    log.begin_file(path)
    with path.open("rb") as file:
        for record in _records(file, path, log):
            try:
                event.ParseFromString(record)
            except DecodeError:
                log.remarks.append(f"{path.name}: a record that is no event near byte {file.tell()}; read up to there.")
                return
            for value in event.summary.value:
                number = _number(value)
                if number is not None:
                    log.add(value.tag, float(event.step), number)


def _records(file: BinaryIO, path: Path, log: RunLog) -> Iterator[bytes]:
    from tensorboard.summary.writer.record_writer import masked_crc32c  # type: ignore[import-untyped]

    size = os.fstat(file.fileno()).st_size
    checksums: dict[int, int] = {}  # most records are as long as one before
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            break
        length, checksum = _HEAD.unpack(head)
        if length not in checksums:
            checksums[length] = masked_crc32c(head[:8])
        if checksum != checksums[length] or length > _LONGEST_RECORD:
            log.remarks.append(f"{path.name}: not a record at byte {file.tell() - len(head)}; read up to there.")
            return
        if file.tell() + length + 4 > size:
            # reading would first set aside what the length claims
            break
        if length > _LONGEST_READ:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        yield file.read(length + 4)[:length]
    else:
        return
    log.remarks.append(f"{path.name}: cut off in the middle of a record (a run that was killed); read up to there.")


def _number(value: Any) -> float | None:
    """A scalar in either way of writing it; None for pictures, texts and histograms."""
    which = value.WhichOneof("value")
    if which == "simple_value":
        return float(value.simple_value)
    tensor, plugin = value.tensor, value.metadata.plugin_data.plugin_name
    if which != "tensor" or tensor.tensor_shape.dim or plugin not in ("", "scalars"):
        return None
    for held in (tensor.float_val, tensor.double_val, tensor.int_val, tensor.int64_val):
        if len(held):
            return float(held[0])
    layout = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}.get(tensor.dtype)
    if layout is None or len(tensor.tensor_content) != struct.calcsize(layout):
        return None
    return float(struct.unpack(layout, tensor.tensor_content)[0])
