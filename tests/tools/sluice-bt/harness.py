"""What the tests of sluice-bt with real peers share: content, libtorrent, the program."""

import contextlib
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / 'support'))
from case_runner import WAIT_S, Failed, Skipped, case, wait_until  # noqa: E402,F401

LARGE_CASES = []


def large_case(function):
    LARGE_CASES.append(function)
    return function


def import_libtorrent():
    """Debian's package serves Debian's python, which need not be the first one of the PATH."""
    try:
        import libtorrent
        return libtorrent
    except ImportError:
        pass
    python = '/usr/bin/python3'
    if os.environ.get('SLUICE_BT_PYTHON') != python and os.path.exists(python):
        os.environ['SLUICE_BT_PYTHON'] = python
        os.execv(python, [python, *sys.argv])
    print('skipped: no libtorrent for python here (python3-libtorrent)')
    sys.exit(77)


lt = import_libtorrent()
V1_ONLY = 1 << 6  # of create_torrent's flags; its python names leave it out


def check(condition, what):
    if not condition:
        raise Failed(what)


def write_content(path, size, seed):
    """The same bytes for the same seed, and no two blocks alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)
    with open(path, 'wb') as out:
        while size > 0:
            part = source.randbytes(min(size, 1 << 20))
            out.write(part)
            size -= len(part)


def digests(folder):
    """Of every file beneath it, by relative path."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob('*')):
        if path.is_file():
            with open(path, 'rb') as content:
                found[str(path.relative_to(folder))] = hashlib.file_digest(
                    content, 'sha256').hexdigest()
    return found


class Content:
    """Files in a folder of their own, and a .torrent of them made by libtorrent.

    zeroes: where they begin and end in a single file
    hybrid: of versions 1 and 2, with pad files
    """

    def __init__(self, folder, name, files, piece_bytes, zeroes=None, hybrid=False):
        self.root = pathlib.Path(folder)
        self.name = name
        for seed, (path, size) in enumerate(files.items()):
            write_content(self.root / name / path if path else self.root / name, size, seed)
        if zeroes:
            with open(self.root / name, 'r+b') as single:
                single.seek(zeroes[0])
                single.write(bytes(zeroes[1] - zeroes[0]))
        storage = lt.file_storage()
        for path in sorted(files):
            storage.add_file(f'{name}/{path}' if path else name, files[path])
        made = lt.create_torrent(storage, piece_bytes, 0 if hybrid else V1_ONLY)
        lt.set_piece_hashes(made, str(self.root))
        self.torrent = self.root.parent / f'{name}.torrent'
        self.torrent.write_bytes(lt.bencode(made.generate()))
        self.bytes = sum(files.values())
        self.piece_bytes = piece_bytes

    def info_hash(self):
        return lt.torrent_info(str(self.torrent)).info_hash().to_bytes()

    def check_copy(self, folder, what):
        wanted, got = digests(self.root), digests(folder)
        missing = {path: size for path, size in wanted.items() if got.get(path) != size}
        check(not missing,
              f'{what}: {sorted(missing)} are not as they were; {sorted(got)} are there')


class LibtorrentPeer:
    """A session of libtorrent on loopback that talks to nobody it is not told of."""

    def __init__(self, content, folder, seeds, torrent=None):
        self.session = lt.session({
            'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
            'enable_upnp': False, 'enable_natpmp': False, 'allow_multiple_connections_per_ip': True,
            'enable_incoming_utp': False, 'enable_outgoing_utp': False,
            'out_enc_policy': int(lt.enc_policy.disabled),
            'in_enc_policy': int(lt.enc_policy.disabled),
            'min_reconnect_time': 1, 'upload_rate_limit': 0,
            'alert_mask': lt.alert.category_t.error_notification
            | lt.alert.category_t.peer_notification})
        wanted = lt.add_torrent_params()
        wanted.ti = lt.torrent_info(str(torrent or content.torrent))
        wanted.save_path = str(folder)
        wanted.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
        if seeds:
            wanted.flags |= lt.torrent_flags.seed_mode
        self.handle = self.session.add_torrent(wanted)
        wait_until(lambda: self.session.listen_port() > 0, 'libtorrent listens')
        self.port = self.session.listen_port()

    def limit_upload(self, bytes_per_second):
        self.handle.set_upload_limit(bytes_per_second)

    def connect(self, port):
        self.handle.connect_peer(('127.0.0.1', port))

    def wait_for_all(self, seconds=WAIT_S):
        wait_until(lambda: self.handle.status().is_seeding,
                   f'libtorrent has all: {self.handle.status().progress}', seconds)

    def alerts(self):
        return [f'{a}' for a in self.session.pop_alerts()]

    def close(self):
        self.session.remove_torrent(self.handle)
        self.session.pause()


class Bench:
    fault_fs = None  # the program of a filesystem that fails on order
    large_bytes = large_runs = large_piece_bytes = 0  # for the large cases

    def __init__(self, program, backend, folder):
        self.program, self.backend, self.folder = program, backend, pathlib.Path(folder)
        self.cleanup = contextlib.ExitStack()
        self.count = 0

    def new_folder(self):
        self.count += 1
        path = self.folder / f'{self.count}'
        path.mkdir()
        return path

    def content(self, name='data', files=None, piece_bytes=256 << 10, **more):
        folder = self.new_folder() / 'content'
        folder.mkdir()
        return Content(folder, name, files or {'': 24 << 20}, piece_bytes, **more)

    def peer(self, *arguments, **named):
        made = LibtorrentPeer(*arguments, **named)
        self.cleanup.callback(made.close)
        return made

    def settings(self, more):
        words = []
        for setting in (f'sluice.backend={self.backend}', *more):
            words += ['--set', setting]
        return words

    def start(self, *arguments, settings=(), sets=True, **options):
        words = [self.program, *arguments, *(self.settings(settings) if sets else [])]
        return self.child(words, **options)

    def child(self, words, **options):
        options.setdefault('stderr', subprocess.PIPE)
        child = subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, text=True, **options)
        self.cleanup.callback(lambda: child.poll() is None and child.kill())
        return child

    def remove(self, folder):
        shutil.rmtree(folder, ignore_errors=True)

    def finish(self, child, status=0, seconds=WAIT_S):
        """What it said, both streams."""
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise Failed(f'still running after {seconds} s: {out} {err}') from None
        check(child.returncode == status,
              f'expected status {status}, got {child.returncode}: {out} {err}')
        return out + err

    def run(self, *arguments, status=0, seconds=WAIT_S, settings=(), sets=True):
        return self.finish(self.start(*arguments, settings=settings, sets=sets), status, seconds)

    def get(self, content, out, ports, *more, status=0, seconds=WAIT_S, settings=()):
        peers = [word for port in ports for word in ('--peer', f'127.0.0.1:{port}')]
        return self.run('get', content.torrent, *peers, '--out', out, *more, status=status,
                        seconds=seconds, settings=settings)

    def seed(self, content, *more, data=None, settings=()):
        """The child, and the port where it listens."""
        child = self.start('seed', content.torrent, '--data', data or content.root, '--listen',
                           '127.0.0.1:0', *more, settings=settings)
        line = child.stdout.readline()
        if not line.startswith('listening on 127.0.0.1:'):
            raise Failed(f'it does not seed: {line!r} {child.communicate()}')
        return child, int(line.rpartition(':')[2])

    def end(self, child):
        child.send_signal(signal.SIGTERM)
        return self.finish(child)


def number(pattern, text):
    """The number that the pattern's group matches in what the program said."""
    found = re.search(pattern, text)
    check(found, f'{pattern} is not in {text!r}')
    return float(found[1])
