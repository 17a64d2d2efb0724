"""Who sent what is wrong, whatever connection it came by; and who is refused without a fault."""

import socket
import struct
import threading
import time

from bad_peer import (BITFIELD, CANCEL, CHOKE, HAVE, INTERESTED, PIECE, REQUEST, UNCHOKE, BadPeer,
                      message, messages)
from harness import case, check, wait_until

BLOCK = 16 << 10
DEPTH_MIN = 16  # requests that it sends at least, where there are as many blocks


def hello(content, name=b'raw peer 001'):
    return b'\x13BitTorrent protocol' + bytes(8) + content.info_hash() + b'-RAW000-' + name


class Leaving(BadPeer):
    """Goes when all it has sent was read."""

    def part(self, caller, source):
        caller.shutdown(socket.SHUT_WR)
        source.read()


@case
def one_that_goes_before_its_piece_is_found_wrong_is_not_called_again(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10)
    with Leaving(content, corrupt=lambda piece, begin: True, leave_after=4) as bad:
        said = bench.get(content, bench.new_folder(), [bad.port], status=1, seconds=20)
        check('it sent wrong bytes for piece' in said, said)
        check(bad.connections <= 2, f'called {bad.connections} times')


class OneByOne(BadPeer):
    """Says that it has a piece when the one before it is there: who else does so shares each."""

    def talk(self, caller, source):
        caller.sendall(source.read(48) + b'-BAD000-' + self.name)
        source.read(20)
        caller.sendall(message(UNCHOKE) + message(HAVE, struct.pack('>I', 0)))
        for kind, body in messages(source):
            if kind == REQUEST:
                self.send_block(caller, *struct.unpack('>III', body))
            elif kind == HAVE:
                piece = struct.unpack('>I', body)[0] + 1
                if piece * self.content.piece_bytes < self.content.bytes:
                    caller.sendall(message(HAVE, struct.pack('>I', piece)))


@case
def one_bad_block_among_those_of_others_finds_its_sender_and_no_other(bench):
    content = bench.content(files={'': 8 << 20}, piece_bytes=1 << 20)
    spoiled = set()

    def first_of_each(piece, _):
        new = piece not in spoiled
        spoiled.add(piece)
        return new
    with OneByOne(content, pause_s=0.001) as good, \
            OneByOne(content, pause_s=0.001, corrupt=first_of_each) as bad:
        good.name, bad.name = b'good peer 01', b'bad peer 001'
        out = bench.new_folder()
        said = bench.get(content, out, [good.port, bad.port])
        check(good.blocks_sent > 400, f'{good.blocks_sent} blocks of the good one')
        check(len(spoiled) <= 2, f'it could spoil {len(spoiled)} pieces')
        check(good.connections == bad.connections == 1, 'none was called again')
    content.check_copy(out, 'without the bad one')
    check(f'127.0.0.1:{bad.port}: it sent wrong bytes for piece 0' in said, said)
    check(f':{good.port}:' not in said and 'pieces came wrong' in said, said)


class BadCaller(Leaving):
    """Calls in place of being called."""

    answered = 0  # calls

    def call(self, port):
        self.serve(socket.create_connection(('127.0.0.1', port)))

    def talk(self, caller, source):
        caller.sendall(hello(self.content))
        if not source.peek(1):
            raise EOFError
        self.answered += 1
        super().talk(_Greeted(caller), source)


class _Greeted:
    """A connection whose handshake was sent already."""

    def __init__(self, caller):
        self.caller, self.greeted = caller, False

    def sendall(self, data):
        if self.greeted:
            self.caller.sendall(data)
        self.greeted = True

    def shutdown(self, how):
        self.caller.shutdown(how)


@case
def a_bad_caller_is_asked_no_more_when_it_calls_again(bench):
    content = bench.content(files={'': 3 << 20}, piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(2 << 20)
    out = bench.new_folder()
    child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out', out,
                        '--listen', '127.0.0.1:0')
    port = int(child.stdout.readline().rpartition(':')[2])
    bad = BadCaller(content, corrupt=lambda piece, begin: True, leave_after=4)
    for _ in range(10):
        bad.call(port)
        time.sleep(0.05)
    check(child.poll() is None, 'it still fetches')
    check(0 < bad.answered < 4 and bad.blocks_sent < 16,
          f'{bad.answered} calls were answered, {bad.blocks_sent} blocks taken')
    seeder.limit_upload(0)
    bench.finish(child)
    content.check_copy(out, 'in spite of the caller')


class Moody(BadPeer):
    """Chokes whenever something is asked, sends it all the same, and lets ask again; 65 MiB so."""

    def talk(self, caller, source):
        caller.sendall(source.read(48) + b'-BAD000-' + b'bad peer 001')
        source.read(20)
        caller.sendall(message(BITFIELD, b'\xff' * 2) + message(UNCHOKE))
        cycles, asked = (65 << 20) // (DEPTH_MIN * BLOCK), []
        for kind, body in messages(source):
            if kind != REQUEST:
                continue
            asked.append(struct.unpack('>III', body))
            if cycles > 0 and len(asked) < DEPTH_MIN:
                continue
            if cycles > 0:
                caller.sendall(message(CHOKE))
            for block in asked:
                self.send_block(caller, *block)
            if cycles > 0:
                caller.sendall(message(UNCHOKE))
                self.chokes += 1
            cycles, asked = cycles - 1, []


@case
def blocks_on_their_way_when_a_peer_chokes_are_no_fault(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10)
    with Moody(content) as moody:
        out = bench.new_folder()
        bench.get(content, out, [moody.port])
        check(moody.chokes > 200 and moody.connections == 1,
              f'{moody.chokes} chokes, {moody.connections} connections')
    content.check_copy(out, 'between chokes')


@case
def a_caller_beyond_the_most_is_served_when_it_calls_again(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10)
    # Memory of four blocks, which is one caller.
    seeder, port = bench.seed(content, settings=['sluice.memory.block_bytes=262144',
                                                 'sluice.memory.arena_bytes=1048576',
                                                 'sluice.memory.head_bytes=4096',
                                                 'sluice.memory.head_blocks=4'])
    with socket.create_connection(('127.0.0.1', port)) as first:
        first.sendall(hello(content))
        check(len(first.makefile('rb').read(68)) == 68, 'the first one is served')
        with socket.create_connection(('127.0.0.1', port)) as second:
            second.settimeout(20)
            check(second.recv(1) == b'', 'the second one is not')
        threading.Timer(0.3, lambda: first.shutdown(socket.SHUT_RDWR)).start()
        out = bench.new_folder()
        bench.get(content, out, [port])
    content.check_copy(out, 'at the second attempt')
    bench.end(seeder)


@case
def a_peer_that_resets_the_handshake_is_called_again(bench):
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)

    class Resetting(BadPeer):
        def talk(self, caller, source):
            if self.connections > 1:
                return super().talk(caller, source)
            source.read(68)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))

    with Resetting(content) as peer:
        out = bench.new_folder()
        bench.get(content, out, [peer.port])
    content.check_copy(out, 'at the second attempt')


@case
def requests_that_are_taken_back_are_not_answered(bench):
    content = bench.content(files={'': 4 << 20}, piece_bytes=64 << 10)
    seeder, port = bench.seed(content)
    blocks = [struct.pack('>III', i // 4, i % 4 * BLOCK, BLOCK) for i in range(256)]
    with socket.create_connection(('127.0.0.1', port)) as taker:
        taker.settimeout(20)
        taker.sendall(hello(content) + message(INTERESTED))
        source = taker.makefile('rb')
        source.read(68)
        taker.sendall(b''.join(message(REQUEST, block) for block in blocks[:100])
                      + b''.join(message(CANCEL, block) for block in blocks[1:100])
                      + message(REQUEST, blocks[200]))
        came = []
        for kind, body in messages(source):
            if kind == PIECE:
                came.append(body[:8])
            if came and came[-1] == blocks[200][:8]:
                break
    check(came[0] == blocks[0][:8] and len(came) < 80, f'{len(came)} blocks came')
    bench.end(seeder)


@case
def silence_of_ours_is_broken_by_keep_alives(bench):
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)

    class Listening(BadPeer):
        def talk(self, caller, source):
            caller.sendall(source.read(48) + b'-BAD000-' + b'bad peer 001')
            source.read(20)
            for kind, _ in messages(source):
                self.keep_alives += kind is None

    with Listening(content) as peer:
        child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{peer.port}', '--out',
                            bench.new_folder(), '--answer', '1', '--keep-alive', '1')
        wait_until(lambda: peer.keep_alives > 0, 'it says that it is still there', 10)
        child.kill()
