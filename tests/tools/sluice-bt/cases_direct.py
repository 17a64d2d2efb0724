"""What is given out is read around the page cache."""

import os
import pathlib
import random
import shutil
import socket
import struct
import tempfile

from bad_peer import INTERESTED, PIECE, REQUEST, message, messages
from cases_blame import hello
from cases_get import MANY
from harness import Skipped, case, check, wait_until

FALLBACK = 'which are read through the page cache'


def takes_direct(folder):
    """Not a filesystem in memory, which takes the flag and copies all the same."""
    words = pathlib.Path('/proc/self/mountinfo').read_text().splitlines()
    devices = {words[2]: words[words.index('-') + 1] for words in map(str.split, words)}
    device = os.stat(folder).st_dev
    if devices.get(f'{os.major(device)}:{os.minor(device)}') in ('tmpfs', 'ramfs'):
        return False
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT))
    except OSError:
        return False
    return True


def direct_descriptors(child):
    """How many the process has open with O_DIRECT for reading."""
    flags = [int(line.split()[1], 8) for info in pathlib.Path(f'/proc/{child.pid}/fdinfo').iterdir()
             for line in info.read_text().splitlines() if line.startswith('flags:')]
    return sum(1 for f in flags if f & os.O_DIRECT and f & os.O_ACCMODE == os.O_RDONLY)


def seed_direct(bench, content, **named):
    seeder, port = bench.seed(content, '--cache', 'direct', **named)
    files = sum(path.is_file() and path.stat().st_size > 0 for path in content.root.rglob('*'))
    expected = files if takes_direct(content.root) else 0
    check(direct_descriptors(seeder) == expected, f'{direct_descriptors(seeder)} of {files} files')
    return seeder, port


@case
def libtorrent_fetches_many_files_around_the_page_cache(bench):
    content = bench.content('tree', MANY, piece_bytes=32 << 10)
    seeder, port = seed_direct(bench, content)
    out = bench.new_folder()
    taker = bench.peer(content, out, seeds=False)
    taker.connect(port)
    taker.wait_for_all()
    content.check_copy(out, 'fetched by libtorrent')
    ours = bench.new_folder()
    bench.get(content, ours, [port])
    content.check_copy(ours, 'fetched by sluice-bt')
    said = bench.end(seeder)
    check((FALLBACK in said) == (not takes_direct(content.root)), said)


@case
def a_hybrid_torrent_is_given_out_around_the_page_cache(bench):
    content = bench.content('tree', {'a': 1_000_001, 'b': 1_000_001}, piece_bytes=64 << 10,
                            hybrid=True)
    seeder, port = seed_direct(bench, content)
    out = bench.new_folder()
    taker = bench.peer(content, out, seeds=False)
    taker.connect(port)
    taker.wait_for_all()
    content.check_copy(out, 'fetched by libtorrent')
    bench.end(seeder)


def check_odd_requests(bench, settings=()):
    """Ranges of any edges, of one byte to 128 KiB, many at a time and in no order."""
    content = bench.content('tree', {'a': 100_003, 'b/c': 1, 'b/d': 511, 'e': 700_001, 'f': 0,
                                     'g': 4_096}, piece_bytes=256 << 10)
    whole = b''.join((content.root / 'tree' / path).read_bytes()
                     for path in ('a', 'b/c', 'b/d', 'e', 'f', 'g'))
    source = random.Random(5)
    asked = []
    for length in (1, 2, 511, 513, 4_096, 16 << 10, 16 << 10, 100_000, 128 << 10) * 12:
        at = source.randrange(len(whole) - length)
        length = min(length, (256 << 10) - at % (256 << 10))
        asked.append((at >> 18, at % (256 << 10), length))
    asked += [(0, at, 8_192) for at in range(96 << 10, 128 << 10, 8_192)]  # over the borders
    seeder, port = seed_direct(bench, content, settings=settings)
    with socket.create_connection(('127.0.0.1', port)) as taker:
        taker.settimeout(20)
        taker.sendall(hello(content) + message(INTERESTED)
                      + b''.join(message(REQUEST, struct.pack('>III', *one)) for one in asked))
        stream = taker.makefile('rb')
        stream.read(68)
        for kind, body in messages(stream):
            if kind != PIECE:
                continue
            piece, begin = struct.unpack('>II', body[:8])
            wanted = asked.pop(0)
            check((piece, begin, len(body) - 8) == wanted, f'in order: {wanted}, {piece}, {begin}')
            at = piece * (256 << 10) + begin
            check(body[8:] == whole[at:at + wanted[2]], f'right: {wanted}')
            if not asked:
                break
    check(not asked, f'{len(asked)} were not answered')
    bench.end(seeder)


@case
def blocks_of_any_edges_are_right_around_the_page_cache(bench):
    check_odd_requests(bench)


@case
def a_request_as_large_as_a_block_of_the_pool_is_answered_all_the_same(bench):
    check_odd_requests(bench, ['sluice.memory.block_bytes=131072'])


@case
def what_is_still_being_fetched_is_given_on_around_the_page_cache(bench):
    content = bench.content('tree', {'a': 6_000_001, 'b': 10_000_001}, piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(6 << 20)
    middle, last = bench.new_folder(), bench.new_folder()
    child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out',
                        middle, '--listen', '127.0.0.1:0', '--cache', 'direct')
    port = int(child.stdout.readline().rpartition(':')[2])
    taker = bench.peer(content, last, seeds=False)
    taker.connect(port)
    wait_until(lambda: taker.handle.status().total_payload_download > content.bytes / 4,
               'a quarter was given on while the rest came')
    check(child.poll() is None, 'it still fetches')
    bench.finish(child)
    content.check_copy(middle, 'fetched')
    taker.connect(seeder.port)
    taker.wait_for_all()
    content.check_copy(last, 'given on')
    check(taker.handle.status().total_failed_bytes == 0, 'every byte given on was right')


@case
def a_filesystem_without_direct_reads_is_served_from_the_page_cache_and_said_once(bench):
    if not os.access('/dev/shm', os.W_OK) or takes_direct('/dev/shm'):
        raise Skipped('no tmpfs here')
    content = bench.content('tree', {'a': 300_000, 'b': 200_000}, piece_bytes=32 << 10)
    folder = tempfile.mkdtemp(prefix='sluice-bt-e2e-', dir='/dev/shm')
    bench.cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(content.root, folder, dirs_exist_ok=True)
    seeder, port = bench.seed(content, '--cache', 'direct', data=folder)
    out = bench.new_folder()
    bench.get(content, out, [port])
    content.check_copy(out, 'fetched')
    said = bench.end(seeder)
    check(said.count(FALLBACK) == 1 and '2 of 2 files' in said, said)


@case
def only_two_ways_of_reading_are_known(bench):
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)
    for command in (('seed', content.torrent, '--data', content.root, '--listen', '127.0.0.1:0'),
                    ('get', content.torrent, '--peer', '127.0.0.1:1', '--out', content.root)):
        said = bench.run(*command, '--cache', 'warm', status=2)
        check('--cache' in said and 'direct' in said, said)
        said = bench.run(command[0], '--help', sets=False)
        check('O_DIRECT' in said and 'cached' in said, said)
