"""Valid inputs made invalid: bytes, the tokens of a text, numbers, headers, and members of archives sealed anew.

A mutation of raw bytes is mostly caught by the first checksum. So what is compressed, archived or checksummed is
opened, changed inside, and closed again with sums that are right.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random

Mutator = Callable[[bytes, Random], bytes]

NUMBERS = (
    *("nan", "inf", "-inf", "1e308", "-1e308", "1e309", "1e-320", "0", "-0", "-1", "1", "0.5", "65535", "65536"),
    *("2147483647", "2147483648", "-2147483649", "4294967296", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775809", "1" * 400, "9" * 5000, "1e999999999", "0x10", "1_0", "١", "Infinity", "NaN", "true"),
)
TEXTS = (
    *("", " ", "\0", "\n", "\r\n", "\t", '"', "'", "\\", "\x1b[31m", "../../etc/passwd", "/dev/zero", "ü", "\ud800"),
    *("null", "true", "[]", "{}", "~", "_", ".", "..", "%s", "${x}", "${oc.env:HOME}", "\ufeff", "\u202e", "A" * 3000),
)
JSON_PARTS = (
    "[" * 20,
    "]" * 20,
    "{" * 5,
    "}",
    ",",
    ":",
    '"a":',
    "[" * 3000,
    '{"a":' * 1500,
    "null",
    "1e400",
    "-",
    "[[]]",
)
YAML_PARTS = (
    *("!!python/object/apply:os.system [true]", "!!timestamp x", "!!int ''", "!!bool x", "!!binary '='", "!!set {a}"),
    *("&a [*a]", "*a", "&a ", "<<: *a", "? ", "- " * 500, "[" * 3000, "{a: " * 500, "!<tag:x> y", "---\n", "...\n"),
    *("|\n", ">\n", "%YAML 9.9\n", "!!float .nan", "!!omap [a]", "!x", "\t"),
)
XML_PARTS = (
    *("<!DOCTYPE svg [<!ENTITY a 'aaaa'>]>", "&a;", "&#0;", "&#x110000;", "<![CDATA[", "<!--", "]]>", "<g>" * 200),
    *(
        "</g>",
        "<svg",
        "/>",
        "<use href='#a'/>",
        "<image href='file:///etc/passwd'/>",
        "xmlns:x='y'",
        "<?xml version='9'?>",
    ),
    *("M0 0" * 300, "a1 1 0 01 9 9", "T1 1" * 100, "rotate(", "matrix(1e308 1e308 1e308 1e308 1e308 1e308)", "z" * 100),
)
_NUMBER = re.compile(rb"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_]+")
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x0A)


def _bit(data: bytes, random: Random) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 32))):
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def _byte(data: bytes, random: Random) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 16))):
        out[random.randrange(len(out))] = random.choice((*_INTERESTING, random.randrange(256)))
    return bytes(out)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _without(data: bytes, random: Random) -> bytes:
    begin = random.randrange(len(data))
    return data[:begin] + data[begin + random.choice((1, 2, 8, 64, 512)) :]


def _twice(data: bytes, random: Random) -> bytes:
    begin = random.randrange(len(data))
    end = min(len(data), begin + random.choice((1, 8, 64, 512)))
    return data[:end] + data[begin:end] * random.choice((1, 2, 50)) + data[end:]


def _moved(data: bytes, random: Random) -> bytes:
    begin, to = random.randrange(len(data)), random.randrange(len(data))
    piece = data[begin : begin + random.choice((4, 16, 128))]
    return data[:to] + piece + data[to + len(piece) :]


def _length(data: bytes, random: Random) -> bytes:
    """A field of 2, 4 or 8 bytes becomes a length that there is not."""
    width = random.choice((2, 4, 4, 8, 8))
    if len(data) < width:
        return data
    top = (1 << (8 * width)) - 1
    value = random.choice(
        (0, 1, 2, top, top >> 1, (top >> 1) + 1, 1 << random.randrange(8 * width), len(data), 0x10000)
    )
    at = random.randrange(len(data) - width + 1)
    return data[:at] + (value & top).to_bytes(width, random.choice(("little", "big"))) + data[at + width :]


BYTES: tuple[Mutator, ...] = (_bit, _byte, _cut, _without, _twice, _moved, _length, _length)


def _number(data: bytes, random: Random) -> bytes:
    places = list(_NUMBER.finditer(data))
    if not places:
        return _byte(data, random)
    match = random.choice(places)
    value = random.choice(NUMBERS).encode("utf-8", "surrogatepass")
    return data[: match.start()] + value + data[match.end() :]


def _word(data: bytes, random: Random) -> bytes:
    places = list(_WORD.finditer(data))
    if not places:
        return _byte(data, random)
    match, other = random.choice(places), random.choice(places)
    value = random.choice((other[0], random.choice(TEXTS).encode("utf-8", "surrogatepass"), match[0].upper()))
    return data[: match.start()] + value + data[match.end() :]


def _line(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    i, j = random.randrange(len(lines)), random.randrange(len(lines))
    what = random.randrange(4)
    if what == 0:
        del lines[i]
    elif what == 1:
        lines.insert(j, lines[i])
    elif what == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] *= random.choice((2, 40))
    return b"\n".join(lines)


def inserting(parts: tuple[str, ...]) -> Mutator:
    """Puts one of these somewhere, or in the place of a word."""

    def insert(data: bytes, random: Random) -> bytes:
        part = random.choice(parts).encode("utf-8", "surrogatepass")
        words = list(_WORD.finditer(data)) + list(_NUMBER.finditer(data))
        if words and random.random() < 0.6:
            match = random.choice(words)
            return data[: match.start()] + part + data[match.end() :]
        at = random.randrange(len(data) + 1)
        return data[:at] + part + data[at:]

    return insert


_TEXT: tuple[Mutator, ...] = (_number, _number, _word, _line, inserting(TEXTS), _bit, _cut, _without, _twice)
TEXT: tuple[Mutator, ...] = _TEXT
JSON: tuple[Mutator, ...] = (*_TEXT, inserting(JSON_PARTS), inserting(JSON_PARTS))
YAML: tuple[Mutator, ...] = (*_TEXT, *[inserting(YAML_PARTS)] * 3)
XML: tuple[Mutator, ...] = (*_TEXT, *[inserting(XML_PARTS)] * 3)
# the header of a .npy is a dictionary of Python's in text, behind ten bytes
NPY: tuple[Mutator, ...] = (*BYTES, _number, _word, inserting(("'|O'", "'<U0'", "'<f8', (9999, 9999)", "-1", "9" * 30)))


def within_zip(inside: tuple[Mutator, ...]) -> tuple[Mutator, ...]:
    """One member is changed and all are packed again; or the archive itself."""

    def repacked(data: bytes, random: Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        at = random.randrange(len(members))
        name, held = members[at]
        if random.random() < 0.1:
            name = random.choice((f"../{name}", f"/{name}", name.upper(), members[0][0], name + "/", "\x1b[2J" + name))
        members[at] = (name, random.choice(inside)(held or b"\0", random))
        if random.random() < 0.05:
            del members[at]
        buffer = io.BytesIO()
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, held in members:
                archive.writestr(zipfile.ZipInfo(name), held, method)
        return buffer.getvalue()

    return (*[repacked] * 10, *BYTES)


def within_stream(inside: tuple[Mutator, ...]) -> tuple[Mutator, ...]:
    """What a gzip, bzip2 or xz holds is changed and packed again; or the packed bytes."""
    kinds = {b"\x1f\x8b": (gzip.decompress, gzip.compress), b"BZ": (bz2.decompress, bz2.compress)}

    def repacked(data: bytes, random: Random) -> bytes:
        unpack, pack = kinds.get(data[:2], (lzma.decompress, lzma.compress))
        return bytes(pack(random.choice(inside)(unpack(data), random)))

    return (*[repacked] * 6, *BYTES)


def _png_chunk(data: bytes, random: Random) -> bytes:
    """A chunk of a PNG is changed and its checksum made right."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return _byte(data, random)
    i = random.randrange(len(chunks))
    kind, body = chunks[i]
    chunks[i] = (kind, random.choice(BYTES)(body or b"\0", random))
    if random.random() < 0.2:
        chunks.insert(random.randrange(len(chunks)), chunks[i])
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


PICTURE: tuple[Mutator, ...] = (*BYTES, *[_png_chunk] * 6)


def _event_record(data: bytes, random: Random) -> bytes:
    """A record of an event file is changed and both of its checksums made right."""
    from tensorboard.summary.writer.record_writer import masked_crc32c

    records, at = [], 0
    while at + 16 <= len(data):
        (size,) = struct.unpack("<Q", data[at : at + 8])
        records.append(data[at + 12 : at + 12 + size])
        at += 16 + size
    if not records:
        return _byte(data, random)
    i = random.randrange(len(records))
    claimed = random.choice((None, None, None, 1 << 30, 1 << 31, (1 << 63) - 1, 0))
    records[i] = random.choice(BYTES)(records[i] or b"\0", random)
    out = b""
    for k, record in enumerate(records):
        head = struct.pack("<Q", claimed if claimed is not None and k == i else len(record))
        out += head + struct.pack("<I", masked_crc32c(head)) + record + struct.pack("<I", masked_crc32c(record))
    return out


EVENTS: tuple[Mutator, ...] = (*BYTES, *[_event_record] * 8)


def mutated(seeds: list[bytes], mutators: tuple[Mutator, ...], random: Random) -> bytes:
    """One of the seeds after one to four mutations."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        # the archive of an archive that is no archive any more is left as it is
        try:
            data = random.choice(mutators)(data or b"\0", random)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ValueError):
            continue
        except (NotImplementedError, RuntimeError, IndexError, KeyError):
            continue
    return data[: 1 << 20]
