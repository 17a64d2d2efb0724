"""sluice-bt gives out: to libtorrent, to itself, and while it is still fetching."""

import os
import socket
import struct
import time

from bad_peer import INTERESTED, PIECE, REQUEST, UNCHOKE, message, messages
from cases_blame import hello
from cases_get import MANY
from harness import case, check, number, wait_until


@case
def libtorrent_fetches_a_file(bench):
    content = bench.content()
    seeder, port = bench.seed(content)
    out = bench.new_folder()
    taker = bench.peer(content, out, seeds=False)
    taker.connect(port)
    taker.wait_for_all()
    content.check_copy(out, 'fetched by libtorrent')
    check(number(r'sent data: (\d+) bytes', bench.end(seeder)) >= content.bytes, 'all was sent')


@case
def libtorrent_fetches_many_files(bench):
    content = bench.content('tree', MANY, piece_bytes=32 << 10)
    seeder, port = bench.seed(content)
    out = bench.new_folder()
    taker = bench.peer(content, out, seeds=False)
    taker.connect(port)
    taker.wait_for_all()
    content.check_copy(out, 'fetched by libtorrent')
    bench.end(seeder)


@case
def a_torrent_it_made_itself_serves_libtorrent_and_itself(bench):
    content = bench.content('tree', MANY)
    content.torrent = bench.folder / 'own.torrent'
    bench.run('make', content.torrent, content.root / 'tree', '--piece-bytes', '64K', sets=False)
    seeder, port = bench.seed(content)
    theirs, ours = bench.new_folder(), bench.new_folder()
    taker = bench.peer(content, theirs, seeds=False)
    taker.connect(port)
    bench.get(content, ours, [port])
    taker.wait_for_all()
    content.check_copy(theirs, 'fetched by libtorrent')
    content.check_copy(ours, 'fetched by sluice-bt')
    bench.end(seeder)


@case
def what_is_still_being_fetched_is_given_on(bench):
    content = bench.content(piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(8 << 20)
    middle, last = bench.new_folder(), bench.new_folder()
    # Blocks stay with the writer for a minute unless they make a full write.
    child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out',
                        middle, '--listen', '127.0.0.1:0',
                        settings=['sluice.write.delay_us=60000000'])
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
def a_part_of_the_content_is_given_out_and_the_rest_is_not(bench):
    content = bench.content(piece_bytes=64 << 10)
    full = bench.peer(content, content.root, seeds=True)
    full.limit_upload(4 << 20)
    partial = bench.new_folder()
    damaged = partial / 'data'
    damaged.write_bytes((content.root / 'data').read_bytes())
    with open(damaged, 'r+b') as file:
        file.seek(5 << 20)
        file.write(bytes(3 << 20))
    seeder, port = bench.seed(content, data=partial)
    out = bench.new_folder()
    said = bench.get(content, out, [port, full.port])
    content.check_copy(out, 'fetched from both')
    check('came wrong' not in said, said)
    bench.end(seeder)


@case
def a_piece_that_can_no_longer_be_read_is_named_once(bench):
    content = bench.content(files={'': 256 << 10}, piece_bytes=16 << 10)
    for how in ('cached', 'direct'):
        seeder, port = bench.seed(content, '--cache', how)
        whole = (content.root / 'data').read_bytes()
        os.truncate(content.root / 'data', 40_000)  # in piece 2
        said = bench.get(content, bench.new_folder(), [port], status=1)
        check('no peer is left' in said, said)
        (content.root / 'data').write_bytes(whole)
        out = bench.new_folder()
        bench.get(content, out, [port])
        content.check_copy(out, 'once it could be read again')
        said = bench.end(seeder)
        check(said.count('piece 2 cannot be read') == 1 and 'stream' in said, said)


class Taker:
    """Has asked for more of what is there already than the kernel keeps for it."""

    wanted = [struct.pack('>III', i % 16, 0, 16 << 10) for i in range(1000)]

    def __init__(self, content, port):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(20)
        self.socket.connect(('127.0.0.1', port))
        self.socket.sendall(hello(content) + message(INTERESTED))
        self.source = self.socket.makefile('rb', buffering=4096)
        self.source.read(68)
        self.messages = messages(self.source)
        for kind, _ in self.messages:
            if kind == UNCHOKE:
                break
        self.socket.sendall(b''.join(message(REQUEST, block) for block in self.wanted))

    def says_for(self, seconds, pause_s, take):
        """How long it could say that it is there."""
        began = time.monotonic()
        try:
            while time.monotonic() < began + seconds:
                self.socket.sendall(bytes(4))
                time.sleep(pause_s)
                take()
        except OSError:
            pass
        return time.monotonic() - began


def get_for_ever(bench, content):
    """The child has all but a piece, for which there is nobody, and minds two seconds."""
    out = bench.new_folder()
    (out / 'data').write_bytes((content.root / 'data').read_bytes()[:-1])
    child = bench.start('get', content.torrent, '--peer', '127.0.0.1:1', '--out', out, '--listen',
                        '127.0.0.1:0', '--answer', '1')
    return child, int(child.stdout.readline().rpartition(':')[2])


@case
def a_peer_that_takes_slowly_is_no_dead_one(bench):
    content = bench.content(files={'': 2 << 20}, piece_bytes=64 << 10)
    child, port = get_for_ever(bench, content)
    taker = Taker(content, port)
    lasted = taker.says_for(6, 0.25, lambda: taker.source.read(16 << 10))
    check(lasted >= 6, f'it was dropped after {lasted} s')
    child.kill()


@case
def a_peer_that_takes_nothing_is_dropped_whatever_it_says(bench):
    content = bench.content(files={'': 2 << 20}, piece_bytes=64 << 10)
    child, port = get_for_ever(bench, content)
    taker = Taker(content, port)
    lasted = taker.says_for(20, 0.1, lambda: None)
    check(1.5 < lasted < 10, f'it was there for {lasted} s')
    child.kill()


@case
def a_hybrid_torrent_with_pad_files_goes_both_ways(bench):
    content = bench.content('tree', {'a': 1_000_001, 'b': 1_000_001}, piece_bytes=64 << 10,
                            hybrid=True)
    check(b'4:attr1:p' in content.torrent.read_bytes(), 'it has a pad file')
    there = bench.peer(content, content.root, seeds=True)
    ours, theirs = bench.new_folder(), bench.new_folder()
    bench.get(content, ours, [there.port])
    content.check_copy(ours, 'fetched by sluice-bt')
    check(sorted(p.name for p in ours.rglob('*')) == ['a', 'b', 'tree'], 'and nothing else')
    seeder, port = bench.seed(content, data=ours)
    taker = bench.peer(content, theirs, seeds=False)
    taker.connect(port)
    taker.wait_for_all()
    content.check_copy(theirs, 'fetched by libtorrent')
    again = bench.new_folder()
    bench.get(content, again, [port])
    content.check_copy(again, 'fetched by sluice-bt from itself')
    bench.end(seeder)
