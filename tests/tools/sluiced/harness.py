"""What the end-to-end tests of sluiced share: the server as a child, a raw client, checks.

A case is a function with @case; it takes a Bench, which gives it servers and a folder of its own.
A failed check says which one, with the request and the answer.
"""

import contextlib
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / 'support'))
from case_runner import WAIT_S, Failed, Skipped, case, wait_until  # noqa: E402,F401


def shown(data, most=600):
    text = repr(data if len(data) <= most else data[:most])
    return text if len(data) <= most else f'{text}... ({len(data)} bytes)'


def check(condition, what, request=b'', answer=None):
    if condition:
        return
    lines = [what]
    if request:
        lines.append(f'  request: {shown(request)}')
    if answer is not None:
        lines.append(f'  answer:  {answer}')
    raise Failed('\n'.join(lines))


def content(size, seed=1):
    """The same bytes for the same seed, and no two blocks alike."""
    return random.Random(seed * 1_000_003 + size).randbytes(size)


class Answer:
    """One parsed answer. Field names are lower case."""

    def __init__(self, head, body):
        lines = head.decode('latin-1').split('\r\n')
        self.version, status, self.reason = lines[0].split(' ', 2)
        self.status = int(status)
        self.fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(':')
            self.fields[name.lower()] = value.strip()
        self.body = body
        self.trailers = {}

    def __str__(self):
        return f'{self.status} {self.reason} {self.fields} {shown(self.body, 200)}'


class Connection:
    """A raw connection: every byte that is sent is the test's own."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(WAIT_S)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(('127.0.0.1', port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b''
        self.sent = b''

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.socket.close()

    def end_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.sent += data[:2000]
        self.socket.sendall(data)
        return self

    def _more(self, what):
        try:
            data = self.socket.recv(1 << 18)
        except (TimeoutError, ConnectionError) as problem:
            raise Failed(f'{what}: {problem!r}\n  request: {shown(self.sent)}\n'
                         f'  received so far: {shown(self.received)}') from problem
        if not data:
            raise Failed(f'{what}: the connection ended\n  request: {shown(self.sent)}\n'
                         f'  received so far: {shown(self.received)}')
        self.received += data

    def answer(self, to_head=False):
        """The next answer; `to_head`: it answers HEAD and has no body."""
        while b'\r\n\r\n' not in self.received:
            self._more('no whole answer')
        head, _, self.received = self.received.partition(b'\r\n\r\n')
        parsed = Answer(head, b'')
        no_body = to_head or parsed.status in (100, 204, 304)
        if not no_body and parsed.fields.get('transfer-encoding') == 'chunked':
            self._take_chunks(parsed)
            return parsed
        length = 0 if no_body else int(parsed.fields.get('content-length', '0'))
        while len(self.received) < length:
            self._more('the body of the answer is incomplete')
        parsed.body, self.received = self.received[:length], self.received[length:]
        return parsed

    def _line(self):
        while b'\r\n' not in self.received:
            self._more('a line of a chunked body is incomplete')
        line, _, self.received = self.received.partition(b'\r\n')
        return line.decode('latin-1')

    def _take_chunks(self, parsed):
        while length := int(self._line(), 16):
            while len(self.received) < length:
                self._more('a chunk is incomplete')
            parsed.body += self.received[:length]
            self.received = self.received[length:]
            check(self._line() == '', 'a chunk ends where it says', self.sent, parsed)
        while line := self._line():
            name, _, value = line.partition(':')
            parsed.trailers[name.lower()] = value.strip()

    def expect(self, status, what='', to_head=False):
        got = self.answer(to_head)
        check(got.status == status, f'{what or "status"}: expected {status}', self.sent, got)
        return got

    def check_ended(self, what='the server closes the connection'):
        """An end of stream or a reset, and no byte before it."""
        try:
            data = self.received or self.socket.recv(4096)
        except ConnectionError:
            return
        except TimeoutError:
            raise Failed(f'{what}: it stays open\n  request: {shown(self.sent)}') from None
        check(data == b'', f'{what}: bytes come instead: {shown(data)}', self.sent)

    def check_silent(self, seconds, what):
        ready, _, _ = select.select([self.socket], [], [], seconds)
        check(not ready and not self.received, what, self.sent)


def request(method, path, fields=(), body=b'', version='1.1'):
    """The bytes of a request; Host is added, Content-Length for a body too."""
    lines = [f'{method} {path} HTTP/{version}', 'Host: test', *fields]
    names = {line.split(':')[0].lower() for line in fields}
    if (body or method == 'PUT') and not names & {'content-length', 'transfer-encoding'}:
        lines.append(f'Content-Length: {len(body)}')
    return '\r\n'.join(lines).encode('latin-1') + b'\r\n\r\n' + body


def chunked(body, sizes):
    """The chunked coding of `body`, in chunks of these sizes in turn."""
    coded, at, turn = [], 0, 0
    while at < len(body):
        piece = body[at:at + sizes[turn % len(sizes)]]
        coded.append(b'%x\r\n%s\r\n' % (len(piece), piece))
        at, turn = at + len(piece), turn + 1
    return b''.join(coded) + b'0\r\n\r\n'


class Server:
    """A sluiced of its own over a folder of its own."""

    def __init__(self, program, root, settings, user=None, engines=1, limits=None, log=None,
                 control=None):
        self.root = pathlib.Path(root)
        arguments = [program, '--root', str(root), '--listen', '127.0.0.1:0',
                     '--engines', str(engines)]
        for setting in settings:
            arguments += ['--set', setting]
        if control:
            arguments += ['--control', str(control)]
        as_user = {'user': user, 'group': user, 'extra_groups': []} if user else {}

        def lower_limits():
            for which, value in (limits or {}).items():
                resource.setrlimit(which, (value, value))
        self.log = open(log, 'wb') if log else tempfile.TemporaryFile()
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self.log,
                                        preexec_fn=lower_limits, **as_user)
        line = self.process.stdout.readline().decode().strip()
        if not line.startswith('listening on 127.0.0.1:'):
            self.process.kill()
            self.process.wait()
            raise Failed(f'the server does not start: {line!r} {self.messages()}')
        self.port = int(line.rpartition(':')[2])

    def messages(self):
        if not self.log.readable():
            return ''
        self.log.seek(0)
        return self.log.read().decode(errors='replace')

    def connect(self, **options):
        return Connection(self.port, **options)

    def url(self, path):
        return f'http://127.0.0.1:{self.port}{path}'

    def ask(self, *parts, **named):
        """One request on a connection of its own."""
        with self.connect() as c:
            c.send(request(*parts, **named))
            return c.answer(to_head=parts[0] == 'HEAD')

    def ask_for(self, status, *parts, **named):
        got = self.ask(*parts, **named)
        check(got.status == status, f'expected {status}', request(*parts, **named), got)
        return got

    def metrics(self):
        page = self.ask_for(200, 'GET', '/.sluice/metrics').body.decode()
        rows = [line.rpartition(' ') for line in page.splitlines() if not line.startswith('#')]
        values = {}
        for name, _, value in rows:
            short = name.partition('{')[0]
            values[short] = values.get(short, 0) + int(value)
        return values

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))

    def descriptors_at_rest(self):
        """How many are open when nobody asks anything and everything was used once."""
        wait_until(lambda: self.metrics()['sluice_http_connections_open'] == 1, 'alone')
        counts = [self.descriptors()]
        while len(counts) < 5 or len(set(counts[-5:])) > 1:
            time.sleep(0.01)
            counts.append(self.descriptors())
        return counts[-1]

    def names(self):
        """Every name beneath the root, the hidden ones too."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob('*'))

    def check_quiet(self, descriptors, what):
        """Nothing is left of what ran: no lease, no connection, no descriptor."""
        def quiet():
            values = self.metrics()
            left = (values['sluice_memory_leases_in_use'], values['sluice_http_connections_open'])
            return left == (0, 1) or left
        wait_until(quiet, f'{what}: no lease in use, no other connection open')
        wait_until(lambda: self.descriptors() == descriptors or self.descriptors(),
                   f'{what}: descriptors are back at {descriptors}')

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait_for_exit(self, status=0, seconds=WAIT_S, what='exit'):
        try:
            got = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f'{what}: still running after {seconds} s') from None
        check(got == status, f'{what}: expected status {status}, got {got}: {self.messages()}')

    def stop(self):
        if self.process.poll() is None:
            self.signal()
            self.wait_for_exit(what='exit after SIGTERM')
        self.process.stdout.close()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def set_knob(control, name, value):
    """Sets a live knob of the server with this control socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(WAIT_S)
        s.connect(str(control))
        s.sendall(f'set {name} {value}\n'.encode())
        check(s.recv(1000).decode().startswith(f'{name} = {value}'), f'{name} is set')


class Bench:
    """Makes servers for one case, and cleans up behind it."""

    def __init__(self, program, backend, folder, shared):
        self.program, self.backend, self.folder = program, backend, pathlib.Path(folder)
        self.shared = shared  # a server with default settings, for cases that need nothing else
        self.cleanup = contextlib.ExitStack()

    def new_folder(self):
        path = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        path.chmod(0o755)
        return path

    def serve(self, *settings, root=None, **options):
        root = root or self.new_folder()
        server = Server(self.program, root, [f'sluice.backend={self.backend}', *settings],
                        **options)
        self.cleanup.callback(server.kill)
        return server

    def file(self, data):
        path = self.new_folder() / 'data'
        path.write_bytes(data)
        return path

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)


def curl(*arguments):
    """Runs curl; yields its output and its exit status."""
    done = subprocess.run(['curl', '-sS', '--max-time', '60', *map(str, arguments)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return done.stdout, done.returncode, done.stderr.decode(errors='replace')
