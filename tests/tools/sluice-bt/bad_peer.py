"""A seeder of plain sockets that behaves badly, in ways of one's choice."""

import random
import socket
import struct
import threading
import time

CHOKE, UNCHOKE, INTERESTED, HAVE, BITFIELD, REQUEST, PIECE, CANCEL = 0, 1, 2, 4, 5, 6, 7, 8


def message(kind, payload=b''):
    return struct.pack('>IB', 1 + len(payload), kind) + payload


def messages(source):
    """The kind (none for a keep-alive) and the rest of each message, until the connection ends."""
    while len(head := source.read(4)) == 4:
        body = source.read(struct.unpack('>I', head)[0])
        yield (body[0] if body else None), body[1:]


class BadPeer:
    """Serves the one file of a content to whoever connects, each on a thread.

    corrupt(piece, begin): whether that block is sent with wrong bytes
    shuffle: requests are answered in disorder, so many at a time
    choke_every: after so many blocks it chokes, drops what was asked for, and unchokes
    leave_after: closes after so many blocks
    pause_s: how long it takes over each block
    silent: never answers a request
    keep_alive_s: sends a keep-alive at such intervals
    first: sent right after the handshake, in place of everything else
    """

    hello = None  # the handshake up to its id, in place of what it is asked for

    def __init__(self, content, corrupt=None, shuffle=1, choke_every=0, leave_after=0,
                 pause_s=0, silent=False, keep_alive_s=0, first=None):
        self.content = content
        self.data = (content.root / content.name).read_bytes()
        self.corrupt, self.shuffle, self.choke_every = corrupt, shuffle, choke_every
        self.leave_after, self.silent, self.first = leave_after, silent, first
        self.pause_s = pause_s
        self.keep_alive_s, self.keep_alives = keep_alive_s, 0
        self.blocks_sent = self.chokes = self.connections = self.connections_open = 0
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.random = random.Random(7)

    def __enter__(self):
        threading.Thread(target=self.accept_all, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept_all(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.connections_open += 1
            threading.Thread(target=self.serve, args=(caller,), daemon=True).start()

    def serve(self, caller):
        try:
            with caller:
                self.talk(caller, caller.makefile('rb'))
        except (OSError, EOFError):
            pass
        finally:
            self.connections_open -= 1

    def talk(self, caller, source):
        asked_for = source.read(48)
        caller.sendall((self.hello or asked_for) + b'-BAD000-' + b'bad peer 001')
        source.read(20)
        if self.first is not None:
            caller.sendall(self.first)
            source.read()
            return
        pieces = -(-len(self.data) // self.content.piece_bytes)
        bits = (1 << pieces) - 1 << (-pieces % 8)
        caller.sendall(message(BITFIELD, bits.to_bytes((pieces + 7) // 8)))
        caller.sendall(message(UNCHOKE))
        while self.keep_alive_s:
            caller.sendall(bytes(4))
            self.keep_alives += 1
            time.sleep(self.keep_alive_s)
        waiting, sent = [], 0
        while True:
            waiting += self.read_request(source)
            if self.silent or len(waiting) < min(self.shuffle, self.left(sent)):
                continue
            self.random.shuffle(waiting)
            for piece, begin, length in waiting:
                self.send_block(caller, piece, begin, length)
                sent += 1
                if self.leave_after and sent == self.leave_after:
                    return self.part(caller, source)
            waiting = []
            if self.choke_every and sent % self.choke_every == 0:
                self.chokes += 1
                caller.sendall(message(CHOKE) + message(UNCHOKE))

    def part(self, caller, source):
        pass  # what it has not read yet may cost what it has sent

    def left(self, sent):
        return max(1, -(-len(self.data) // (16 << 10)) - sent)

    @staticmethod
    def read_request(source):
        head = source.read(4)
        if len(head) < 4:
            raise EOFError
        body = source.read(struct.unpack('>I', head)[0])
        return [struct.unpack('>III', body[1:])] if body[:1] == bytes([REQUEST]) else []

    def send_block(self, caller, piece, begin, length):
        time.sleep(self.pause_s)
        at = piece * self.content.piece_bytes + begin
        data = self.data[at:at + length]
        if self.corrupt and self.corrupt(piece, begin):
            data = bytes([data[0] ^ 1]) + data[1:]
        caller.sendall(message(PIECE, struct.pack('>II', piece, begin) + data))
        self.blocks_sent += 1
