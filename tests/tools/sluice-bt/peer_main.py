#!/usr/bin/env python3
"""Peers in processes of their own, so that their CPU time can be told apart.

  peer_main.py seed TORRENT FOLDER       libtorrent gives out; prints `listening PORT`, runs on
  peer_main.py get TORRENT FOLDER PORT   libtorrent fetches from 127.0.0.1:PORT; prints its rate
  peer_main.py discard TORRENT PORT      asks for all blocks and throws them away; prints its rate
"""

import resource
import socket
import struct
import sys
import time

sys.dont_write_bytecode = True

from harness import LibtorrentPeer, lt  # noqa: E402

BLOCK = 16 << 10
ASKED_MAX = 500
FRAME = 13 + BLOCK


def report(size, seconds):
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(f'{size} bytes in {seconds:.3f} s, {size / seconds / 2**20:.1f} MiB/s, '
          f'{cpu * 2**30 / size:.3f} CPU s/GiB with its start', flush=True)


def seed(torrent, folder):
    # It hashes all before it begins: one told that all is there hashes what is first asked for.
    peer = LibtorrentPeer(None, folder, seeds=False, torrent=torrent)
    peer.wait_for_all(600)
    print(f'listening {peer.port}', flush=True)
    while True:
        time.sleep(60)


def get(torrent, folder, port):
    peer = LibtorrentPeer(None, folder, seeds=False, torrent=torrent)
    began = time.monotonic()
    peer.connect(int(port))
    while not peer.handle.status().is_seeding:
        time.sleep(0.005)
    report(lt.torrent_info(torrent).total_size(), time.monotonic() - began)


def requests_of(info):
    for piece in range(info.num_pieces()):
        size = info.piece_size(piece)
        for begin in range(0, size, BLOCK):
            yield struct.pack('>IBIII', 13, 6, piece, begin, min(BLOCK, size - begin))


def discard(torrent, port):
    """Counts bytes instead of messages: nothing but blocks comes once it is unchoked."""
    info = lt.torrent_info(torrent)
    requests = list(requests_of(info))
    peer = socket.create_connection(('127.0.0.1', int(port)))
    peer.sendall(b'\x13BitTorrent protocol' + bytes(8) + info.info_hash().to_bytes()
                 + b'-XX0000-' + b'throws away.')
    source = peer.makefile('rb')
    source.read(68)
    peer.sendall(b'\0\0\0\1\2')
    while True:
        size, = struct.unpack('>I', source.read(4))
        if source.read(size)[:1] == b'\1':
            break
    place = bytearray(1 << 20)
    total = info.total_size() + 13 * len(requests)
    got = sent = 0
    began = time.monotonic()
    while got < total:
        wanted = min(got // FRAME + ASKED_MAX, len(requests))
        if wanted - sent > ASKED_MAX // 4 or (wanted > sent and wanted == len(requests)):
            peer.sendall(b''.join(requests[sent:wanted]))
            sent = wanted
        count = peer.recv_into(place)
        if count == 0:
            sys.exit('the seeder closed the connection')
        got += count
    report(info.total_size(), time.monotonic() - began)


if __name__ == '__main__':
    {'seed': seed, 'get': get, 'discard': discard}[sys.argv[1]](*sys.argv[2:])
