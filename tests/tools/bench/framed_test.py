#!/usr/bin/env python3
"""Every receiver of the case framed takes the same wire, however it is cut, and refuses others.

  framed_test.py RECV_FRAMED RECV_FRAMED_MULTISHOT [SLUICE_BENCH]
"""

import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

WAIT_S = 60
DATA = random.Random(6).randbytes(256 << 10)
MASK = (1 << 64) - 1

failures = []


def check(fine, what):
    if not fine:
        failures.append(what)
        print(f'FAILED: {what}')


def head(payload_bytes, offset, kind=7):
    return struct.pack('>IBII', payload_bytes + 9, kind, offset >> 20, offset & 0xfffff)


def frames(payload_bytes):
    return b''.join(head(payload_bytes, at) + DATA[at:at + payload_bytes]
                    for at in range(0, len(DATA), payload_bytes))


def check_sum(data):
    total = 0
    for at in range(0, len(data), 8):
        mixed = (struct.unpack_from('<Q', data, at)[0] ^ at) * 0x9e3779b97f4a7c15 & MASK
        total += (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9
    return total & MASK


class Receiver:
    def __init__(self, command, place, *options):
        self.process = subprocess.Popen(
            [*command, '--listen', '127.0.0.1:0', '--dir', str(place), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.line = self.process.stdout.readline()
        listens = self.line.startswith('listening on ')
        self.port = int(self.line.rsplit(':', 1)[1]) if listens else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def ask(self, pieces, ends=False):
        """The three numbers of the answer, or fewer bytes as they came."""
        with socket.create_connection(('127.0.0.1', self.port), timeout=WAIT_S) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = b''
            try:
                for piece in pieces:
                    peer.sendall(piece)
                if ends:
                    peer.shutdown(socket.SHUT_WR)
                while len(answer) < 24:
                    got = peer.recv(24 - len(answer))
                    if not got:
                        break
                    answer += got
            except ConnectionError:  # it gave up before it had everything
                pass
            return struct.unpack('<QQQ', answer) if len(answer) == 24 else answer

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WAIT_S)


def cut(stream, seed):
    """The beginning byte by byte, the rest in pieces of any length."""
    dice = random.Random(seed)
    pieces = [stream[at:at + 1] for at in range(60)]
    at = 60
    while at < len(stream):
        step = dice.choice([1, 13, 1000, 40_000])
        pieces.append(stream[at:at + step])
        at += step
    return pieces


def test_streams(command, place, mode):
    what = f'{pathlib.Path(command[0]).name} {" ".join(command[1:])} {mode}'
    with Receiver(command, place, '--mode', mode, '--check') as to:
        if to.port is None:
            reason = to.process.stderr.read()
            known = ('io_uring', 'bundle') if '--bundles' in command else ('io_uring',)
            check(any(word in reason for word in known), f'{what}: {reason}')
            if '--bundles' in command:  # so that the bench can say it in the row
                check(to.line.startswith('cannot: '), f'{what}: {to.line}')
            print(f'{what}: left out, {reason.strip()}')
            return
        for number, payload_bytes in enumerate((1024, 16 << 10, 256 << 10)):
            stream = struct.pack('<Q', len(DATA)) + frames(payload_bytes)
            answer = to.ask(cut(stream, number))
            check(len(answer) == 3 and answer[0] == ord('k') and answer[1] > 0 and
                  (mode != 'discard' or answer[2] == check_sum(DATA)),
                  f'{what}: {payload_bytes}: {answer}')
            if mode != 'discard':
                check((place / f'obj-{number}-0').read_bytes() == DATA,
                      f'{what}: {payload_bytes}: the stored bytes')
        test_refusals(to, what)
        check(to.stop() == 0, f'{what}: exit 0 on SIGTERM')


def test_refusals(to, what):
    length = struct.pack('<Q', len(DATA))
    good = head(1024, 0) + DATA[:1024]
    for name, stream in (('another kind', good + head(1024, 1024, kind=8)),
                         ('a wrong place', good + head(1024, 4096) + DATA[:1024]),
                         ('a length below 9', good + b'\0\0\0\5\7' + bytes(8)),
                         ('a length over the limit', good + head((1 << 20) + 1, 1024))):
        answer = to.ask([length + stream + bytes(len(DATA))])
        check(answer == b'' or answer[0] == ord('e'), f'{what}: {name}: {answer}')
    answer = to.ask([length + good[:-1]], ends=True)
    check(answer == b'' or answer[0] == ord('e'), f'{what}: the end inside a frame: {answer}')


def main():
    framed, multishot, *bench = sys.argv[1:]
    commands = [[framed, '--way', way, *threads] for way in ('contiguous', 'two_calls', 'readv')
                for threads in ([], ['--threads'])]
    commands += [[multishot], [multishot, '--bundles'],
                 [multishot, '--bundles', '--buffers', '1024']]
    for program in bench:
        commands += [[program, 'serve', '--set', f'sluice.frames.mode={mode}',
                      '--set', f'sluice.backend={backend}']
                     for mode in ('auto', 'scatter', 'contiguous', 'two_step')
                     for backend in ('auto', 'pool')]
        commands += [[program, 'serve', '--set', 'sluice.frames.mode=multishot',
                      '--set', f'sluice.frames.bundles={bundles}'] for bundles in ('off', 'on')]
    top = pathlib.Path(tempfile.mkdtemp(prefix='bench-framed-', dir='.')).resolve()
    try:
        for number, command in enumerate([*commands, [framed, '--way', 'mapped']]):
            for mode in ('discard', 'store'):
                if mode == 'discard' and 'mapped' in command:
                    continue
                place = top / f'{number}-{mode}'
                place.mkdir()
                test_streams(command, place, mode)
    finally:
        shutil.rmtree(top)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
