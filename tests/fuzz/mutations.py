"""Damage files like accidents and attackers do, reproducibly from a seed."""
from __future__ import annotations

import copy
import io
import json
import zipfile
import zlib
from typing import Any, Callable

import numpy as np

Rng = np.random.Generator

_DEEP = 2   # levels of JSON, below which the single entries of images and categories are
_INTEGERS = (0, 1, -1, 127, 128, 255, 256, 65535, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 63)
_VALUES = (None, True, False, 0, -1, 1, 2.5, 1e308, float('nan'), float('inf'), 2 ** 31, 2 ** 63,
           10 ** 30, '', 'x', '0', '../../etc/passwd', '/dev/zero', '\ud800', 'a\0b', 'x' * 3000,
           [], {}, [[]], [None], {'a': 1}, [1, 2, 3, 4])
_WORDS = (b'', b'\0' * 8, b'\xff' * 8, b'null', b'[]', b'{}', b'NaN', b'1e999', b'*a', b'&a', b'- ',
          b': ', b'"', b"'", b'\n', b'\xef\xbb\xbf', b'\xff\xfe', b'!!python/name:os.system', b'<<')


def damage(data: bytes, rng: Rng) -> bytes:
    """Return bytes after one to four changes of a random kind."""
    for _ in range(int(rng.integers(1, 5))):
        data = _KINDS[int(rng.integers(len(_KINDS)))](data, rng)
    return data


def damage_json(data: bytes, rng: Rng) -> bytes:
    """Return JSON in which values, keys and entries have been exchanged; at times also bytes."""
    if rng.random() < 0.3:
        return damage(data, rng)
    content = json.loads(data)
    for _ in range(int(rng.integers(1, 4))):
        content = _change(content, rng)
    return json.dumps(content).encode('utf-8', 'surrogatepass')


def damage_text(data: bytes, rng: Rng) -> bytes:
    """Return text in which lines and words have been exchanged; at times also bytes."""
    if rng.random() < 0.3:
        return damage(data, rng)
    lines = data.split(b'\n')
    for _ in range(int(rng.integers(1, 4))):
        row = int(rng.integers(len(lines)))
        kind = int(rng.integers(6))
        if kind == 0:
            lines.insert(row, lines[int(rng.integers(len(lines)))])
        elif kind == 1:
            del lines[row]
            lines = lines or [b'']
        elif kind == 2:
            lines[row] = b' ' * int(rng.integers(1, 9)) + lines[row]
        elif kind == 3:
            key, colon, _ = lines[row].partition(b':')
            value = json.dumps(_VALUES[int(rng.integers(len(_VALUES)))])
            lines[row] = key + colon + b' ' + value.encode()
        else:
            at = int(rng.integers(len(lines[row]) + 1))
            lines[row] = lines[row][:at] + _WORDS[int(rng.integers(len(_WORDS)))] + lines[row][at:]
    return b'\n'.join(lines)


def damage_png(data: bytes, rng: Rng) -> bytes:
    """Return a damaged PNG; half of the time one chunk is damaged behind right checksums."""
    chunks = _chunks(data)
    if rng.random() < 0.5 or not chunks:
        return damage(data, rng)
    at = int(rng.integers(len(chunks)))
    name, content = chunks[at]
    if name == b'IDAT' and len([1 for kind, _ in chunks if kind == name]) == 1:
        content = zlib.compress(damage(zlib.decompress(content), rng))   # other pixels, or too few
    else:
        content = damage(content, rng)
    chunks[at] = name, content
    return data[:8] + b''.join(
        _word(len(content)) + name + content + _word(zlib.crc32(name + content))
        for name, content in chunks)


def damage_zip(data: bytes, rng: Rng) -> bytes:
    """Return a damaged archive; half of the time a whole one with a damaged member."""
    if rng.random() < 0.5 or not zipfile.is_zipfile(io.BytesIO(data)):
        return damage(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(members)
    name = names[int(rng.integers(len(names)))]
    members[name] = damage(members[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def damage_safetensors(data: bytes, rng: Rng) -> bytes:
    """Return damaged safetensors; half of the time only the header has changed, not its length."""
    if rng.random() < 0.5:
        return damage(data, rng)
    size = int.from_bytes(data[:8], 'little')
    header = json.dumps(_change(json.loads(data[8:8 + size]), rng)).encode()
    return len(header).to_bytes(8, 'little') + header + data[8 + size:]


def _word(number: int) -> bytes:
    return number.to_bytes(4, 'big')


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the names and contents of the chunks of a PNG."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at:at + 4], 'big')
        chunks.append((data[at + 4:at + 8], data[at + 8:end]))
        at = end + 4
    return chunks


def _change(content: Any, rng: Rng, depth: int = 0) -> Any:
    """Replace, remove, double or rename one entry at a random depth, mostly a deep one."""
    if not isinstance(content, (dict, list)) or not content or rng.random() < 0.05:
        return copy.deepcopy(_VALUES[int(rng.integers(len(_VALUES)))])
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = keys[int(rng.integers(len(keys)))]
    kind = rng.random()
    if kind < 0.7 or (depth < _DEEP and kind < 0.95):
        content[key] = _change(content[key], rng, depth + 1)
    elif kind < 0.8:
        del content[key]
    elif isinstance(content, list):
        content.insert(0, copy.deepcopy(content[key]))
    elif kind < 0.9:
        content[key] = copy.deepcopy(content[keys[int(rng.integers(len(keys)))]])
    else:
        content[f'{key}x'] = content.pop(key)
    return content


def _place(data: bytes, rng: Rng) -> int:
    """Return a position; half of the time one near the beginning, where headers are."""
    return int(rng.integers(min(len(data), 64) + 1 if rng.random() < 0.5 else len(data) + 1))


def _cut(data: bytes, rng: Rng) -> bytes:
    return data[:_place(data, rng)]


def _flip(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        at = _place(data, rng)
        if at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _write(data: bytes, rng: Rng) -> bytes:
    """Write an extreme integer over what is there."""
    size = int(rng.choice([1, 2, 4, 8]))
    value = _INTEGERS[int(rng.integers(len(_INTEGERS)))] % 256 ** size
    at = _place(data, rng)
    return data[:at] + value.to_bytes(size, str(rng.choice(['little', 'big']))) + data[at + size:]


def _insert(data: bytes, rng: Rng) -> bytes:
    at = _place(data, rng)
    piece = (rng.bytes(int(rng.integers(1, 40))) if rng.random() < 0.5
             else _WORDS[int(rng.integers(len(_WORDS)))])
    return data[:at] + piece + data[at:]


def _remove(data: bytes, rng: Rng) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 40)):]


def _repeat(data: bytes, rng: Rng) -> bytes:
    at, length = _place(data, rng), int(rng.integers(1, 200))
    return data[:at] + data[at:at + length] * int(rng.integers(2, 6)) + data[at + length:]


def _zero(data: bytes, rng: Rng) -> bytes:
    at, length = _place(data, rng), int(rng.integers(1, 200))
    return data[:at] + b'\0' * len(data[at:at + length]) + data[at + length:]


_KINDS: tuple[Callable[[bytes, Rng], bytes], ...] = (
    _cut, _flip, _flip, _write, _write, _insert, _remove, _repeat, _zero)
