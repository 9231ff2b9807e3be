"""Text files as blocks of whole records in UTF-8: decompressed, decoded, in bounded memory.

A record is what one row is read from: a line, or several where a quoted cell holds line ends.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 8 << 20
_MAX_RECORD_BYTES = 64 << 20  # one that is longer has lost its closing quote
_SALVAGE_BYTES = 1024
_GZIP = b"\x1f\x8b"
_UTF8_NAMES = ("utf-8", "utf-8-sig")


class BrokenText(Exception):
    """A file cannot be read further; every whole record before was handed out."""


def text_blocks(path: Path, encoding: str = "utf8", quote: bytes = b"") -> Iterator[bytes]:
    """Reads a file, compressed with gzip or not.

    Args:
        path: The file.
        encoding: Of its text, one that Python knows. UTF-8 is passed on unchecked.
        quote: What surrounds cells that may hold line ends; empty for none.

    Yields:
        UTF-8 without byte-order mark, `BLOCK_BYTES` or a record more; every block but the last
        ends with a line end.

    Raises:
        BrokenText: In the middle of the file, after what came before it.
    """
    pending = b""
    texts = _decoded(path, codecs.lookup(encoding))
    while True:
        try:
            text = next(texts, None)
        except _Stop as stop:
            pending += stop.text
            cut = _last_record_end(pending, quote)
            if cut:
                yield pending[:cut]
            raise BrokenText(stop.reason) from None
        if text is None:
            break
        pending += text
        if len(pending) < BLOCK_BYTES:
            continue
        cut = _last_record_end(pending, quote)
        if not cut and len(pending) > _MAX_RECORD_BYTES:
            cut = len(pending)  # the parser will say in which row the quote was opened
        if cut:
            yield pending[:cut]
            pending = pending[cut:]
    if pending:
        yield pending


def first_record_end(block: bytes, quote: bytes) -> int:
    """Returns where the first record ends, behind its line end."""
    end = quotes = 0
    while True:
        start, end = end, block.find(b"\n", end) + 1
        if not end:
            return len(block)
        quotes += block.count(quote, start, end) if quote else 0
        if quotes % 2 == 0:
            return end


def strip_quoted(block: bytes, separator: bytes, quote: bytes) -> bytes:
    """Replaces each quoted cell by one quote, so that every record is one line."""
    if not quote or quote not in block:
        return block
    q, s = re.escape(quote), re.escape(separator)
    cell = rb"(^|%s)%s[^%s]*(?:%s%s[^%s]*)*%s" % (s, q, q, q, q, q, q)
    return re.sub(cell, rb"\1" + quote, block, flags=re.MULTILINE)


def encoding_hint(byte: int) -> str:
    """Returns what to try for text that holds `byte` where UTF-8 does not allow it."""
    # Bytes from 0x80 to 0x9f are letters and typographic quotes in cp1252 and nothing in latin-1.
    likely = "cp1252" if byte < 0xA0 else "latin-1"
    return f"The file may be in another encoding: set encoding: {likely}"


def _last_record_end(block: bytes, quote: bytes) -> int:
    end = block.rfind(b"\n") + 1
    if not quote:
        return end
    quotes = block.count(quote, 0, end)
    while end and quotes % 2:  # this line end is inside a quoted cell
        previous = block.rfind(b"\n", 0, end - 1) + 1
        quotes -= block.count(quote, previous, end)
        end = previous
    return end


class _Stop(Exception):
    """Carries what was read before a file broke."""

    def __init__(self, reason: str, text: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.text = text


def _decoded(path: Path, codec: codecs.CodecInfo) -> Iterator[bytes]:
    """Yields UTF-8; line ends are a line feed, maybe with a carriage return before it."""
    is_utf8 = codec.name in _UTF8_NAMES
    decoder = codec.incrementaldecoder("strict")
    is_first, has_lone_returns = True, False
    for chunk, is_last in _inflated(path):
        if is_utf8:
            data = chunk.removeprefix(codecs.BOM_UTF8) if is_first else chunk
            if is_first and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise _Stop("it begins with the mark of UTF-16: set encoding: utf-16", b"")
        else:
            try:
                text = decoder.decode(chunk, is_last)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(codec.name, "replace")
                reason = f"what follows is not {codec.name} ({error.reason})"
                raise _Stop(reason, before.encode("utf-8", "replace")) from None
            data = (text.removeprefix("\ufeff") if is_first else text).encode("utf-8", "replace")
        if is_first:
            has_lone_returns = b"\r" in data and b"\n" not in data
        is_first = False
        yield data.replace(b"\r", b"\n") if has_lone_returns else data


def _inflated(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Yields bytes, decompressed where they are compressed, and whether they are the last."""
    with path.open("rb") as file:
        start = file.read(len(_GZIP))
        if start != _GZIP:
            if path.name.lower().endswith(".gz") and start:
                raise _Stop("its name ends in .gz but it is not compressed", b"")
            while chunk := file.read(BLOCK_BYTES):
                yield start + chunk, False
                start = b""
            yield start, True
            return
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        data = start + file.read(BLOCK_BYTES)
        while data:
            before = inflater.copy()
            try:
                yield inflater.decompress(data, BLOCK_BYTES), False
            except zlib.error:
                yield _salvage(before, data), False
                raise _Stop("the compressed file is damaged", b"") from None
            data = inflater.unconsumed_tail
            if inflater.eof:  # another file may be glued behind it; zeros are padding
                data = inflater.unused_data or file.read(BLOCK_BYTES)
                if not data.strip(b"\0"):
                    yield b"", True
                    return
                inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            data = data or file.read(BLOCK_BYTES)
    raise _Stop("the compressed file ends too early", b"")


def _salvage(inflater: zlib._Decompress, data: bytes) -> bytes:
    """Returns what can be decompressed before the damage."""
    parts, at = [], 0
    for size in (_SALVAGE_BYTES, 1):  # in large steps, then byte by byte
        while at < len(data):
            before = inflater.copy()
            try:
                parts.append(inflater.decompress(data[at : at + size]))
            except zlib.error:
                inflater = before
                break
            at += size
    return b"".join(parts)
