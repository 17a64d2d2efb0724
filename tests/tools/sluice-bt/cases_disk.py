"""A disk that stops for a while."""

import os
import pathlib
import signal
import subprocess
import time

from harness import Skipped, case, check, wait_until

ORDERS_BYTES = 4096  # more than tests/support/fault_orders.hpp takes; zeroes order nothing


def begin(bench, words, **options):
    made = subprocess.Popen(words, **options)
    bench.cleanup.callback(made.wait)
    bench.cleanup.callback(made.kill)
    return made


def mount(bench):
    """A filesystem that only who enters its namespace sees: its process, where it is, and the
    words before a command that is to enter."""
    if not bench.fault_fs or os.geteuid() != 0 or not os.access('/dev/fuse', os.W_OK):
        raise Skipped('no filesystem to stop')
    backing, at = bench.new_folder(), bench.new_folder()
    orders = os.memfd_create('orders', 0)
    bench.cleanup.callback(os.close, orders)
    os.ftruncate(orders, ORDERS_BYTES)
    # It leaves the namespace that it mounts in.
    holder = begin(bench, ['unshare', '--mount', '--propagation', 'private', 'sleep', '600'])
    name = pathlib.Path(f'/proc/{holder.pid}/comm')
    wait_until(lambda: name.read_text() == 'sleep\n', 'the namespace is made')
    enter = ['nsenter', '-t', str(holder.pid), '-m']
    disk = begin(bench, [*enter, os.path.abspath(bench.fault_fs), backing, at, str(orders)],
                 pass_fds=[orders])
    mounts = pathlib.Path(f'/proc/{holder.pid}/mountinfo')
    wait_until(lambda: f' {at} ' in mounts.read_text(), 'it is mounted')
    return disk, at, enter


@case
def a_disk_that_stalls_is_no_fault_of_the_peers(bench):
    content = bench.content(files={'': 16 << 20})
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(8 << 20)
    disk, out, enter = mount(bench)
    child = bench.child([*enter, os.path.abspath(bench.program), 'get', content.torrent,
                         '--peer', f'127.0.0.1:{seeder.port}', '--out', out, '--give-up', '2',
                         '--answer', '2', *bench.settings(['sluice.memory.arena_bytes=8388608',
                                                           'sluice.memory.block_bytes=262144'])])
    wait_until(lambda: seeder.handle.status().total_payload_upload > 2 << 20, 'it has begun', 10)
    disk.send_signal(signal.SIGSTOP)
    time.sleep(5)
    check(child.poll() is None, 'it waits for the disk')
    disk.send_signal(signal.SIGCONT)
    said = bench.finish(child)
    check('got data' in said, said)
