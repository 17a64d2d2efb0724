#!/usr/bin/env python3
"""Tests of the crash tests: the log, the states built from it, the promises held against a disk.

  crash_test.py BLOCK_LOG

BLOCK_LOG is the program that serves the disk. What needs the superuser is skipped without.
"""

import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True

import machine  # noqa: E402
from block_log import (BLOCK, FLUSH, HEAD, WRITE, ZERO, BlockLog, Cut, Disk, epochs,  # noqa: E402
                       surviving_blocks)
from promises import REMOVED, Promises, broken_promises, content  # noqa: E402

BLOCK_LOG = os.path.abspath(sys.argv[1])
DISK_BYTES = 16 * BLOCK


class InFolder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='sluice-crash-test-')
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)


def text_of(path):
    try:
        with open(path, encoding='utf-8') as file:
            return file.read()
    except FileNotFoundError:
        return ''


def write(offset, data):
    return HEAD.pack(WRITE, 0, offset, len(data)) + data


def flush():
    return HEAD.pack(FLUSH, 0, 0, 0)


def zero(offset, count):
    return HEAD.pack(ZERO, 0, offset, count)


class Log(InFolder):
    def log(self, *records):
        with open(self.path('log'), 'wb') as file:
            file.write(b''.join(records))
        made = BlockLog(self.path('log'))
        self.addCleanup(made.close)
        return made

    def image(self, log, cut):
        disk = Disk(log, self.folder, DISK_BYTES)
        try:
            with open(disk.image(cut), 'rb') as file:
                return file.read()
        finally:
            disk.close()

    def test_a_position_inside_a_record_is_the_time_before_it(self):
        log = self.log(write(0, b'abc'), flush(), write(8, b'd'))
        self.assertEqual([log.time_of(p) for p in (0, 26, 27, 50, 51, 75, 76)],
                         [0, 0, 1, 1, 2, 2, 3])
        self.assertEqual(log.flushes, [1])

    def test_what_is_no_log_is_refused(self):
        with open(self.path('log'), 'wb') as file:
            file.write(struct.pack('IIQQ', 9, 0, 0, 0))
        with self.assertRaises(ValueError):
            BlockLog(self.path('log'))

    def test_an_empty_log_has_no_records(self):
        self.assertEqual(self.log().records, [])

    def test_epochs_begin_behind_flushes_and_end_with_the_next(self):
        log = self.log(write(0, b'a'), flush(), write(0, b'b'), write(0, b'c'), flush(),
                       write(0, b'd'))
        self.assertEqual([e[1:] for e in epochs(log, 3, 6)], [(2, 4), (5, 6)])
        self.assertEqual([e[1:] for e in epochs(log, 0, 6)], [(0, 1), (2, 4), (5, 6)])

    def test_what_was_flushed_stays_and_of_the_rest_any_part(self):
        flushed = write(0, b'A' * BLOCK) + zero(BLOCK, BLOCK)
        log = self.log(write(BLOCK, b'X' * BLOCK), flushed, flush(),
                       write(0, b'B' * BLOCK), write(BLOCK, b'C' * BLOCK), write(0, b'D' * BLOCK))
        self.assertEqual(self.image(log, Cut(0, 4, 7, 'none', 0))[:2 * BLOCK],
                         b'A' * BLOCK + bytes(BLOCK))
        seen = {self.image(log, Cut(0, 4, 7, 'some', seed))[:2 * BLOCK:BLOCK]
                for seed in range(60)}
        self.assertEqual(seen, {bytes([a, b]) for a in b'ABD' for b in b'\0C'})

    def test_what_came_behind_the_cut_is_not_there(self):
        log = self.log(flush(), write(0, b'B' * BLOCK), write(BLOCK, b'C' * BLOCK))
        blocks = {offset for seed in range(40)
                  for offset, _, _ in surviving_blocks(log, Cut(0, 1, 2, 'some', seed))}
        self.assertEqual(blocks, {0})

    def test_a_write_inside_a_block_keeps_its_neighbours(self):
        log = self.log(write(100, b'abc'), flush(), zero(101, 1), flush())
        image = self.image(log, Cut(1, 4, 4, 'none', 0))
        self.assertEqual(image[99:104], b'\0a\0c\0')
        self.assertEqual(len(image), DISK_BYTES)

    def test_a_write_across_blocks_may_be_torn_between_them(self):
        log = self.log(write(BLOCK // 2, b'x' * BLOCK))
        seen = {(image[BLOCK // 2] > 0, image[BLOCK] > 0)
                for image in (self.image(log, Cut(0, 0, 1, 'some', s)) for s in range(40))}
        self.assertEqual(seen, {(a, b) for a in (False, True) for b in (False, True)})

    def test_the_same_seed_loses_the_same(self):
        log = self.log(*(write(n * BLOCK, b'z' * BLOCK) for n in range(12)))
        images = [self.image(log, Cut(0, 0, 12, 'some', seed)) for seed in (1, 1, 2)]
        self.assertEqual(images[0], images[1])
        self.assertNotEqual(images[0], images[2])


JOURNAL = """start 10
begin 20 n1 1 40
acknowledged 30 n1 1
begin 40 n1 2 100
acknowledged 60 n1 2
begin 70 n1 3 -1
acknowledged 80 n1 3
begin 40 d2/n2 1 5
end 90
"""


class Kept(InFolder):
    def setUp(self):
        super().setUp()
        with open(self.path('journal'), 'w') as file:
            file.write(JOURNAL)
        self.promises = Promises(self.path('journal'), lambda position: position, seed=7)
        os.makedirs(self.path('root/d2'))
        os.makedirs(self.path('root/lost+found'))

    def put(self, name, data):
        with open(self.path(f'root/{name}'), 'wb') as file:
            file.write(data)

    def wrong(self, written, acknowledged=None):
        return broken_promises(self.promises, self.path('root'), written,
                               written if acknowledged is None else acknowledged, {})

    def test_the_journal_is_read_whole(self):
        self.assertEqual((self.promises.start, self.promises.end, self.promises.count),
                         (10, 90, 3))
        self.assertEqual(self.promises.names['n1'][-1].bytes, REMOVED)

    def test_a_name_under_way_shows_old_or_new_and_nothing_else(self):
        for version, count in ((1, 40), (2, 100)):
            self.put('n1', content(7, 'n1', version, count))
            self.assertEqual(self.wrong(50), [])
        self.assertIn('where it must show 1', self.wrong(35)[0])
        self.put('n1', content(7, 'n1', 1, 40))
        self.assertIn('where it must show 2', self.wrong(65)[0])

    def test_an_acknowledgement_counts_though_the_write_was_before_it(self):
        self.put('n1', content(7, 'n1', 1, 40))
        self.assertEqual(self.wrong(50, 59), [])
        self.assertIn('where it must show 2', self.wrong(50, 60)[0])

    def test_an_acknowledged_name_that_is_gone_is_told(self):
        self.assertEqual(self.wrong(25), [])
        self.assertEqual(self.wrong(30), ['n1: version 1 was acknowledged and is gone'])
        self.assertEqual(self.wrong(75), [])  # its removal is under way
        self.assertEqual(self.wrong(85), [])

    def test_a_removed_name_that_is_back_is_told(self):
        self.put('n1', content(7, 'n1', 2, 100))
        self.assertEqual(self.wrong(75), [])
        self.assertIn('where it must show none', self.wrong(85)[0])

    def test_a_part_of_a_version_is_told_with_its_place(self):
        whole = content(7, 'n1', 2, 100)
        for data, words in ((whole[:99], '99 bytes instead of 100'),
                            (whole[:52] + bytes(48), 'zeroes from byte 52 on'),
                            (whole[:32] + content(7, 'n9', 4, 68), 'name number 9'),
                            (b'', '0 bytes instead of 100')):
            self.put('n1', data)
            self.assertRegex(self.wrong(65)[0], f'n1: partial.*{words}')

    def test_a_stranger_is_told_and_a_temporary_name_is_not(self):
        self.put('.sluice-tmp-0123', b'part')
        self.assertEqual(self.wrong(15), [])
        self.put('d2/other', b'')
        self.assertEqual(self.wrong(15), ['d2/other: nobody made it'])

    def test_a_name_in_a_directory_is_looked_at(self):
        self.put('d2/n2', content(7, 'd2/n2', 1, 5))
        self.put('n1', content(7, 'n1', 1, 40))
        self.assertEqual(self.wrong(45), [])
        self.assertRegex(self.wrong(35)[0], 'd2/n2: .*must show none')


RANGES_JOURNAL = """start 10
begin 20 r0@0/n1 1 64
acknowledged 30 r0@0/n1 1
begin 40 r0@0/n1 2 64
acknowledged 60 r0@0/n1 2
begin 40 r0@64/n2 1 32
acknowledged 70 r0@64/n2 1
end 90
"""


class KeptRanges(InFolder):
    def setUp(self):
        super().setUp()
        with open(self.path('journal'), 'w') as file:
            file.write(RANGES_JOURNAL)
        self.promises = Promises(self.path('journal'), lambda position: position, seed=7)
        os.mkdir(self.path('root'))
        self.first, self.second = (content(7, 'r0@0/n1', v, 64) for v in (1, 2))
        self.other = content(7, 'r0@64/n2', 1, 32)

    def wrong(self, data, written, acknowledged=None):
        with open(self.path('root/r0'), 'wb') as file:
            file.write(data)
        return broken_promises(self.promises, self.path('root'), written,
                               written if acknowledged is None else acknowledged, {})

    def test_an_acknowledged_range_is_whole(self):
        self.assertEqual(self.wrong(self.first, 35), [])
        self.assertEqual(self.wrong(self.second + self.other, 75), [])
        self.assertRegex(self.wrong(self.first[:48], 35)[0], 'partial.*zeroes from byte 48 on')
        self.assertRegex(self.wrong(b'', 35)[0], 'version 1 was acknowledged and is gone')
        self.assertRegex(self.wrong(self.first + self.other, 75)[0],
                         'partial: against version 2.*version 1 of name number 1')

    def test_a_file_that_is_gone_has_lost_its_ranges(self):
        self.assertEqual(broken_promises(self.promises, self.path('root'), 15, 15, {}), [])
        self.assertRegex(broken_promises(self.promises, self.path('root'), 35, 35, {})[0],
                         'version 1 was acknowledged and is gone')

    def test_units_of_a_range_under_way_are_old_or_new(self):
        for data in (self.first, self.second, self.first[:32] + self.second[32:]):
            self.assertEqual(self.wrong(data, 50), [])
        self.assertRegex(self.wrong(self.first[:32] + bytes(32), 50)[0], 'no allowed version')
        self.assertEqual(self.wrong(self.second + bytes(16) + self.other[16:], 65), [])

    def test_an_acknowledgement_counts_though_the_write_was_before_it(self):
        self.assertEqual(self.wrong(self.first, 50, 59), [])
        self.assertRegex(self.wrong(self.first, 50, 60)[0], 'partial: against version 2')

    def test_bytes_that_nobody_wrote_yet_are_told(self):
        self.assertRegex(self.wrong(self.first, 15)[0], 'nothing was begun')


class LoggedDisk(InFolder):
    """The disk itself, in a process of its own: the mounts must not stay with this one."""

    def in_child(self, body):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                body()
                code = 0
            except machine.CannotRun as reason:
                print(f'skipped: {reason}', file=sys.stderr)
                code = 77
            except BaseException as problem:  # the parent learns of it by the code
                print(f'{type(problem).__name__}: {problem}', file=sys.stderr)
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 77:
            self.skipTest('not on this machine')
        self.assertEqual(code, 0)

    def on_disk(self, body):
        def inside():
            machine.need()
            machine.own_mounts()
            with machine.logged_disk(BLOCK_LOG, self.folder, 1 << 20) as (disk, log):
                body(disk, log)
        self.in_child(inside)

    def test_a_flush_of_the_loop_device_is_logged_behind_the_writes_before_it(self):
        def body(disk, path):
            with machine.loop_device(disk) as device:
                fd = os.open(device, os.O_RDWR)
                os.pwrite(fd, b'first' * 1000, 4096)
                os.fsync(fd)
                before = os.stat(path).st_size  # what an acknowledgement would be dated with
                os.pwrite(fd, b'second' * 1000, 65536)
                os.fsync(fd)
                os.close(fd)
                log = BlockLog(path)
                kinds = [(r.kind, b'first' in log.data(r), b'second' in log.data(r))
                         for r in log.records]
                first = kinds.index((WRITE, True, False))
                second = kinds.index((WRITE, False, True))
                flushes = log.flushes
                assert any(first < n < second for n in flushes), kinds
                assert any(n > second for n in flushes), kinds
                assert first < log.time_of(before) <= second, (before, log.ends)
                log.close()
        self.on_disk(body)

    def test_a_write_that_needs_no_flush_is_logged_before_it_is_told(self):
        def body(disk, path):
            with machine.loop_device(disk) as device:
                fd = os.open(device, os.O_RDWR | os.O_DIRECT)
                memory = mmap.mmap(-1, 8192)
                memory[:] = b'd' * 8192
                os.pwrite(fd, memory, 16384)
                log = BlockLog(path)
                assert log.records[-1][:3] == (WRITE, 16384, 8192), log.records
                os.close(fd)
                log.close()
        self.on_disk(body)

    def test_the_log_alone_makes_the_disk_again(self):
        def body(disk, path):
            with machine.loop_device(disk) as device:
                subprocess.run(['mke2fs', '-q', '-F', device], check=True)
            log = BlockLog(path)
            again = Disk(log, self.folder, 1 << 20)
            end = len(log.records)
            with open(again.image(Cut(0, end, end, 'none', 0)), 'rb') as f:
                made = f.read()
            with open(self.path('store'), 'rb') as f:
                assert f.read() == made
            assert made.count(0) < len(made)
            again.close()
            log.close()
        self.on_disk(body)

    def test_nothing_is_left_when_the_process_is_killed(self):
        machine.adopt_orphans()  # the disk's server must end, too
        pipe = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                machine.need('mkfs.ext4')
                machine.own_mounts()
                with machine.logged_disk(BLOCK_LOG, self.folder, 32 << 20) as (disk, _), \
                        machine.loop_device(disk) as device:
                    machine.run('mkfs.ext4', '-q', '-F', device)
                    os.mkdir(self.path('at'))
                    with machine.mounted(device, self.path('at'), 'ext4'):
                        # What the last to leave these mounts has to write back.
                        with open(self.path('at/dirty'), 'wb') as file:
                            file.write(os.urandom(4 << 20))
                        os.write(pipe[1], device.encode())
                        os.kill(os.getpid(), 9)
            finally:
                os._exit(1)
        os.close(pipe[1])
        device = os.read(pipe[0], 100).decode()
        os.close(pipe[0])
        os.waitpid(child, 0)
        if not device:
            self.skipTest('no loop device on this machine')

        def children():
            try:
                os.waitpid(-1, os.WNOHANG)
                return True
            except ChildProcessError:
                return False

        def still_there():
            backing = f'/sys/block/{os.path.basename(device)}/loop/backing_file'
            mounted = any(self.folder in text_of(p) for p in ('/proc/self/mounts', backing))
            return mounted or children()
        for _ in range(200):
            if not still_there():
                return
            time.sleep(0.05)
        self.fail(f'{device} is still attached, a mount is left, or a process hangs')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=0)
