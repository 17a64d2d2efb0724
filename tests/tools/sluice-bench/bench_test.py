#!/usr/bin/env python3
"""sluice-bench on tiny sizes: what it prints is complete and consistent, whatever the figures are.

  bench_test.py SLUICE_BENCH

The peers and sluiced lie beside it. No figure is compared with another machine's: only sums,
counts, and that what cannot be counted is null and n/a, never 0.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

BENCH = pathlib.Path(sys.argv[1]).resolve()
MIB, GIB = 1 << 20, 1 << 30
CASES = ['receive', 'send', 'durable', 'idle', 'latency', 'start', 'gets', 'out_of_order',
         'framed', 'relay', 'copy', 'torrent']
WAIT_S = 500
ROW_KEYS = {'way', 'peer', 'ours', 'storage', 'durable', 'bytes', 'object_bytes', 'connections',
            'runs', 'median', 'iqr', 'verified', 'receipt', 'copies_measured', 'unavailable',
            'command'}


def bench(*arguments, cwd=None):
    return subprocess.run([BENCH, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=WAIT_S, check=False, cwd=cwd)


def numbers(value):
    """Every figure of a run, a median or an iqr."""
    for key, one in value.items():
        if isinstance(one, dict):
            yield from ((f'{key}.{name}', n) for name, n in numbers(one))
        else:
            yield key, one


def near(a, b):
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b))


class CommandLine(unittest.TestCase):
    def test_an_unknown_case_is_refused_with_the_list(self):
        done = bench('receive', 'nonsense')
        self.assertEqual(done.returncode, 2)
        self.assertIn('nonsense', done.stderr)
        for case in CASES:
            self.assertIn(f'  {case} ', done.stderr)

    def test_no_case_and_an_unknown_option_are_refused(self):
        for arguments in ([], ['receive', '--nonsense'], ['receive', '--runs', '0'],
                          ['framed', '--payloads', '3K'], ['framed', '--payloads', '2M'],
                          ['framed', '--connections', '0'], ['framed', '--storage', 'paper']):
            self.assertEqual(bench(*arguments).returncode, 2, arguments)

    def test_the_list_names_every_case(self):
        done = bench('--list')
        self.assertEqual(done.returncode, 0)
        self.assertEqual([line.split()[0] for line in done.stdout.split('\n')[1:-1]], CASES)


class Refusals(unittest.TestCase):
    def setUp(self):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix='bench-test-', dir='.')).resolve()
        self.addCleanup(shutil.rmtree, self.place)

    def put_peer(self, name, *lines):
        peer = self.place / name
        peer.write_text('\n'.join(('#!/bin/sh', *lines, '')))
        peer.chmod(0o755)

    def rows(self, *arguments):
        results = self.place / 'results'
        done = bench(*arguments, '--tiny', '--dir', self.place, '--peers', self.place, '--json',
                     results)
        case = json.loads(results.read_text())['cases'][0]
        if any('no seeder' in (row['unavailable'] or '') for row in case['rows']):
            self.skipTest('no libtorrent')
        return case, {row['way']: row for row in case['rows']}, done

    def test_a_peer_that_cannot_start_gives_its_row_the_reason(self):
        self.put_peer('recv_framed_multishot', 'echo cannot: no bundles on this planet', 'exit 1')
        _, _, done = self.rows('framed', '--only', 'bundles', '--storage', 'none')
        self.assertIn('multishot, bundles + memcpy: n/a: no bundles on this planet', done.stdout)

    def test_a_torrent_is_not_compared_with_what_failed_later(self):
        real = BENCH.parent / 'torrent_discard'
        self.put_peer('torrent_discard', f'echo >>{self.place}/calls',
                      f'[ $(wc -l <{self.place}/calls) -lt 3 ] || exit 1', f'exec {real} "$@"')
        case, rows, done = self.rows('torrent', '--only', 'sluice-bt')
        self.assertEqual(rows['thrown away']['unavailable'], 'failed', done.stderr)
        self.assertIsNone(case['limit']['network_mib_per_second'])
        self.assertIsNone(rows['sluice-bt']['unavailable'])

    def test_a_torrent_is_not_kept_where_it_has_no_room(self):
        small = self.place / 'small'
        small.mkdir()
        made = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=3M', 'none', small], check=False,
                              stderr=subprocess.DEVNULL)
        if made.returncode != 0:
            self.skipTest('no tmpfs can be mounted')
        self.addCleanup(subprocess.run, ['umount', small], check=True)
        _, rows, _ = self.rows('torrent', '--only', 'sluice-bt, tmpfs', '--tmpfs', small)
        self.assertEqual(rows['sluice-bt, tmpfs']['unavailable'],
                         '3 MiB free on tmpfs are too few')


class Server:
    """sluice-bench serve as a child."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([BENCH, 'serve', '--listen', '127.0.0.1:0', *arguments],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rsplit(':', 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def connect(self):
        return socket.create_connection(('127.0.0.1', self.port), timeout=60)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        said = self.process.stdout.read()
        return self.process.wait(timeout=60), json.loads(said)


class Serve(unittest.TestCase):
    def setUp(self):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix='bench-test-', dir='.'))
        self.addCleanup(shutil.rmtree, self.place)

    def test_objects_arrive_under_their_names(self):
        data = os.urandom(700_001)
        for mode in ('receive', 'durable'):
            with Server('--dir', self.place, '--mode', mode, '--sync') as server:
                with server.connect() as peer:
                    for size in (1, 16384, len(data)):
                        peer.sendall(struct.pack('<Q', size) + data[:size])
                        self.assertEqual(peer.recv(2), b'k')
                status, said = server.stop()
            self.assertEqual(status, 0)
            self.assertEqual(said['counters']['sluice.receive.bytes'], 1 + 16384 + len(data))
            for number, size in enumerate((1, 16384, len(data))):
                file = self.place / f'obj-0-{number}'
                self.assertEqual(file.read_bytes(), data[:size])
                file.unlink()

    def test_it_sends_the_beginning_of_its_source(self):
        data = os.urandom(300_000)
        (self.place / 'source').write_bytes(data)
        with Server('--dir', self.place, '--mode', 'send') as server:
            with server.connect() as peer, peer.makefile('rb') as answers:
                for size in (1, 16384, len(data)):
                    peer.sendall(struct.pack('<Q', size))
                    self.assertEqual(answers.read(size), data[:size])
            status, said = server.stop()
        self.assertEqual((status, said['copies']), (0, 0))  # the last one: long enough to splice

    def test_a_wrong_knob_is_refused(self):
        done = bench('serve', '--dir', self.place, '--mode', 'send', '--set', 'sluice.nonsense=1')
        self.assertEqual(done.returncode, 2)
        self.assertIn('sluice.nonsense', done.stderr)


class Results(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = pathlib.Path(tempfile.mkdtemp(prefix='bench-test-', dir='.')).resolve()
        try:
            cls.done = bench(*CASES, '--tiny', '--dir', cls.place, '--json', cls.place / 'results')
            cls.json = json.loads((cls.place / 'results').read_text())
            cls.left = sorted(entry.name for entry in cls.place.iterdir())
        finally:
            shutil.rmtree(cls.place)
        cls.rows = [(case['case'], row) for case in cls.json['cases'] for row in case['rows']]
        cls.ran = [(case, row) for case, row in cls.rows if row['unavailable'] is None]

    def test_it_succeeds_and_leaves_nothing(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        self.assertEqual(self.left, ['results'])

    def test_the_schema_holds(self):
        self.assertEqual(self.json['schema'], 1)
        self.assertEqual([case['case'] for case in self.json['cases']], CASES)
        self.assertEqual(set(self.json['machine']),
                         {'kernel', 'cpus', 'memory_bytes', 'filesystem', 'counters'})
        self.assertIn(self.json['machine']['counters'], ('hardware', 'software', 'none'))
        self.assertRegex(self.json['started'], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$')
        for case in self.json['cases']:
            self.assertLessEqual({'rows', 'limit', 'limits', 'noise', 'notes'}, set(case))
        for case, row in self.rows:
            self.assertEqual(set(row), ROW_KEYS, (case, row['way']))
            self.assertIn(row['storage'], ('direct', 'page cache', 'tmpfs', 'none'))

    def test_ours_and_the_plain_peers_ran_and_every_byte_was_verified(self):
        # O_DIRECT is not everywhere, locked memory has a limit, other servers may not be installed.
        optional = ('nginx', 'haproxy', 'socat', 'recv_direct', 'recv_mapped', 'send_direct',
                    'recv_framed_multishot')
        for case, row in self.rows:
            if row['peer'] in optional or any(word in row['way']
                                              for word in ('direct', 'tmpfs', 'SEND_ZC')):
                continue
            if case == 'torrent' and 'no seeder' in (row['unavailable'] or ''):
                continue
            self.assertIsNone(row['unavailable'], (case, row['way'], self.done.stderr))
        for case, row in self.ran:
            self.assertEqual(row['verified'], row['peer'] != 'sink', (case, row['way']))
            self.assertTrue(row['runs'], (case, row['way']))

    def test_a_way_that_cannot_run_has_a_reason_and_no_figures(self):
        for case, row in self.rows:
            if row['unavailable'] is None:
                continue
            self.assertTrue(row['unavailable'], (case, row['way']))
            self.assertFalse(row['verified'])
            self.assertIn(f"{row['way']}: n/a: ", self.done.stdout)

    def test_bytes_time_and_throughput_agree(self):
        for case, row in self.ran:
            if case not in ('receive', 'send', 'durable'):
                continue
            self.assertEqual(row['bytes'] % row['object_bytes'], 0)
            for run in row['runs']:
                self.assertTrue(near(run['mib_per_second'] * run['seconds'] * MIB, row['bytes']))
                requests = run['requests_per_second'] * run['seconds']
                self.assertTrue(near(requests, row['bytes'] / row['object_bytes']))
                task = run['task_clock_seconds']
                cpu = run['cpu_s_per_gib']['process']
                if task is not None and cpu is not None:  # two clocks for the same time
                    self.assertLess(abs(task - cpu * row['bytes'] / GIB), 0.05)

    def test_medians_lie_between_the_runs(self):
        for case, row in self.ran:
            for key, middle in numbers(row['median']):
                seen = [dict(numbers(run)).get(key) for run in row['runs']]
                seen = [one for one in seen if one is not None]
                if middle is not None and seen:
                    self.assertLessEqual(min(seen) * (1 - 1e-9), middle, (case, row['way'], key))
                    self.assertGreaterEqual(max(seen) * (1 + 1e-9), middle, (case, key))
                if middle is None:
                    self.assertEqual(seen, [], (case, row['way'], key))

    def test_what_cannot_be_counted_is_null_and_never_0(self):
        hardware = ('cycles_per_byte', 'instructions_per_byte', 'llc_misses_per_byte')
        for case, row in self.ran:
            figures = [dict(numbers(part)) for part in [*row['runs'], row['median']]]
            for one in figures:
                for key in ('seconds', 'mib_per_second', 'peak_rss_bytes', *hardware,
                            'cpu_s_per_gib.process', 'cpu_s_per_gib.machine', 'syscalls_per_mib',
                            'syscalls_per_request', 'task_clock_seconds'):
                    self.assertNotEqual(one.get(key), 0, (case, row['way'], key))
                if self.json['machine']['counters'] != 'hardware':
                    self.assertEqual([one.get(key) for key in hardware], [None] * 3)
        if any(row['median'].get('syscalls_per_mib', 0) is None for _, row in self.ran):
            self.assertIn('n/a', self.done.stdout)

    def test_limits_are_there_for_every_combination(self):
        for case in self.json['cases']:
            if case['case'] not in ('receive', 'send', 'durable'):
                continue
            combinations = {(row['object_bytes'], row['connections']) for row in case['rows']}
            limits = {(one['object_bytes'], one['connections']) for one in case['limits']}
            self.assertEqual(combinations, limits)
            self.assertEqual(case['limit'], case['limits'][-1])
            for one in case['limits']:
                self.assertGreater(one['network_mib_per_second'], 0)
                self.assertNotEqual(one['disk_mib_per_second'], 0)
            self.assertGreaterEqual(case['noise']['a_a_ratio'], 1)

    def test_the_noise_is_that_of_one_way_of_ours(self):
        first = {}
        for case, row in self.ran:
            first.setdefault(case, row['way'])
        for case in self.json['cases']:
            if case['case'] in ('receive', 'send', 'durable', 'relay', 'copy'):
                self.assertEqual(case['noise']['way'], first[case['case']])
                for what in ('a_a_ratio', 'a_a_cpu_ratio', 'a_a_machine_cpu_ratio'):
                    seen = case['noise'][what]
                    self.assertTrue(seen is None or seen >= 1, (case['case'], what, seen))

    def test_what_the_engine_counts_stands_beside_what_is_traced(self):
        entered = [row['median']['enters_per_mib'] for case, row in self.ran
                   if case == 'receive' and row['peer'] == 'serve' and 'pool' not in row['way']]
        self.assertTrue(entered)
        for enters in entered:
            self.assertTrue(enters is None or enters > 0)

    def test_receipts_say_what_was_forced(self):
        copies = {'receive': {'direct': 1, 'copy': 2, 'splice': 1, 'mapped': 1},
                  'send': {'direct': 1, 'copy': 2, 'splice': 0}}
        seen = set()
        for case, row in self.ran:
            if case not in copies or row['peer'] != 'serve':
                continue
            path = row['way'].split(',')[0].partition(' ')[2]
            if path in ('', 'auto'):
                path = row['receipt']['path']
            elif 'tmpfs' not in row['way']:
                self.assertEqual(path == 'direct', row['storage'] == 'direct', row['way'])
            fewest = copies[case][path]
            # Where the kernel does not copy after all, as it does to a peer on this machine.
            fewest = (fewest - 1, fewest) if 'SEND_ZC' in row['way'] else (fewest,)
            self.assertEqual(row['receipt']['path'], path, (case, row['way']))
            self.assertIn(row['receipt']['copies'], fewest, (case, row['way']))
            seen.add((case, row['way']))
        for case in copies:
            for way in ('copy', 'splice', 'copy, pool', 'splice, pool'):
                self.assertIn((case, f'sluice {way}'), seen)
        self.assertIn(('receive', 'sluice mapped, pool'), seen)

    def test_the_pool_enters_no_ring(self):
        pool = [row for case, row in self.ran if case in ('receive', 'send', 'relay')
                and ', pool' in row['way']]
        self.assertTrue(pool)
        for row in pool:
            self.assertIn('sluice.backend=pool', row['command'])
            self.assertNotIn('enters_per_mib', row['median'])

    def test_framed_says_how_many_calls_a_block_took(self):
        by_way = {row['way']: row for case, row in self.ran if case == 'framed'}
        for way in ('two calls', 'two calls, page cache', 'sluice two_step'):
            self.assertGreaterEqual(by_way[way]['median']['receives_per_block'], 1.99, way)
        for way in ('sluice scatter', 'sluice contiguous', 'contiguous + memcpy',
                    'readv, all alike'):
            receives = by_way[way]['median']['receives_per_block']
            self.assertTrue(0 < receives < 1.99, (way, receives))
        self.assertIn('recv into a mapped file, page cache', by_way)
        bundles = [row for case, row in self.rows if 'bundles' in row['way']]
        self.assertTrue(bundles)
        for row in bundles:  # Linux 6.10; the reason is the program's own
            self.assertNotIn('did not start', row['unavailable'] or '')

    def test_latencies_are_ordered(self):
        for case, row in self.ran:
            for run in row['runs'] if case == 'latency' else []:
                order = [run[key] for key in ('p50_us', 'p99_us', 'p99_9_us', 'max_us')]
                self.assertEqual(order, sorted(order))
                self.assertGreater(order[0], 0)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
