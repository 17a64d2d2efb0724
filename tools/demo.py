#!/usr/bin/env python3
"""Builds sluice and shows its main job on real data, beside the program people write first.

  tools/demo [--bytes N[K|M|G]] [--runs N] [--dir DIRECTORY] [--build FOLDER]

Makes random data, starts sluiced on each backend, uploads and downloads with curl, compares
checksums, prints the receipts; then uploads in turn to sluiced and to a plain recv+write server
and prints throughput and CPU of both, and what fio writes by O_DIRECT at the same block size and
depth. --build takes a folder that is built already (the tests do).
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
TICKS = os.sysconf('SC_CLK_TCK')
GIB = 1 << 30
MIB = 1 << 20


def parse_bytes(text):
    found = re.fullmatch(r'(\d+)([KMG]?)', text.upper())
    if not found or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no size: a number with K, M or G behind it')
    return int(found[1]) * {'': 1, 'K': 1 << 10, 'M': MIB, 'G': GIB}[found[2]]


def arguments():
    parser = argparse.ArgumentParser('tools/demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bytes', type=parse_bytes, default=GIB, help='size of the upload (1G)')
    parser.add_argument('--runs', type=int, default=5, help='counted uploads to each server (5)')
    parser.add_argument('--dir', help='where the files go (a new folder in the build folder)')
    parser.add_argument('--build', help='a folder that is built already')
    return parser.parse_args()


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def build():
    if subprocess.run([TOP / 'tools/setup'], check=False).returncode != 0:
        sys.exit('tools/demo: the set-up failed')
    folder = TOP / 'build'
    env = dict(os.environ)
    if shutil.which('ccache') and 'CXX' not in env:
        env['CXX'] = 'ccache g++'
    if (folder / 'build.ninja').exists():
        configure = ['meson', 'configure', '-Dbuildtype=release', folder]
    else:
        configure = ['meson', 'setup', '--buildtype=release', folder, TOP]
    print('building (release) ...', flush=True)
    for command in (configure, ['ninja', '-C', folder, 'sluiced', 'plain_put', 'sluicectl']):
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            sys.exit(done.stdout + '\ntools/demo: the build failed: see above')
    return folder


def make_data(path, count):
    """Random bytes, so that no compression or hole flatters a figure; returns their checksum."""
    digest = hashlib.sha256()
    with open(path, 'wb') as data:
        left = count
        while left > 0:
            piece = os.urandom(min(left, MIB))
            data.write(piece)
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def checksum(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as data:
        while piece := data.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


class CannotStart(Exception):
    """A server ended before it listened, with a message of its own."""


class Server:
    """A server process that prints `listening on ADDR:PORT`."""

    running = []

    def __init__(self, *command):
        begun = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        Server.running.append(self.process)
        line = self.process.stdout.readline()
        self.start_ms = (time.monotonic() - begun) * 1000
        if not line.startswith('listening on '):
            raise CannotStart(command[0])
        self.url = 'http://' + line.split()[-1]

    def cpu_seconds(self):
        """User and system time, the kernel's worker threads of the process included."""
        stat = pathlib.Path(f'/proc/{self.process.pid}/stat').read_text()
        fields = stat.rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def machine_busy_seconds():
    fields = [int(f) for f in pathlib.Path('/proc/stat').read_text().split('\n')[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def curl_upload(server, data, name):
    """One PUT; returns seconds, status line and receipt."""
    answer = run('curl', '-sS', '-i', '-H', 'Expect: 100-continue', '-T', str(data), '-w',
                 '\n%{http_code} %{time_total}', f'{server.url}/{name}',
                 stdout=subprocess.PIPE, text=True).stdout
    code, seconds = answer.rstrip().split('\n')[-1].split()
    if code not in ('201', '204'):
        sys.exit(f'the upload was answered {code}:\n{answer}')
    receipts = [l.split(': ', 1)[1] for l in answer.splitlines() if l.startswith('Sluice-Receipt')]
    return float(seconds), code, receipts[0] if receipts else ''


def filesystem_of(path):
    shown = run('stat', '-f', '-c', '%T', str(path), stdout=subprocess.PIPE, text=True).stdout
    return shown.strip().replace('ext2/ext3', 'ext4')


def show_main_job(tools, data, digest, count, root, backend):
    try:
        server = Server(str(tools / 'sluiced'), '--root', str(root), '--listen', '127.0.0.1:0',
                        '--set', f'sluice.backend={backend}')
    except CannotStart:
        if backend != 'ring':
            raise
        print(f'{filesystem_of(root):6} ring: left out, this system refuses io_uring (see above)')
        return True
    seconds, code, receipt = curl_upload(server, data, 'demo.bin')
    back = root / 'downloaded'
    begun = time.monotonic()
    run('curl', '-sS', '-f', '-o', str(back), f'{server.url}/demo.bin')
    down = time.monotonic() - begun
    same = checksum(back) == digest and checksum(root / 'demo.bin') == digest
    back.unlink()
    status = server.stop()
    print(f'{filesystem_of(root):6} {backend}: listening after {server.start_ms:.0f} ms; '
          f'PUT {code}, {count / MIB / seconds:.0f} MiB/s; GET {count / MIB / down:.0f} MiB/s; '
          f'checksums {"equal" if same else "DIFFER"}; exit {status}')
    print(f'       {receipt}')
    (root / 'demo.bin').unlink()
    return same and status == 0


def measured_upload(server, data, count, root):
    """Into a new file: to replace one would charge freeing what the other server had cached."""
    cpu, busy = server.cpu_seconds(), machine_busy_seconds()
    seconds, _, _ = curl_upload(server, data, 'compared.bin')
    figures = {'rate': count / MIB / seconds, 'cpu': (server.cpu_seconds() - cpu) * GIB / count,
               'busy': (machine_busy_seconds() - busy) * GIB / count}
    (root / 'compared.bin').unlink()
    return figures


def fio_rate(directory, count):
    """MiB/s that fio writes by O_DIRECT, 512 KiB x 16 in flight, fdatasync at the end; None where
    there is no fio, no O_DIRECT or no io_uring."""
    if not shutil.which('fio'):
        return None
    done = subprocess.run(
        ['fio', '--name=limit', f'--directory={directory}', '--rw=write', '--direct=1',
         '--bs=512k', '--iodepth=16', '--ioengine=io_uring', f'--size={count}',
         '--fallocate=posix', '--end_fsync=1', '--unlink=1', '--output-format=json'],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if done.returncode != 0:
        return None
    job = json.loads(done.stdout)['jobs'][0]
    return count / MIB / (job['job_runtime'] / 1000) if job['job_runtime'] else None


def compare(tools, data, count, root, runs):
    print(f'\nthe same upload to sluiced and to a plain recv 256 KiB + write loop, in turn, '
          f'{runs} runs each, durable before the answer:')
    ours = Server(str(tools / 'sluiced'), '--root', str(root), '--listen', '127.0.0.1:0')
    plain = Server(str(tools / 'plain_put'), str(root))
    seen = {'sluiced': [], 'plain loop': [], 'fio': []}
    for turn in range(runs + 1):  # the first pair warms memory and is not counted
        pair = [('sluiced', ours), ('plain loop', plain)]
        for label, server in pair if turn % 2 == 0 else reversed(pair):
            figures = measured_upload(server, data, count, root)
            if turn > 0:
                seen[label].append(figures)
        rate = fio_rate(root, count)
        if rate and turn > 0:
            seen['fio'].append({'rate': rate})
    ours.stop()
    plain.process.kill()
    median = {label: {key: statistics.median(f[key] for f in figures) for key in figures[0]}
              for label, figures in seen.items() if figures}
    print(f'{"":12}{"MiB/s":>8}{"CPU s/GiB":>12}{"whole machine, curl too":>26}')
    for label in ('sluiced', 'plain loop'):
        m = median[label]
        print(f'{label:12}{m["rate"]:8.0f}{m["cpu"]:12.2f}{m["busy"]:26.2f}')
    if 'fio' in median:
        print(f'{"fio O_DIRECT":12}{median["fio"]["rate"]:8.0f}'
              '               512 KiB x 16 in flight, no network')
    a, b = median['sluiced'], median['plain loop']
    print(f'sluiced: {a["rate"] / b["rate"]:.1f} times the throughput'
          # Of small sizes the clock ticks tell nothing.
          + (f', {a["cpu"] / b["cpu"]:.2f} of the CPU per byte' if a["cpu"] and b["cpu"] else '')
          + (f', {a["rate"] / median["fio"]["rate"]:.2f} of fio' if 'fio' in median else ''))


def demonstrate(options, tools, place, shared):
    free = shutil.disk_usage(place).free
    if free < 4 * options.bytes:
        sys.exit(f'{place} has {free / GIB:.1f} GiB free; the demo wants '
                 f'{4 * options.bytes / GIB:.1f}: use --bytes or --dir')
    data = place / 'data'
    digest = make_data(data, options.bytes)
    print(f'{options.bytes / MIB:.0f} MiB of random bytes, curl over loopback')
    fine = True
    for root in (place, shared):
        if not root:
            print('tmpfs: /dev/shm is not to be had here, left out')
            continue
        if root == shared and shutil.disk_usage(root).free < 3 * options.bytes:
            print('tmpfs: too small for this size, left out')
            continue
        for backend in ('ring', 'pool'):
            fine = show_main_job(tools, data, digest, options.bytes, root, backend) and fine
    compare(tools, data, options.bytes, place, options.runs)
    return 0 if fine else 1


def main():
    options = arguments()
    tools = pathlib.Path(options.build).resolve() if options.build else build()
    place = shared = None
    try:
        where = pathlib.Path(options.dir or tools)
        if not where.is_dir():
            return f'tools/demo: {where} is no directory'
        place = pathlib.Path(tempfile.mkdtemp(prefix='sluice-demo-', dir=where))
        if os.path.ismount('/dev/shm') and os.access('/dev/shm', os.W_OK):
            shared = pathlib.Path(tempfile.mkdtemp(prefix='sluice-demo-', dir='/dev/shm'))
        return demonstrate(options, tools, place, shared)
    except CannotStart as refusal:
        return f'{refusal} did not start: see its message above'
    except subprocess.CalledProcessError as failed:
        return f'{failed.cmd[0]} failed with status {failed.returncode}'
    except FileNotFoundError as missing:
        return f'tools/demo: {missing.filename} is not there'
    except OSError as problem:
        return f'tools/demo: {problem}'
    finally:
        for process in Server.running:
            process.kill()  # one that has ended takes no harm
        for folder in (place, shared):
            if folder:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
