"""What a W&B run has on this machine, entry by entry."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

MAGIC = b":W&B\xe1\xbe\x00"  # a letterhead of W&B's own, then version 0 of the format
BLOCK = 32768  # no piece crosses a multiple of this
PIECE = struct.Struct("<IHB")  # check sum of kind and content, length of the content, kind
WHOLE, LAST = 1, 4  # kinds; 2 is the first piece of several, 3 one in between


def entries(file: Path) -> Iterator[bytes]:
    """Read the entries of a `.wandb` file (framed like LevelDB's log) that are there as a whole.

    A kill leaves a file that ends anywhere: what follows the last whole entry is not there.

    Raises:
        ValueError: if the file is of another format.
    """
    content = file.read_bytes()
    if not MAGIC.startswith(content[: len(MAGIC)]):
        raise ValueError(
            f"{file} is no W&B file of a format known here; move it away to log its rounds anew"
        )
    start, parts = len(MAGIC), list[bytes]()
    while start + PIECE.size <= len(content):
        if BLOCK - start % BLOCK < PIECE.size:  # zeros fill the block
            start += BLOCK - start % BLOCK
            continue
        checksum, length, kind = PIECE.unpack_from(content, start)
        piece = content[start + PIECE.size - 1 : start + PIECE.size + length]  # kind and content
        if zlib.crc32(piece) != checksum:
            return
        parts.append(piece[1:])
        if kind in (WHOLE, LAST):
            yield b"".join(parts)
            parts = []
        start += PIECE.size + length
