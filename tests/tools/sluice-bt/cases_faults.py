"""What goes wrong: kills and bad peers."""

import os
import resource
import signal
import socket
import struct
import time

from bad_peer import BITFIELD, INTERESTED, PIECE, REQUEST, UNCHOKE, BadPeer, message, messages
from cases_direct import takes_direct
from harness import Failed, Skipped, case, check, number, wait_until


@case
def a_killed_download_goes_on_where_it_was(bench):
    content = bench.content(piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(10 << 20)
    out = bench.new_folder()
    child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out', out)
    wait_until(lambda: seeder.handle.status().total_payload_upload > content.bytes / 2, 'half way')
    child.send_signal(signal.SIGKILL)
    child.communicate()
    seeder.limit_upload(0)
    said = bench.get(content, out, [seeder.port])
    content.check_copy(out, 'after a kill')
    there = number(r'; (\d+) bytes were there already', said)
    check(there > content.bytes / 8, f'much of it was kept: {said}')
    check(number(r'got data: (\d+) bytes', said) == content.bytes - there, said)


@case
def a_stopped_download_keeps_all_it_had(bench):
    content = bench.content(piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(10 << 20)
    out = bench.new_folder()
    child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out', out,
                        settings=['sluice.write.delay_us=60000000'])
    wait_until(lambda: seeder.handle.status().total_payload_upload > content.bytes / 2, 'half way')
    child.send_signal(signal.SIGTERM)
    said = bench.finish(child, status=1)
    check('goes on from here' in said, said)
    seeder.limit_upload(0)
    said = bench.get(content, out, [seeder.port])
    content.check_copy(out, 'after a stop')
    check(number(r'; (\d+) bytes were there', said) > content.bytes * 0.4, said)


@case
def what_is_there_already_is_not_fetched(bench):
    content = bench.content('tree', {'a': 3 << 20, 'b': 70_000}, piece_bytes=64 << 10)
    said = bench.get(content, content.root, [1])
    check('got tree: 0 bytes' in said, said)


@case
def what_is_there_is_read_from_the_disk_and_not_from_the_cache(bench):
    content = bench.content(files={'': 8 << 20}, piece_bytes=64 << 10)
    if not takes_direct(content.root):
        raise Skipped('the filesystem has nothing but memory')
    with open(content.root / 'data', 'r+b') as file:
        os.fsync(file.fileno())
        file.read()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock
    said = bench.get(content, content.root, [1])
    check('got data: 0 bytes' in said, said)
    came = 512 * (resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock - before)
    check(came >= content.bytes, f'{came} bytes came from the disk')


@case
def damage_on_the_disk_is_found_and_fetched_again(bench):
    content = bench.content(piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    out = bench.new_folder()
    (out / 'data').write_bytes((content.root / 'data').read_bytes())
    with open(out / 'data', 'r+b') as file:
        file.seek((9 << 20) + 5)
        file.write(b'damage')
    said = bench.get(content, out, [seeder.port])
    content.check_copy(out, 'after damage')
    check(number(r'got data: (\d+) bytes', said) == 64 << 10, said)


@case
def a_piece_of_zeroes_that_is_a_hole_is_there(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10,
                            zeroes=(256 << 10, 512 << 10))
    out = bench.new_folder()
    whole = (content.root / 'data').read_bytes()
    with open(out / 'data', 'wb') as sparse:
        sparse.write(whole[:256 << 10])
        sparse.seek(512 << 10)
        sparse.write(whole[512 << 10:])
    said = bench.get(content, out, [1])
    check('got data: 0 bytes' in said, said)


@case
def a_corrupting_peer_is_dropped_and_the_content_is_right(bench):
    content = bench.content(piece_bytes=128 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(16 << 20)
    with BadPeer(content, corrupt=lambda piece, begin: begin == 16 << 10) as bad:
        out = bench.new_folder()
        said = bench.get(content, out, [bad.port, seeder.port])
        check(bad.blocks_sent > 0, 'the bad one was asked')
        wait_until(lambda: bad.connections_open == 0, 'the bad one was dropped')
        check(bad.connections == 1, 'and never called again')
    content.check_copy(out, 'beside a corrupting peer')
    check('wrong bytes for piece' in said and 'pieces came wrong' in said, said)


@case
def alone_with_a_corrupting_peer_it_fails_and_says_why(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=128 << 10)
    with BadPeer(content, corrupt=lambda piece, begin: piece == 3) as bad:
        out = bench.new_folder()
        said = bench.get(content, out, [bad.port], status=1)
        check('it sent wrong bytes for piece 3' in said, said)
        said = bench.get(content, out, [bad.port], status=1)
    seeder = bench.peer(content, content.root, seeds=True)
    bench.get(content, out, [seeder.port])
    content.check_copy(out, 'in the end')


@case
def blocks_in_disorder_of_a_slow_start_are_taken(bench):
    content = bench.content(files={'': 4 << 20}, piece_bytes=1 << 20)
    with BadPeer(content, shuffle=16) as odd:
        out = bench.new_folder()
        bench.get(content, out, [odd.port])
    content.check_copy(out, 'in disorder')


class Parting(BadPeer):
    """Sends its last block and nonsense in one, and listens no more."""

    def send_block(self, caller, piece, begin, length):
        data = self.data[piece * self.content.piece_bytes + begin:][:length]
        if self.corrupt:
            data = bytes(length)
        block = message(PIECE, struct.pack('>II', piece, begin) + data)
        self.blocks_sent += 1
        last = self.blocks_sent == -(-len(self.data) // (16 << 10))
        caller.sendall(block + (b'\xff' * 5 if last else b''))
        if last:
            self.listener.close()


@case
def the_last_peer_may_go_while_its_last_piece_is_hashed(bench):
    content = bench.content(files={'': 4 << 20}, piece_bytes=4 << 20)
    with Parting(content) as peer:
        out = bench.new_folder()
        bench.get(content, out, [peer.port])
    content.check_copy(out, 'though nobody was left')
    with Parting(content, corrupt=True) as peer:
        said = bench.get(content, bench.new_folder(), [peer.port], status=1, seconds=10)
        check('no peer is left, 0 of 1 pieces' in said, said)


@case
def a_peer_that_chokes_in_the_middle_is_asked_again(bench):
    content = bench.content(files={'': 4 << 20}, piece_bytes=128 << 10)
    with BadPeer(content, choke_every=40) as moody:
        out = bench.new_folder()
        bench.get(content, out, [moody.port])
        check(moody.chokes > 2, 'it did choke')
    content.check_copy(out, 'between chokes')


@case
def a_peer_that_goes_away_is_called_again(bench):
    content = bench.content(files={'': 2 << 20}, piece_bytes=64 << 10)
    with BadPeer(content, leave_after=50) as restless:
        out = bench.new_folder()
        bench.get(content, out, [restless.port])
        check(restless.connections >= 3, 'it was called again')
    content.check_copy(out, 'over several connections')


@case
def a_slow_peer_that_holds_a_piece_is_overtaken_by_another(bench):
    content = bench.content(files={'': 4 << 20}, piece_bytes=2 << 20)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(8 << 20)  # so that the slow one has its turn
    with BadPeer(content, pause_s=0.1) as slow:
        out = bench.new_folder()
        bench.get(content, out, [slow.port, seeder.port])
        check(0 < slow.blocks_sent < 64, f'it did not send its piece: {slow.blocks_sent}')
    content.check_copy(out, 'without waiting for it')


@case
def a_peer_that_falls_silent_loses_its_piece_to_another(bench):
    content = bench.content(files={'': 4 << 20}, piece_bytes=1 << 20)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(3 << 20)
    with BadPeer(content, silent=True) as mute:
        out = bench.new_folder()
        bench.get(content, out, [mute.port, seeder.port], '--answer', '1')
        check(mute.connections > 0 and mute.blocks_sent == 0, 'it was asked')
    content.check_copy(out, 'from the other one')


@case
def messages_that_the_protocol_does_not_have_end_the_connection(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10)
    for name, message in {
            'a length over all limits': b'\xff\xff\xff\xff\x07',
            'a short have': b'\0\0\0\x04\x04\0\0\0',
            'a bitfield of the wrong length': b'\0\0\0\x09\x05' + bytes(8),
            'a piece that does not exist': b'\0\0\0\x05\x04\0\0\xff\xff',
            'a block longer than asked': b'\0\x01\0\x09\x07' + bytes(8),
    }.items():
        with BadPeer(content, first=message) as bad:
            said = bench.get(content, bench.new_folder(), [bad.port], status=1)
            check('it ' in said and 'pieces are here' in said, f'{name}: {said}')


@case
def a_peer_without_the_torrent_is_named(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10)
    other = bench.content('other', {'': 100_000}, piece_bytes=64 << 10)
    seeder = bench.peer(other, other.root, seeds=True)
    said = bench.get(content, bench.new_folder(), [seeder.port], status=1)
    check(f'127.0.0.1:{seeder.port}: it closed the connection in the handshake' in said, said)
    with BadPeer(other) as mistaken:
        mistaken.hello = b'\x13BitTorrent protocol' + bytes(8) + other.info_hash()
        said = bench.get(content, bench.new_folder(), [mistaken.port], status=1)
    check('it has another torrent' in said, said)


@case
def nobody_to_talk_to_is_said_soon(bench):
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        port = unused.getsockname()[1]
        said = bench.get(content, bench.new_folder(), [port], status=1)
    check('no peer is left, 0 of 2 pieces are here' in said and 'ECONNREFUSED' in said, said)


@case
def a_peer_that_never_sends_is_given_up(bench):
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)
    with BadPeer(content, silent=True) as mute:
        said = bench.get(content, bench.new_folder(), [mute.port], '--give-up', '1', status=1)
    check('no peer has sent anything for 1 s' in said, said)


@case
def a_peer_that_only_sends_keep_alives_is_dropped(bench):
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)
    with BadPeer(content, silent=True, keep_alive_s=0.1) as talker:
        child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{talker.port}', '--out',
                            bench.new_folder(), '--answer', '1')
        wait_until(lambda: talker.connections == 2, 'it was dropped, and called again')
        check(talker.keep_alives >= 10, 'it was dropped although it had talked')
        child.kill()


class Taking(BadPeer):
    """Answers nothing, and takes piece 0 all the time."""

    taken = 0  # blocks

    def talk(self, caller, source):
        caller.sendall(source.read(48) + b'-BAD000-' + b'bad peer 001')
        source.read(20)
        caller.sendall(message(BITFIELD, b'\xff' * 4) + message(UNCHOKE) + message(INTERESTED))
        for kind, _ in messages(source):
            self.taken += kind == PIECE
            if kind in (UNCHOKE, PIECE):
                caller.sendall(message(REQUEST, struct.pack('>III', 0, 0, 16 << 10)))
                time.sleep(0.01)


@case
def a_peer_that_takes_and_never_sends_is_dropped(bench):
    content = bench.content(files={'': 2 << 20}, piece_bytes=64 << 10)
    out = bench.new_folder()
    (out / 'data').write_bytes((content.root / 'data').read_bytes()[:64 << 10])
    with Taking(content) as taker:
        said = bench.get(content, out, [taker.port], '--answer', '1', status=1, seconds=30)
        check('it does not send what it was asked for' in said, said)
        check(taker.taken > 50, f'it took {taker.taken} blocks')
    with Taking(content) as taker:
        said = bench.get(content, out, [taker.port], '--give-up', '2', status=1, seconds=30)
        check('no peer has sent anything for 2 s; 1 of 32 pieces are here' in said, said)
        check(taker.taken > 50, f'it took {taker.taken} blocks')


@case
def a_torrent_that_leads_out_writes_nothing(bench):
    content = bench.content('tree', {'aa': 100_000, 'bb': 5}, piece_bytes=64 << 10)
    bad = bench.folder / 'bad.torrent'
    bad.write_bytes(content.torrent.read_bytes().replace(b'2:aa', b'2:..'))
    out = bench.new_folder()
    said = bench.run('get', bad, '--peer', '127.0.0.1:1', '--out', out / 'deep', status=1)
    check('leads out' in said, said)
    check(not list(out.iterdir()), 'nothing is there')
    # Nor does a link in the way lead out.
    (out / 'tree').symlink_to(bench.new_folder())
    said = bench.run('get', content.torrent, '--peer', '127.0.0.1:1', '--out', out, status=1)
    check('ELOOP' in said or 'EXDEV' in said or 'ENOTDIR' in said, said)


@case
def a_caller_that_asks_for_nonsense_is_dropped_and_others_are_served(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10)
    seeder, port = bench.seed(content)
    hello = b'\x13BitTorrent protocol' + bytes(8) + content.info_hash() + b'-XX0000-' + bytes(12)
    request = b'\0\0\0\x0d\x06' + (1000).to_bytes(4) + bytes(4) + (16384).to_bytes(4)
    long_one = b'\0\0\0\x0d\x06' + bytes(8) + (1 << 31).to_bytes(4)
    odd_one = b'\0\0\0\x0e\x06' + bytes(13)
    for message in (request, long_one, odd_one, b'GET / HTTP/1.1\r\n\r\n' * 9):
        with socket.create_connection(('127.0.0.1', port)) as s:
            s.settimeout(20)
            s.sendall((b'' if message.startswith(b'GET') else hello) + message)
            try:
                while s.recv(4096):
                    pass
            except ConnectionResetError:
                pass
            except TimeoutError:
                raise Failed(f'{message!r}: the connection stays open') from None
    out = bench.new_folder()
    bench.get(content, out, [port])
    content.check_copy(out, 'after bad callers')
    bench.end(seeder)
