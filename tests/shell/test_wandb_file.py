"""W&B's own file on disk is read as far as a kill left it."""

import struct
import time
import zlib

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from dal.callbacks.wandb_file import BLOCK, entries

ROWS = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of several blocks, with entries that cross their borders."""
    folder = tmp_path_factory.mktemp("wandb")
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    run = wandb.init(mode="offline", dir=str(folder), settings=quiet)
    for step in range(ROWS):
        run.log({"text": f"{step} " * 2000}, step=step, commit=True)
    run.finish()
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    end = time.monotonic() + 20  # W&B's service writes the last of it a moment later
    while not any(record.HasField("exit") for record in records(file)):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert file.stat().st_size > 3 * BLOCK
    return file


def records(file):
    return [wandb_internal_pb2.Record.FromString(entry) for entry in entries(file)]


def steps(file):
    return [record.history.step.num for record in records(file) if record.HasField("history")]


def test_every_step_is_read_from_a_whole_file(whole):
    assert steps(whole) == list(range(ROWS))


def test_a_file_cut_anywhere_gives_its_first_entries(whole, tmp_path):
    content, wanted = whole.read_bytes(), list(entries(whole))
    cut, before = tmp_path / "cut.wandb", 0
    ends = [*range(200), *range(0, len(content), 997), *range(BLOCK - 9, BLOCK + 9), len(content)]
    for end in sorted(ends):
        cut.write_bytes(content[:end])
        got = list(entries(cut))
        assert got == wanted[: len(got)]
        assert len(got) >= before
        before = len(got)
    assert before == len(wanted)


@pytest.mark.parametrize("tail", [b"\0" * 50_000, b"\xff" * 9, b"\1\2\3\4\0\0\4", b"junk" * 10_000])
def test_what_follows_the_last_whole_entry_does_not_count(whole, tmp_path, tail):
    torn = tmp_path / "torn.wandb"
    torn.write_bytes(whole.read_bytes() + tail)
    assert list(entries(torn)) == list(entries(whole))


def test_an_entry_of_which_a_bit_is_wrong_ends_what_is_read(whole, tmp_path):
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.wandb"
    damaged.write_bytes(content)
    got = steps(damaged)
    assert 0 < len(got) < ROWS
    assert got == list(range(len(got)))


def test_a_file_of_another_format_is_refused_with_its_name(tmp_path):
    other = tmp_path / "other.wandb"
    other.write_bytes(b":W&B\xe1\xbe\x01 of a later year")
    with pytest.raises(ValueError, match=r"other\.wandb is no W&B file of a format known here"):
        list(entries(other))


@pytest.mark.parametrize("left", range(1, 8))
def test_a_block_with_no_room_for_another_piece_ends_in_zeros(tmp_path, left):
    def piece(kind, content):
        checksum = zlib.crc32(bytes([kind]) + content)
        return struct.pack("<IHB", checksum, len(content), kind) + content

    file = tmp_path / "full.wandb"
    first = b"x" * (BLOCK - 7 - 7 - left)  # after the head of the file and its own
    fill = b"\0" * left if left < 7 else piece(2, b"")  # room for the head of a piece alone
    second = piece(1, b"second") if left < 7 else piece(4, b"second")
    file.write_bytes(b":W&B\xe1\xbe\0" + piece(1, first) + fill + second)
    assert list(entries(file)) == [first, b"second"]
