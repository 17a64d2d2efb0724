"""The log of a disk, and the states that a power cut could have left it in.

A flush makes everything logged before it durable. Of the writes behind the last flush any part may
have reached the disk, in any order: each block of SECTOR_BYTES that they touch has its content of
before them, or that of any one of them. Whole epochs, the time between two flushes, are numbered
from 0.
"""

import bisect
import ctypes
import mmap
import os
import random
import struct
from typing import NamedTuple

HEAD = struct.Struct('IIQQ')  # record_head of block_log_main.cpp
WRITE, FLUSH, ZERO = 1, 2, 3
BLOCK = 4096
KEEP_SIZE, PUNCH_HOLE = 1, 2  # of fallocate(2)

libc = ctypes.CDLL(None, use_errno=True)


class Record(NamedTuple):
    kind: int
    offset: int
    bytes: int
    data_at: int  # of a write: where in the log
    end: int      # where in the log it ends


class BlockLog:
    """The records of a log file. A record number is also a time: so many had happened."""

    def __init__(self, path):
        with open(path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            self.map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b''
        self.records = list(self._parse(size))
        self.ends = [record.end for record in self.records]
        self.flushes = [n for n, record in enumerate(self.records) if record.kind == FLUSH]

    def close(self):
        if self.map:
            self.map.close()

    def _parse(self, size):
        at = 0
        while at < size:
            kind, _, offset, count = HEAD.unpack_from(self.map, at)
            if kind not in (WRITE, FLUSH, ZERO):
                raise ValueError(f'the log holds no record at {at}')
            data_at = at + HEAD.size
            at = data_at + (count if kind == WRITE else 0)
            yield Record(kind, offset, count, data_at, at)

    def time_of(self, position):
        """How many records had happened when the log was `position` bytes long."""
        return bisect.bisect_right(self.ends, position)

    def data(self, record, begin=0, end=None):
        """The bytes [begin, end) of a write."""
        end = record.bytes if end is None else end
        return self.map[record.data_at + begin:record.data_at + end]

    def apply(self, fd, record):
        if record.kind == WRITE:
            os.pwrite(fd, self.data(record), record.offset)
        elif record.kind == ZERO:
            write_zeroes(fd, record.offset, record.bytes)

    def pieces(self, record):
        """A write or range of zeroes by blocks: (block, offset in it, bytes or None for zeroes)."""
        at, end = record.offset, record.offset + record.bytes
        while at < end:
            block, inside = divmod(at, BLOCK)
            upto = min(end, (block + 1) * BLOCK)
            zero = record.kind == ZERO
            piece = None if zero else self.data(record, at - record.offset, upto - record.offset)
            yield block, inside, piece, upto - at
            at = upto


def write_zeroes(fd, offset, count):
    """As holes: a range may be as long as the disk."""
    mode = PUNCH_HOLE | KEEP_SIZE
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(count)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f'fallocate: {os.strerror(code)}')


class Epoch(NamedTuple):
    number: int
    first: int  # the first record behind the flush that begins it
    last: int   # one behind its last record: the flush that ends it, or the end of the recording


def epochs(log, start, end):
    """The epochs of the times [start, end]; the first begins at the last flush before start."""
    before = [n for n in log.flushes if n < start]
    firsts = [before[-1] + 1 if before else 0]
    inside = [n for n in log.flushes if start <= n < end]
    lasts = inside + [end]
    firsts += [n + 1 for n in inside]
    return [Epoch(i, first, last) for i, (first, last) in enumerate(zip(firsts, lasts))]


class Cut(NamedTuple):
    """One state of the disk: what was flushed before `first`, and of [first, at) what the seed
    chooses."""
    epoch: int
    first: int
    at: int      # the power went when so many records had happened
    manner: str  # 'none' of the others, or 'some' of them
    seed: int

    def __str__(self):
        which = f'some, seed {self.seed},' if self.manner == 'some' else self.manner
        return f'epoch {self.epoch}, record {self.at} ({which} of those since {self.first})'


def surviving_blocks(log, cut):
    """What a cut leaves of the writes behind the last flush: [(offset, bytes or None, count)].

    A block that several of them touch gets one of its versions, and a version is built of all the
    writes to the block up to it: the disk may reorder writes but not take back a part of one.
    """
    if cut.manner == 'none':
        return []
    versions = {}
    for record in log.records[cut.first:cut.at]:
        if record.kind != FLUSH:
            for block, inside, piece, count in log.pieces(record):
                versions.setdefault(block, []).append((block * BLOCK + inside, piece, count))
    chance = random.Random(cut.seed)
    newest = chance.choice((0.1, 0.5, 0.9))  # how many blocks reached the disk in full
    kept = []
    for block in sorted(versions):
        count = len(versions[block])
        kept += versions[block][:count if chance.random() < newest else chance.randrange(count)]
    return kept


class Disk:
    """Images of a logged disk, built in order of time: `settled` only moves forward."""

    def __init__(self, log, folder, size):
        self.log, self.size, self.settled_until = log, size, 0
        self.settled_path = os.path.join(folder, 'settled')
        self.image_path = os.path.join(folder, 'image')
        self.settled = os.open(self.settled_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(self.settled, size)

    def close(self):
        os.close(self.settled)
        for path in (self.settled_path, self.image_path):
            if os.path.exists(path):
                os.unlink(path)

    def settle(self, until):
        """Everything that happened before the record `until` is on the disk for good."""
        if until < self.settled_until:
            raise ValueError('a disk cannot go back')
        for record in self.log.records[self.settled_until:until]:
            self.log.apply(self.settled, record)
        self.settled_until = until

    def image(self, cut):
        """The path of a file that holds the disk as the cut left it; overwritten by the next."""
        self.settle(cut.first)
        copy_sparse(self.settled, self.image_path, self.size)
        fd = os.open(self.image_path, os.O_RDWR)
        try:
            for offset, piece, count in surviving_blocks(self.log, cut):
                if piece is None:
                    write_zeroes(fd, offset, count)
                else:
                    os.pwrite(fd, piece, offset)
        finally:
            os.close(fd)
        return self.image_path


def copy_sparse(source, target_path, size):
    """Copies the data of a file and leaves its holes."""
    target = os.open(target_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(target, size)
        at = 0
        while at < size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                break
            end = os.lseek(source, at, os.SEEK_HOLE)
            while at < end:
                moved = os.copy_file_range(source, target, end - at, at, at)
                if moved == 0:
                    raise RuntimeError('the file became shorter')
                at += moved
    finally:
        os.close(target)
