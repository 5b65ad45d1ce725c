"""BTF type -> codec: bytes to Python values and back."""

from __future__ import annotations

from typing import Any

from .btf import Btf


class Codec:
    """Decodes and encodes values of one BTF type. `size` is in bytes."""

    size: int

    def decode(self, data: bytes) -> Any:
        """The value in the first `size` bytes."""
        raise KeyError(len(data))

    def encode(self, value: Any) -> bytes:
        """`size` bytes."""
        raise KeyError(value)


def codec(btf: Btf, type_id: int) -> Codec:
    """The codec of a type."""
    raise KeyError((btf, type_id))
