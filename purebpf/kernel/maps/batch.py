"""Many elements in one system call (BPF_MAP_*_BATCH, Linux 5.6; kernel/bpf/hashtab.c and syscall.c).

A reading batch goes on from a cursor that the kernel hands out: in a hash table the number of a bucket, in an
array an index. So, unlike a walk from key to key, it does not start again when a key is deleted meanwhile.
Its last part ends with ENOENT, elements included. ENOSPC means that a bucket holds more than was asked for.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from ...formats import attr
from ...formats.abi import Cmd
from .. import sys

_BYTES = 1 << 18  # of one call's keys and values: large enough that the calls do not count, small enough for caches
_LEAST = 32  # elements


def chunks(cmd: Cmd, fd: int, key_size: int, value_size: int, entries: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """(key, value) of all elements of a map with `entries` at most; taken out of it, if `cmd` says so.

    Raises OSError with the kernel's errno.
    """
    count = min(entries, max(_LEAST, _BYTES // (key_size + value_size)))
    cursor: sys.Buffer | None = None
    while True:
        keys, values, following = sys.Buffer(count * key_size), sys.Buffer(count * value_size), sys.Buffer(key_size + 4)
        start = cursor.address if cursor else 0
        request = attr.map_batch_out(fd, start, following.address, keys.address, values.address, count, 0)
        answer, error = sys.bpf_partial(cmd, request)
        if error and error.errno == errno.ENOSPC and count < entries:
            count = min(entries, 2 * count)
            continue
        if error and error.errno != errno.ENOENT:
            raise error
        done = _count(answer)
        yield list(zip(_split(keys.bytes(), key_size, done), _split(values.bytes(), value_size, done)))
        if error:
            return
        cursor = following


def write(fd: int, elements: list[tuple[bytes, bytes]]) -> tuple[int, OSError | None]:
    """Set elements. How many are set, and what stopped the kernel, if anything did."""
    keys, values = (sys.Buffer(b"".join(column)) for column in zip(*elements))
    request = attr.map_batch_out(fd, 0, 0, keys.address, values.address, len(elements), 0)
    answer, error = sys.bpf_partial(Cmd.MAP_UPDATE_BATCH, request)
    # A kernel that lacks the command leaves the number that it was given.
    done = _count(answer)
    return (done if not error or done < len(elements) else 0), error


def _count(answer: bytes) -> int:
    (count,) = struct.unpack_from("=I", answer, attr.MAP_BATCH_COUNT)
    return int(count)


def _split(data: bytes, size: int, count: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, count * size, size)]
