"""A disk that stops for a while, that fails and is well again, and what is durable on one."""

import errno
import mmap
import os
import pathlib
import signal
import struct
import subprocess
import time

from cases_get import MANY
from harness import Skipped, case, check, number, wait_until

ORDERS_BYTES = 4096  # more than tests/support/fault_orders.hpp takes; zeroes order nothing
EVER = 1 << 62


class Orders:
    """The part of tests/support/fault_orders.hpp that tells which requests fail."""

    KINDS = ('write', 'sync', 'sync_directory', 'allocate', 'truncate', 'create', 'rename',
             'attributes', 'read')
    ROW = struct.Struct('=QQQi4xQ')  # seen; the first and the last that fail, with what; stop at

    def __init__(self, fd):
        self.memory = mmap.mmap(fd, ORDERS_BYTES)

    def seen(self, kind):
        return self.ROW.unpack_from(self.memory, self.KINDS.index(kind) * self.ROW.size)[0]

    def fail(self, kind, first, last):
        """Counted from here on."""
        self.ROW.pack_into(self.memory, self.KINDS.index(kind) * self.ROW.size, 0, first, last,
                           errno.EIO, 0)

    def reset(self):
        for kind in self.KINDS:
            self.fail(kind, 0, 0)


class Disk:
    """A filesystem that only who enters its namespace sees: its process, where it is mounted and
    what lies beneath, and the words before a command that is to enter."""

    def __init__(self, bench, *options):
        if not bench.fault_fs or os.geteuid() != 0 or not os.access('/dev/fuse', os.W_OK):
            raise Skipped('no filesystem to stop')
        self.bench, self.backing, self.at = bench, bench.new_folder(), bench.new_folder()
        orders = os.memfd_create('orders', 0)
        bench.cleanup.callback(os.close, orders)
        os.ftruncate(orders, ORDERS_BYTES)
        self.orders = Orders(orders)
        # It leaves the namespace that it mounts in.
        holder = begin(bench, ['unshare', '--mount', '--propagation', 'private', 'sleep', '600'])
        name = pathlib.Path(f'/proc/{holder.pid}/comm')
        wait_until(lambda: name.read_text() == 'sleep\n', 'the namespace is made')
        self.enter = ['nsenter', '-t', str(holder.pid), '-m']
        self.process = begin(bench, [*self.enter, os.path.abspath(bench.fault_fs), self.backing,
                                     self.at, str(orders), *options], pass_fds=[orders])
        mounts = pathlib.Path(f'/proc/{holder.pid}/mountinfo')
        wait_until(lambda: f' {self.at} ' in mounts.read_text(), 'it is mounted')

    def start(self, content, port, *more, out='', settings=()):
        return self.bench.child([*self.enter, os.path.abspath(self.bench.program), 'get',
                                 content.torrent, '--peer', f'127.0.0.1:{port}', '--out',
                                 self.at / out, *more, *self.bench.settings(settings)])

    def get(self, *arguments, status=0, **named):
        return self.bench.finish(self.start(*arguments, **named), status)


def begin(bench, words, **options):
    made = subprocess.Popen(words, **options)
    bench.cleanup.callback(made.wait)
    bench.cleanup.callback(made.kill)
    return made


@case
def a_disk_that_stalls_is_no_fault_of_the_peers(bench):
    content = bench.content(files={'': 16 << 20})
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(8 << 20)
    disk = Disk(bench)
    child = disk.start(content, seeder.port, '--give-up', '2', '--answer', '2',
                       settings=['sluice.memory.arena_bytes=8388608',
                                 'sluice.memory.block_bytes=262144'])
    wait_until(lambda: seeder.handle.status().total_payload_upload > 2 << 20, 'it has begun', 10)
    disk.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    check(child.poll() is None, 'it waits for the disk')
    disk.process.send_signal(signal.SIGCONT)
    said = bench.finish(child)
    check('got data' in said, said)


@case
def what_a_failing_disk_did_not_take_is_fetched_again_when_it_is_well(bench):
    content = bench.content('tree', MANY, piece_bytes=32 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    for kind, first, last, *options in (('write', 5, EVER), ('write', 9, 9),
                                        ('write', 5, EVER, 'writeback'), ('sync', 1, EVER),
                                        ('sync', 2, 2), ('sync_directory', 5, 5)):
        what = f'{kind} {first} to {last} {options}'
        disk = Disk(bench, *options)
        disk.orders.fail(kind, first, last)
        said = disk.get(content, seeder.port, status=1)
        check('EIO' in said and 'got tree' not in said, f'{what}: {said}')
        disk.orders.reset()
        said = disk.get(content, seeder.port)
        content.check_copy(disk.backing, f'after a failed {what}')
        there = number(r'; (\d+) bytes were there', said + '; 0 bytes were there')
        check(number(r'got tree: (\d+) bytes', said) + there == content.bytes, f'{what}: {said}')
        if kind != 'sync_directory':  # the first ones come before the content
            check((there == content.bytes) == (kind == 'sync'), f'{what}: {said}')


@case
def what_a_killed_run_left_is_durable_before_it_is_called_got(bench):
    content = bench.content('tree', MANY, piece_bytes=32 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(4 << 20)
    disk = Disk(bench)
    child = disk.start(content, seeder.port, out='one/two')
    wait_until(lambda: seeder.handle.status().total_payload_upload > 2 << 20, 'it has begun', 10)
    child.kill()
    child.communicate()
    seeder.limit_upload(0)
    disk.orders.reset()
    check('got tree' in disk.get(content, seeder.port, out='one/two'), 'the second run gets it')
    content.check_copy(disk.backing / 'one' / 'two', 'after a kill')
    # Each has names that the first run gave: the top, one, two, tree, a, b, c.
    syncs = disk.orders.seen('sync_directory')
    check(syncs >= 7, f'{syncs} directories were synced')
    check(disk.orders.seen('sync') >= 5, 'and the files with content')
    for failing in range(1, syncs + 1):
        disk.orders.reset()
        disk.orders.fail('sync_directory', failing, failing)
        said = disk.get(content, seeder.port, out='one/two', status=1)
        check('EIO' in said, f'{failing}: {said}')
    disk.orders.reset()
    check('got tree: 0 bytes' in disk.get(content, seeder.port, out='one/two'), 'all is there')


@case
def what_cannot_be_read_at_the_start_is_told_and_left_alone(bench):
    content = bench.content(files={'': 8 << 20}, piece_bytes=64 << 10)
    disk = Disk(bench)
    (disk.backing / 'data').write_bytes((content.root / 'data').read_bytes())
    disk.orders.fail('read', 3, EVER)
    said = disk.get(content, 1, status=1)
    check('reading what is there: ' in said and 'EIO' in said, said)
    disk.orders.reset()
    check('got data: 0 bytes' in disk.get(content, 1), 'it is as it was')
