#!/usr/bin/env python3
"""Every peer of sluice-bench moves bytes unchanged, on a disk and on tmpfs, and ends on SIGTERM.

  peers_test.py PEER...    executables; those named send_* send, the others receive
"""

import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

WAIT_S = 120  # a shared machine may be slow; a peer that hangs is still found
SIZES = [0, 1, 4095, 4096, (256 << 10) + 1, 5 << 20]
CONNECTIONS = 4
DATA = random.Random(3).randbytes(max(SIZES) + 7 * CONNECTIONS)

failures = []


def check(fine, what):
    if not fine:
        failures.append(what)
        print(f'FAILED: {what}')


class Peer:
    """A peer as a child; None as its port when it refused to start."""

    def __init__(self, program, place, *options):
        self.command = [program, '--listen', '127.0.0.1:0', '--dir', str(place), *options]
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(':', 1)[1]) if line.startswith('listening on ') else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def connect(self):
        made = socket.create_connection(('127.0.0.1', self.port), timeout=WAIT_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WAIT_S)


def payload(connection, size):
    """Another piece of the data for each connection, so that a mix-up shows."""
    return DATA[7 * connection:7 * connection + size]


def receive_exactly(peer, count):
    pieces = []
    while count > 0:
        piece = peer.recv(min(count, 1 << 20))
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b''.join(pieces)


def on_connections(work):
    """work(connection number) on as many threads as there are connections."""
    def guarded(number):
        try:
            work(number)
        except Exception as error:  # a thread's failure must not pass for success
            check(False, f'connection {number}: {error!r}')
    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def upload_all(peer, what):
    def upload(number):
        with peer.connect() as stream:
            for index, size in enumerate(SIZES):
                data = payload(number, size)
                # One head comes byte by byte, the others in one piece with their payload.
                head = struct.pack('<Q', size)
                if index == 1:
                    for at in range(8):
                        stream.sendall(head[at:at + 1])
                    head = b''
                stream.sendall(head + data)
                check(stream.recv(1) == b'k', f'{what}: object of {size} bytes acknowledged')
    on_connections(upload)


def check_stored(place, what):
    """The peer numbers connections as it accepts them, so each file is matched by what it holds."""
    names = sorted(path.name for path in place.iterdir())
    expected = [f'obj-{c}-{n}' for c in range(CONNECTIONS) for n in range(len(SIZES))]
    check(names == sorted(expected), f'{what}: files {names}')
    for index, size in enumerate(SIZES):
        stored = sorted((place / f'obj-{c}-{index}').read_bytes() for c in range(CONNECTIONS)
                        if (place / f'obj-{c}-{index}').exists())
        wanted = sorted(payload(c, size) for c in range(CONNECTIONS))
        check(stored == wanted, f'{what}: the bytes of the objects of {size} bytes')


def check_no_direct(peer, what):
    """The one reason for a peer not to start."""
    reason = peer.process.stderr.read()
    check(peer.process.wait() == 2 and 'no O_DIRECT' in reason, f'{what}: {reason}')
    print(f'{what}: left out, {reason.strip()}')


def test_receive(program, place, options):
    what = f'{pathlib.Path(program).name} {" ".join(options)} in {place.parent.name}'
    with Peer(program, place, *options) as peer:
        if peer.port is None:
            check_no_direct(peer, what)
            return
        upload_all(peer, what)
        check_stored(place, what)
        check(peer.stop() == 0, f'{what}: exit 0 on SIGTERM')


def test_pipelined(program, place):
    """Two objects in one segment, the second cut: the first is kept, nothing of the second."""
    what = f'{pathlib.Path(program).name}: two objects at once'
    with Peer(program, place, '--mode', 'receive') as peer:
        if peer.port is None:
            return
        with peer.connect() as stream:
            stream.sendall(struct.pack('<Q', 3) + b'abc' + struct.pack('<Q', 6) + b'def')
            check(stream.recv(1) == b'k', f'{what}: the first is acknowledged')
            stream.shutdown(socket.SHUT_WR)
            stream.recv(1)  # 'e' or the end
            while stream.recv(1):
                pass
        check(peer.stop() == 0, f'{what}: exit 0 on SIGTERM')
        check([(p.name, p.read_bytes()) for p in place.iterdir()] == [('obj-0-0', b'abc')],
              f'{what}: {sorted(place.iterdir())}')


def test_failing_file(program, place):
    what = f'{pathlib.Path(program).name}: its directory is gone'
    with Peer(program, place, '--mode', 'receive') as peer:
        if peer.port is None:
            return
        place.rmdir()
        with peer.connect() as stream:
            stream.sendall(struct.pack('<Q', 3) + b'abc')
            check(stream.recv(2) == b'e', f'{what}: answered e')
        check(peer.stop() == 0, f'{what}: exit 0 on SIGTERM')


def test_send(program, place, options):
    what = f'{pathlib.Path(program).name} {" ".join(options)} in {place.parent.name}'
    (place / 'source').write_bytes(DATA)
    with Peer(program, place, '--mode', 'send', *options) as peer:
        if peer.port is None:
            check_no_direct(peer, what)
            return

        def fetch(number):
            with peer.connect() as stream:
                for size in SIZES[number % 2:]:
                    stream.sendall(struct.pack('<Q', size))
                    same = receive_exactly(stream, size) == DATA[:size]
                    check(same, f'{what}: {size} bytes')
        on_connections(fetch)
        with peer.connect() as stream:
            stream.sendall(struct.pack('<Q', len(DATA) + 1))
            check(receive_exactly(stream, len(DATA) + 1) == DATA,
                  f'{what}: more than there is ends the connection')
        check(peer.stop() == 0, f'{what}: exit 0 on SIGTERM')


def test_refusals(program, place):
    sends = pathlib.Path(program).name.startswith('send_')
    mode = 'send' if sends else 'receive'
    for options in (['--mode', mode, '--colour', 'red'], ['--mode', 'receive' if sends else 'send'],
                    ['--mode', mode, '--block', 'x'], ['--mode', mode, '--depth'],
                    ['--mode', mode, '--dir', ''], ['--mode', mode, '--listen', 'nowhere:0']):
        done = subprocess.run([program, '--listen', '127.0.0.1:0', '--dir', str(place), *options],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=WAIT_S, check=False)
        check(done.returncode == 2 and done.stdout == '' and done.stderr.count('\n') == 1,
              f'{program} {options}: {done.returncode} {done.stdout!r} {done.stderr!r}')


class Places:
    """Empty folders on the storage at hand: the build's filesystem and tmpfs."""

    def __init__(self):
        self.tops = {'disk': tempfile.mkdtemp(prefix='bench-peers-', dir='.')}
        if os.access('/dev/shm', os.W_OK):
            self.tops['tmpfs'] = tempfile.mkdtemp(prefix='bench-peers-', dir='/dev/shm')

    def fresh(self, kind):
        top = pathlib.Path(self.tops[kind]) / kind
        shutil.rmtree(top, ignore_errors=True)
        (top / 'd').mkdir(parents=True)
        return top / 'd'

    def remove(self):
        for top in self.tops.values():
            shutil.rmtree(top, ignore_errors=True)


def main():
    places = Places()
    try:
        for program in sys.argv[1:]:
            test_refusals(program, places.fresh('disk'))
            for kind in places.tops:
                if pathlib.Path(program).name.startswith('send_'):
                    test_send(program, places.fresh(kind), [])
                else:
                    test_receive(program, places.fresh(kind), ['--mode', 'receive'])
            if pathlib.Path(program).name.startswith('send_'):
                test_send(program, places.fresh('disk'), ['--block', '4096', '--depth', '4'])
                continue
            for options in (['--mode', 'durable', '--block', '8192'],
                            ['--mode', 'receive', '--sync', '--depth', '8']):
                test_receive(program, places.fresh('disk'), options)
            test_pipelined(program, places.fresh('disk'))
            test_failing_file(program, places.fresh('disk'))
    finally:
        places.remove()
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
