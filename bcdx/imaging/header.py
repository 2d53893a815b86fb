"""The path of a DICOM file in; its elements, as pydicom keeps them before it decodes any, or None out.

Reading headers is a good part of what sharding costs, so the usual file has a way of its own: little endian,
uncompressed, of up to 32 KiB. Private elements are passed over and pixel data stay on disk. Whatever is out of the
ordinary is None and left to `pydicom.dcmread`, which takes about three times as long and knows all cases.

Source: DICOM PS3.5 section 7.1 and annex A, PS3.10 section 7.1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import BaseTag

READ_BYTES = 2**15
"""Longer headers are left to pydicom."""
PREAMBLE = 132
SYNTAXES = {b"1.2.840.10008.1.2": True, b"1.2.840.10008.1.2.1": False}
"""Uncompressed little endian -> without value representations."""
SHORT = {name: name.decode() for name in b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()}
"""Value representations whose length has 16 bits."""
LONG = {name: name.decode() for name in b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()}
"""Those whose length has 32 bits, after two bytes of nothing."""
SHORT_HEADER_BYTES = 8
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM_HEADER_BYTES = 8
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
META_GROUP = 0x0002
TRANSFER_SYNTAX, CHARACTER_SET, PIXEL_DATA = 0x00020010, 0x00080005, 0x7FE00010

_ELEMENT, _TAG = struct.Struct("<HH2sH"), struct.Struct("<HH")
_LENGTH, _SHORT_LENGTH = struct.Struct("<I"), struct.Struct("<H")

Elements = dict[BaseTag, DataElement | RawDataElement]


PLAIN_TEXT = frozenset({"AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI"})
PADDED_TEXT = frozenset({"LO", "SH"})
"""Each of several values may end in spaces that mean nothing."""
ESCAPE = b"\x1b"
"""Starts another character set (ISO 2022)."""
NUMBERS: dict[str, Callable[[str], Any]] = {"DS": float, "IS": int}


class _UnusualError(Exception):
    """The file is not of the usual kind."""


class UsualHeader(FileDataset):
    """A `FileDataset` whose `get` makes text, numbers and lists of them without an element around each.

    They equal what pydicom makes of them, but are str, float and int where pydicom has types of its own. What is empty,
    not plain ASCII, or no number where one belongs is left to pydicom.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of the element with this keyword, `default` where it is missing."""
        tag = _find_tag(key) if isinstance(key, str) else None
        if tag is None:
            return super().get(key, default)
        element = self._dict.get(tag)
        if element is None:
            return default
        value = _convert(element) if isinstance(element, RawDataElement) and element.value else None
        return super().get(key, default) if value is None else value


@lru_cache(maxsize=4096)
def _make_tag(number: int) -> BaseTag:
    """Return the one object for a tag: dictionaries find the same object without comparing it."""
    return BaseTag(number)


@lru_cache(maxsize=4096)
def _find_tag(keyword: str) -> BaseTag | None:
    tag = tag_for_keyword(keyword)
    return None if tag is None else _make_tag(tag)


@lru_cache(maxsize=4096)
def _find_representation(tag: BaseTag) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _convert(element: RawDataElement) -> Any:
    """Return the value of a raw element, None where pydicom must convert it."""
    kind, value = element.VR or _find_representation(element.tag), element.value or b""
    if kind == "US":
        return _SHORT_LENGTH.unpack(value)[0] if len(value) == _SHORT_LENGTH.size else None
    number = NUMBERS.get(kind)
    if not value.isascii() or ESCAPE in value or not (number or kind in PLAIN_TEXT):
        return None
    parts: list[Any] = value.decode("ascii").rstrip("\0 ").split("\\")
    if number is not None:
        try:
            parts = [number(part) for part in parts]
        except ValueError:
            return None
    elif kind in PADDED_TEXT:
        parts = [part.rstrip("\0 ") for part in parts]
    return parts if len(parts) > 1 else parts[0]


def read_usual_header(path: Path) -> UsualHeader | None:
    """Return a file's elements without private ones, pixel data left on disk; None where pydicom must read it."""
    with path.open("rb", buffering=0) as file:
        head = file.read(READ_BYTES)
    if head[PREAMBLE - 4 : PREAMBLE] != b"DICM":
        return None
    try:
        meta, implicit, start = _read_meta(head)
        walked = _walk(head, start, implicit=implicit)
    except (_UnusualError, struct.error, KeyError, RecursionError):
        return None
    pixels = walked[-1]
    if pixels.value_tell + pixels.length > path.stat().st_size:
        return None
    elements: Elements = {one.tag: one for one in walked}
    named = elements.get(_make_tag(CHARACTER_SET))
    text = bytes(named.value or b"").decode("latin-1").strip(" \0") if named else ""
    ds = UsualHeader(str(path), elements, head[: PREAMBLE - 4], FileMetaDataset(meta), implicit, True)
    ds.set_original_encoding(implicit, True, convert_encodings(text.split("\\")) if text else default_encoding)
    return ds


def _read_meta(head: bytes) -> tuple[Elements, bool, int]:
    """Return the file's meta elements, whether the others lack value representations, and where these start."""
    meta: Elements = {}
    end = PREAMBLE
    for element in _walk(head, PREAMBLE, implicit=False, only_meta=True):
        meta[element.tag] = element
        end = element.value_tell + element.length
    syntax = meta[_make_tag(TRANSFER_SYNTAX)].value or b""
    return meta, SYNTAXES[bytes(syntax).rstrip(b"\0 ")], end


def _walk(head: bytes, place: int, *, implicit: bool, only_meta: bool = False) -> list[RawDataElement]:
    """Return elements up to and with the pixel data, whose value is None; private ones are passed over."""
    found = []
    tag, limit = 0, len(head)
    while tag != PIXEL_DATA:
        group, number, kind, length = _ELEMENT.unpack_from(head, place)
        if only_meta and group != META_GROUP:
            break
        tag = group << 16 | number
        name = None if implicit else SHORT.get(kind)
        if name is None:
            name, start, length, place = _measure(head, place, implicit=implicit)
        else:
            start = place + SHORT_HEADER_BYTES
            place = start + length
        if tag == PIXEL_DATA:
            found.append(RawDataElement(_make_tag(tag), name, length, None, start, implicit, True))
        elif place > limit:
            raise _UnusualError
        elif not group & 1:
            value = head[start : start + length]
            found.append(RawDataElement(_make_tag(tag), name, length, value, start, implicit, True))
    return found


def _measure(head: bytes, place: int, *, implicit: bool) -> tuple[str | None, int, int, int]:
    """Return an element's value representation, where its value starts, how long that is, and where the next one is."""
    _, _, kind, length = _ELEMENT.unpack_from(head, place)
    start = place + SHORT_HEADER_BYTES
    if implicit == (kind in SHORT or kind in LONG):
        raise _UnusualError  # not what the transfer syntax says, or unknown
    if kind in SHORT:
        return SHORT[kind], start, length, start + length
    name = LONG.get(kind)
    if name:
        start += 4
    length = _LENGTH.unpack_from(head, start - 4)[0]
    if length != UNDEFINED_LENGTH:
        return name, start, length, start + length
    if name not in {None, "SQ"}:
        raise _UnusualError
    end = _find_end(head, start, implicit=implicit)
    return name, start, end - start, end + ITEM_HEADER_BYTES


def _find_end(head: bytes, place: int, *, implicit: bool) -> int:
    """Return where the delimiter of a sequence of undefined length stands."""
    while (tag := _TAG.unpack_from(head, place)) != SEQUENCE_END:
        if tag != ITEM:
            raise _UnusualError
        length = _LENGTH.unpack_from(head, place + 4)[0]
        place += ITEM_HEADER_BYTES
        if length != UNDEFINED_LENGTH:
            place += length
            continue
        while _TAG.unpack_from(head, place) != ITEM_END:
            place = _measure(head, place, implicit=implicit)[3]
        place += ITEM_HEADER_BYTES
    return place
