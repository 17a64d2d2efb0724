#!/usr/bin/env python3
"""tools/bench --report and --compare on made-up results: nulls are n/a, goals are judged right.

  report_test.py TOOLS_BENCH [--keep DIR]    --keep: leave the page there, to look at it
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

failures = []


def check(fine, what):
    if not fine:
        failures.append(what)
        print(f'FAILED: {what}')


def row(way, storage, durable, size, connections, rate, cost, **more):
    median = {'seconds': 1.0, 'mib_per_second': rate,
              'cpu_s_per_gib': {'process': cost, 'machine': None if cost is None else cost * 1.6},
              'cycles_per_byte': None, 'instructions_per_byte': None, 'llc_misses_per_byte': None,
              'context_switches': 1200, 'page_faults': 30, 'syscalls_per_mib': 2.5,
              'io_wq_per_mib': None, **more.pop('figures', {})}
    first = way.split()[0]
    return {'way': way, 'peer': {'sluice': 'serve'}.get(first, first),
            'storage': storage, 'durable': durable, 'bytes': GIB, 'object_bytes': size,
            'connections': connections, 'runs': [median], 'median': median,
            'iqr': {'mib_per_second': None if rate is None else rate * 0.1}, 'verified': True,
            'receipt': None, 'copies_measured': None, **more}


RECEIVE = [('sluice', 'direct', 900, 0.4, 1), ('sluice copy', 'page cache', 500, 1.5, 2),
           ('recv_write', 'page cache', 520, 1.4, None),
           ('recv_write_threads', 'page cache', 480, 1.7, None),
           ('recv_direct', 'direct', 490, 0.76, None), ('recv_mapped', 'page cache', 400, 2, None),
           ('recv_splice', 'page cache', 280, 3.2, None),
           ('nginx PUT', 'page cache', 250, 3.9, None)]


def receive_case():
    rows = []
    for at, size in enumerate((4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, GIB)):
        small = (at + 1) / 6
        for way, storage, rate, cost, copies in RECEIVE:
            receipt = {'path': way.split()[-1], 'copies': copies} if copies else None
            rows.append(row(way, storage, True, size, 1, rate * small ** 2, cost / small,
                            receipt=receipt, copies_measured=None if way == 'nginx PUT' else 1.5))
    for connections in (16, 256):
        for way, storage, rate, cost, _ in RECEIVE:
            rows.append(row(way, storage, True, MIB, connections, rate / 2, cost * 1.2))
    for way in ('sluice', 'recv_write'):  # a size of which one figure is missing
        rows.append(row(way, 'tmpfs', False, MIB, 1, 2400, 0.3))
        rows.append(row(way, 'tmpfs', False, 2 * GIB, 1, None if way == 'sluice' else 2100, None))
    rows.append({**row('network alone', 'none', False, GIB, 1, 2600, 0.25, peer='sink'),
                 'verified': False})  # it keeps nothing
    rows.append({**row('recv_mapped', 'page cache', True, 2 * GIB, 16, None, None),
                 'runs': [], 'median': {}, 'iqr': {}, 'unavailable': 'it refused'})
    return {'case': 'receive', 'rows': rows, 'noise': {'a_a_ratio': 1.02},
            'limit': {'network_mib_per_second': 2600, 'disk_mib_per_second': 980,
                      'network_cpu_s_per_gib': 0.25, 'disk_cpu_s_per_gib': 0.07}}


def send_case():
    rows = []
    for size in (16 * KIB, MIB, GIB):
        for way, rate in (('sluice', 3000), ('send_sendfile', 3100), ('send_read', 2000),
                          ('sluiced GET', 1900), ('nginx GET', 2000)):
            rows.append(row(way, 'page cache', False, size, 32, rate * (size / GIB) ** 0.1, 0.3))
    return {'case': 'send', 'rows': rows, 'limit': {'network_mib_per_second': 4000,
                                                    'disk_mib_per_second': None},
            'noise': {'a_a_ratio': None}}


def durable_case():
    rows = []
    for connections in (1, 4, 16, 64, 256):
        for way, rate in (('sluice', 900), ('sluiced PUT', 810), ('recv_write_threads', 300),
                          ('nginx PUT, no sync', 1620)):
            rows.append(row(way, 'page cache', True, 16 * KIB, connections, None, None, figures={
                'objects_per_second': rate * connections ** 0.5}))
    return {'case': 'durable', 'rows': rows}


def latency_case():
    rows = []
    for load in (0.5, 0.7, 0.9):
        for way, base in (('sluice', 90), ('recv_write', 120), ('nginx PUT', 200)):
            rows.append(row(way, 'page cache', True, 64 * KIB, 16, 100, 1, figures={
                'offered_share': load,
                'p50_us': base / (1 - load) / 2, 'p99_us': base / (1 - load) ** 2,
                'p99_9_us': None if way == 'nginx PUT' else base / (1 - load) ** 3}))
    return {'case': 'latency', 'rows': rows}


def idle_case():
    rows = [row(way, 'page cache', False, None, count, None, None,
                figures={'bytes_per_connection': each})
            for count in (100, 1000, 10000)
            for way, each in (('sluice', 1500), ('recv_write', 300), ('recv_write_threads', 9000),
                              ('nginx PUT', None))]
    return {'case': 'idle', 'rows': rows}


def start_case():
    return {'case': 'start', 'rows': [
        row(way, 'page cache', False, None, None, None, None, figures={'start_ms': ms})
        for way, ms in (('sluice', 8.5), ('recv_write', 1.1), ('nginx', None))]}


def framed_case():
    rows = [row(way + suffix, storage, False, size, connections, rate, cost,
                figures={'receives_per_block': calls})
            for suffix, storage in (('', 'none'), (', page cache', 'page cache'),
                                    (', direct', 'direct'))
            for size in (KIB, 16 * KIB, MIB) for connections in (1, 16)
            for way, rate, cost, calls in (('sluice auto', 3000, 0.24, 0.1),
                                           ('contiguous + memcpy', 2000, 0.4, 0.13),
                                           ('two calls', 2500, 0.3, 2.0))]
    return {'case': 'framed', 'rows': rows}


def out_of_order_case():
    rows = [{**row('block_writer', 'direct', True, 16 * KIB, 1, 880, 0.2,
                   figures={'write_bytes_mean': 128.0 * KIB}), 'ours': True},
            row('pwrite', 'page cache', True, 16 * KIB, 1, 700, 0.6)]
    return {'case': 'out_of_order', 'rows': rows, 'limit': {'disk_mib_per_second': 800}}


def relay_case():
    rows = [row(way, 'none', False, GIB, 1, rate, 0.5)
            for way, rate in (('sluice splice', 1900), ('HAProxy, splice-auto', 2000))]
    return {'case': 'relay', 'rows': rows, 'command': ['build/sluice-bench', 'relay'],
            'started': '2026-01-02T00:00:00Z'}


def torrent_case():
    rows = [{**row(way, storage, ours and storage == 'direct', GIB, 1, rate, cost, peer=peer),
             'ours': ours}
            for way, peer, storage, rate, cost, ours in (
                ('sluice-bt', 'sluice-bt', 'direct', 480, 1.0, True),
                ('libtorrent', 'libtorrent', 'page cache', 300, 3.2, False),
                ('sluice-bt, tmpfs', 'sluice-bt', 'tmpfs', 620, 1.2, True),
                ('libtorrent, tmpfs', 'libtorrent', 'tmpfs', 320, 3.0, False),
                ('thrown away', 'sink', 'none', 640, 0.4, False))]
    return {'case': 'torrent', 'rows': rows, 'limit': {'network_mib_per_second': 640,
                                                       'disk_mib_per_second': None}}


def made_up():
    return {'schema': 1, 'command': ['sluice-bench', 'receive'], 'started': '2026-01-01T00:00:00Z',
            'machine': {'kernel': '6.1', 'cpus': 2, 'memory_bytes': 8 * GIB, 'filesystem': 'ext4',
                        'counters': 'none'},
            'versions': {'sluice': '0.1.0', 'nginx': None},
            'cases': [receive_case(), send_case(), durable_case(), latency_case(), idle_case(),
                      start_case(), framed_case(), out_of_order_case(), relay_case(),
                      torrent_case()]}


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=250, check=False)


def page_of(bench, report, folder, name):
    data = folder / f'{name}.json'
    data.write_text(json.dumps(report))
    done = run(bench, '--report', data, '--out', folder / name)
    check(done.returncode == 0, f'{name}: the report is made: {done.stdout}')
    return folder / name, (folder / name / 'README.md').read_text()


def cells(page, start):
    """The cells of the first table line that begins so."""
    line = next((l for l in page.split('\n') if l.startswith(f'| {start}')), '')
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_paths(bench, folder):
    report = made_up()
    top = str(pathlib.Path(bench).resolve().parents[1])
    report['cases'][0]['command'] = [f'{top}/build/sluice-bench', '--dir', f'{top}/x']
    out, page = page_of(bench, report, folder, 'paths')
    check(top not in page and top not in (out / 'results.json').read_text(),
          'where the repository lies is not told')
    check('`build/sluice-bench --dir x`' in page, 'the rest of a path is')


def test_whole(bench, folder):
    out, page = page_of(bench, made_up(), folder, 'whole')
    goals = {'throughput at least 0.9': ('0.918', 'met'), 'CPU at most 1.2': ('1.25', 'short of'),
             "nginx's PUT throughput": ('3.60 times', 'met'), '16 KiB GETs': ('0.950', 'short of'),
             'GET of a 1 GiB cached file: CPU': ("1.00 of nginx's (sluiced GET, 1 GiB)", 'met'),
             'GET of a 1 GiB cached file: throughput': ("0.950 of nginx's", 'met'),
             'two calls': ('0.800', 'met'), 'at least 0.9 of HAProxy': ('0.950', 'met'),
             '4 times the plain': ('2.70', 'short of'), 'unsynced': ('0.500', 'short of'),
             'sequential O_DIRECT': ('1.10', 'met'), 'mean write': ('128 KiB', 'short of'),
             'throughput at least theirs': ('1.20', 'met'),
             'torrent to disk: at least 2 times': ('1.60 times the rate, 0.750 of', 'short of'),
             'torrent to tmpfs: at least 2 times': ('0.969 of the seeder', 'met'),
             'torrent to disk: at most a third': ('0.312', 'met'),
             'torrent to tmpfs: at most a third': ('0.400', 'short of'),
             '10,000 idle': ('1,500 bytes', 'met'), 'system calls per 16 KiB': ('0.0391', 'met')}
    for wanted, (figure, verdict) in goals.items():
        line = next((l for l in page.split('\n') if wanted in l and l.endswith('|')), '')
        check(figure in line and line.endswith(f'| {verdict} |'), f'goal {wanted}: {line!r}')
    check(cells(case_part(page, 'Noise floor'), 'send')[1] == 'n/a',
          'a noise floor that is null is n/a')
    check(cells(page, 'nginx |')[1] == 'n/a', 'a version that is null is n/a')
    missing = [l for l in page.split('\n') if l.startswith('| sluice | tmpfs | no | n/a')]
    check(len(missing) == 1 and missing[0].count('n/a') >= 5 and ' 0 ' not in missing[0],
          f'a row of nulls is n/a: {missing}')
    check('recv_mapped: n/a, it refused.' in page, 'a way that could not run has its reason')
    check("- relay: `build/sluice-bench relay`, begun 2026-01-02" in page,
          'which case is of another run')
    check('| network alone |' not in page, 'the limit is no way')
    check('n/a: cycles per byte, instructions per byte, LLC' in page.replace('llc', 'LLC'),
          'what the machine cannot count is said')
    check('| against | ours |' in page and '| losses |' in page, 'wins and losses are on the page')
    stored = json.loads((out / 'results.json').read_text())
    check(stored['cases'] == made_up()['cases'], 'results.json is the data')
    named = {p for p in page.replace('(', ')').split(')') if p.endswith('.svg')}
    if shutil.which('gnuplot'):
        for name in ('receive-throughput-by-size', 'receive-cpu-by-size', 'copies', 'durable',
                     'latency', 'idle-memory', 'start', 'receive-throughput-by-connections',
                     'framed-cpu-by-size-no-disk', 'framed-throughput-by-size-page-cache',
                     'framed-cpu-by-connections-direct'):
            check(f'{name}.svg' in named, f'{name} is on the page')
        for name in named:
            for file in (out / name, (out / name).with_suffix('.png')):
                check(file.exists() and file.stat().st_size > 1000, f'{file.name} is drawn')
        labels = (out / 'copies.svg').read_text()
        check('n/a' not in (out / 'durable.svg').read_text() and 'n/a' in labels,
              'a bar of a null says n/a')
    else:
        check(not named and 'Not drawn' in page, 'without gnuplot the page says so')


def case_part(page, title):
    """The section of a case."""
    return page.split(f'## {title}', 1)[-1].split('\n## ', 1)[0]


def test_limit(bench, folder):
    report = made_up()
    receive, send = report['cases'][:2]
    for one in receive['rows']:
        one['median']['of_limit'] = {'throughput': 0.9, 'cpu': 1.234}
    receive['limits'] = [{**receive['limit'], 'object_bytes': 4 * KIB, 'connections': 1,
                          'iperf3_mib_per_second': 3456}]
    for one in send['rows']:
        one['median']['of_limit'] = {'throughput': 0.9, 'cpu': None}
    _, page = page_of(bench, report, folder, 'limit')
    part = case_part(page, 'Receive')
    check('| of the limit | CPU s/GiB, process | CPU of the limit | CPU s/GiB, machine |' in part,
          'the CPU of the limit has a column')
    check(cells(part, 'sluice | direct')[7] == '1.23', 'and its figure')
    check('0.0700 CPU s/GiB; one stream of iperf3 3,456 MiB/s.' in part, "iperf3's rate is told")
    check(part.count('iperf3') == 1, 'where it is known')
    check('CPU of the limit |' not in case_part(page, 'Send'), 'no column without a figure')


def test_noise(bench, folder):
    report = made_up()
    report['cases'][0]['noise'] |= {'way': 'sluice', 'object_bytes': GIB, 'connections': 1}
    _, page = page_of(bench, report, folder, 'noise')
    part = case_part(page, 'Noise floor')
    check(cells(part, 'receive') == ['receive', '1.02', 'sluice, 1 GiB, 1 connection'],
          'the noise, and of what')
    report['cases'][0]['noise']['a_a_cpu_ratio'] = 1.07
    _, page = page_of(bench, report, folder, 'noise-of-cpu')
    part = case_part(page, 'Noise floor')
    check(cells(part, 'receive')[1:3] == ['1.02', '1.07'], 'the noise of the CPU')
    check(cells(part, 'case')[2] == 'A / A, CPU of the process', 'has its column')
    check(cells(part, 'send')[1:] == ['n/a', 'n/a', ''], 'what was not measured is n/a')
    report['cases'][0]['noise']['a_a_machine_cpu_ratio'] = 1.11
    _, page = page_of(bench, report, folder, 'noise-of-machine')
    part = case_part(page, 'Noise floor')
    check(cells(part, 'receive')[1:4] == ['1.02', '1.07', '1.11'], 'the noise of all CPUs')
    check(cells(part, 'case')[3] == 'A / A, CPU of the machine', 'has its column')


def test_bulk_gets(bench, folder):
    report = {**made_up(), 'cases': [send_case()]}
    rows = report['cases'][0]['rows']
    for one in rows:
        if one['way'] == 'sluiced GET' and one['object_bytes'] == GIB:
            one['median']['cpu_s_per_gib']['process'] = 0.33
            one['median']['mib_per_second'] = 1880
    _, page = page_of(bench, report, folder, 'gets-1')
    start = 'GET of a 1 GiB cached file: '
    check(cells(page, start + 'CPU')[1:] == ["1.10 of nginx's (sluiced GET, 1 GiB)", 'short of'],
          'a GET that costs more')
    check(cells(page, start + 'throughput')[1:] == ["0.940 of nginx's (sluiced GET, 1 GiB)",
                                                    'short of'], 'and is slower')
    report['cases'][0]['rows'] = [r for r in rows if r['object_bytes'] < GIB]
    _, page = page_of(bench, report, folder, 'gets-2')
    check(cells(page, start + 'CPU')[2] == 'too small to judge', 'of 1 MiB nothing can be said')
    report['cases'][0]['rows'] = [r for r in rows if not r['way'].startswith('nginx')]
    _, page = page_of(bench, report, folder, 'gets-3')
    check(cells(page, start + 'CPU')[1:] == ['n/a', 'not measured'], 'nor without nginx')


def path_row(way, size, cost, machine, path=None, storage='page cache'):
    """A row of 256 MiB a run, so that a tick is 0.04 s/GiB."""
    made = row(way, storage, True, size, 16, 900, cost,
               receipt={'path': path, 'copies': 1} if path else None)
    made['median']['cpu_s_per_gib']['machine'] = machine
    return {**made, 'bytes': 256 * MIB}


def plain_loops_case():
    rows = [path_row(*one) for one in (
        ('sluice auto', 256 * KIB, 0.5, 0.8, 'direct', 'direct'),
        ('sluice direct', 256 * KIB, 0.53, 0.8, 'direct', 'direct'),
        ('sluice copy', 256 * KIB, 1.2, 1.6, 'copy'),
        ('sluice copy, pool', 256 * KIB, 1.1, 2.4, 'copy'),
        ('recv_direct', 256 * KIB, 0.5, 0.8, None, 'direct'),
        ('recv_write', 256 * KIB, 1, 1.6),
        ('sluice auto', MIB, 0.6, 0.44, 'direct', 'direct'),
        ('recv_direct', MIB, 0.5, 0.4, None, 'direct'),
        ('sluice copy', 64 * KIB, 9, 9, 'copy'), ('recv_write', 64 * KIB, 1, 1))]
    return {'case': 'receive', 'rows': rows,
            'noise': {'a_a_ratio': 1.02, 'a_a_cpu_ratio': 1.1, 'a_a_machine_cpu_ratio': None}}


def test_plain_loops(bench, folder):
    sys.path.insert(0, str(bench.resolve().parent))
    from bench_report import plain_loops  # pylint: disable=import-outside-toplevel
    case = plain_loops_case()
    _, page = page_of(bench, {**made_up(), 'cases': [case]}, folder, 'loops')
    part = case_part(page, 'Paths beside plain loops')
    check(cells(part, 'receive') == ['receive', 'plain loop', '256 KiB x 16', '1 MiB x 16'],
          'the rule begins at 256 KiB')
    check(cells(part, 'sluice direct') == ['sluice direct', 'recv_direct', 'auto: 1.06, 1.00',
                                           'auto: **1.20**, 1.10'],
          f'5 %, noise and a tick are allowed, auto stands in: {cells(part, "sluice direct")}')
    check(cells(part, 'sluice copy |') == ['sluice copy', 'recv_write', '**1.20**, 1.00', ''],
          'a path that auto does not take there')
    check(cells(part, 'sluice copy, pool')[2] == '1.10, **1.50**', 'the pool, and the machine')
    goal = cells(page, 'receive, 256 KiB and more: no path that auto takes over 1.05')
    check(goal[1:] == ['1 of 2 within it and the noise; worst 1.20, process, sluice direct at '
                       '1 MiB x 16', 'short of'], f'the goal is of what auto takes: {goal}')
    case['rows'] = [r for r in case['rows'] if r['object_bytes'] < MIB]
    _, page = page_of(bench, {**made_up(), 'cases': [case]}, folder, 'loops-met')
    check(cells(page, 'receive, 256 KiB and more')[2] == 'met', 'a goal that is met')
    case['rows'] = [r for r in case['rows'] if r['way'] != 'sluice auto']
    _, page = page_of(bench, {**made_up(), 'cases': [case]}, folder, 'loops-forced')
    check(cells(page, 'receive, 256 KiB and more')[1:] == ['n/a', 'not measured'],
          'what auto takes is not known')
    _, page = page_of(bench, {**made_up(), 'cases': [idle_case()]}, folder, 'loops-none')
    check('plain loop' not in page, 'nothing is said of other cases')
    sources = ''.join(file.read_text() for file in bench.parent.glob('sluice-bench/case_*.cpp'))
    unknown = {way for pairs in plain_loops.PAIRS.values() for _, *ways in pairs for way in ways
               if f'"{way}"' not in sources}
    check(not unknown, f'ways that sluice-bench does not have: {unknown}')


def test_method(bench, folder):
    sys.path.insert(0, str(bench.resolve().parent))
    from bench_report import method, rows  # pylint: disable=import-outside-toplevel
    check(list(method.MADE) == list(rows.CASES), 'of every case is said how it is measured')
    _, page = page_of(bench, made_up(), folder, 'method')
    part = page.split('## Goals', 1)[0]
    check(cells(part, 'receive')[1:4] == ['yes', 'A B B A', 'a first run of each way'],
          'receive is warmed and takes turns')
    check(cells(part, 'start')[1:3] == ['no', 'all runs of one way, then of the next'],
          'start takes no turns')
    check(cells(part, 'idle')[3:] == ['nothing', 'none'], 'idle throws nothing away')
    check(cells(part, 'gets') == [''], 'nothing is said of what was not measured')
    sources = bench.resolve().parent / 'sluice-bench'
    for case, (warmed, *_) in method.MADE.items():
        kind = 'transfers' if case in ('receive', 'send', 'durable') else case
        source = (sources / f'case_{kind}.cpp').read_text()
        check(('warm_memory(' in source) == (warmed == 'yes'), f'{case}: whether memory is warmed')
    report = {**made_up(), 'cases': [relay_case(), {'case': 'something_new', 'rows': []}]}
    _, page = page_of(bench, report, folder, 'method-of-new')
    check('deleted inodes' not in page and cells(page, 'something_new')[1] == 'n/a',
          'a case of no special kind is n/a')


def test_grid(bench, folder):
    sys.path.insert(0, str(bench.resolve().parent))
    report = made_up()
    report['cases'][1]['rows'] = [row('sluice', 'page cache', False, size, connections, 900, 0.3)
                                  for size, connections in ((4 * KIB, 16), (4 * KIB, 4096),
                                                            (16 * MIB, 1), (GIB, 1))]
    report['cases'][1]['rows'] += [row(way, 'page cache', False, size, 1, 900, 0.3)
                                   for way in ('sluice splice, pool', 'sluice copy, pool')
                                   for size in (16 * MIB, GIB)]
    _, page = page_of(bench, report, folder, 'grid')
    part = case_part(page, 'Send')
    check('Measured, size x connections: 4 KiB x 16, 4,096; 16 MiB x 1; 1 GiB x 1.' in part,
          'the sizes and connections measured')
    check('{4 KiB, 64 KiB, 256 KiB, 1 MiB, 16 MiB, 256 MiB, 1 GiB} x {1, 16, 256, 4,096}: '
          '28 points' in part and '10 of them' in part
          and 'Of the other 18, 4 were measured' in part, 'what the whole grid would be')
    check('Only at 16 MiB x 1; 1 GiB x 1: sluice splice, pool; sluice copy, pool.' in part,
          'what was measured at some points only')
    check('Only at' not in case_part(page, 'Durable'), 'is said of these grids')
    from bench_report import pictures  # pylint: disable=import-outside-toplevel
    drawn = {one.label for plot in pictures.plots_of(report['cases'][1])
             for panel in plot.panels for one in panel.series}
    check(drawn == {'sluice'}, f'and is no line in a picture: {drawn}')
    check('28 points' not in case_part(page, 'Durable'), 'durable has another grid')


def test_copies(bench, folder):
    report = made_up()
    why = 'bpftrace is not here'
    for case in report['cases'][:2]:
        case['copies_unavailable'] = why
    _, page = page_of(bench, report, folder, 'copies')
    said = f'Copies were not measured: {why}.'
    check(said in case_part(page, 'Send'), 'why copies were not measured')
    check(said not in case_part(page, 'Receive'), 'where some were there is nothing to say')
    check('Copies were not' not in case_part(page, 'Durable'), 'nor without a reason')
    check(f'send: not measured: {why}.' in case_part(page, 'Copies'), 'nor is it a bar of nothing')


def test_partial(bench, folder):
    report = made_up()
    report['machine'] = {}
    report['cases'] = [{'case': 'receive', 'rows': [], 'error': 'stopped after 3 s'},
                       {'case': 'something_new', 'rows': [
                           row('sluice', 'direct', True, MIB, 1, None, None, median={})]},
                       {'case': 'idle', 'rows': idle_case()['rows'][3:4]}]
    _, page = page_of(bench, report, folder, 'partial')
    check('stopped after 3 s' in page, 'a case that did not finish says so')
    check('## Something new' in page, 'a case of no special kind has its section')
    check(cells(page, 'kernel')[1] == 'n/a', 'an unknown machine is n/a')
    done = run(bench, '--report', folder / 'none.json', '--out', folder / 'none')
    check(done.returncode == 1 and 'Traceback' not in done.stdout, 'no file is a message')
    (folder / 'other.json').write_text('{"schema": 2}')
    done = run(bench, '--report', folder / 'other.json', '--out', folder / 'other')
    check(done.returncode == 1 and 'schema' in done.stdout, 'another schema is refused')


def file_of(case, started, **more):
    """What `sluice-bench CASE --json ...` writes of one case."""
    for one in case['rows']:
        one['command'] = ['/their/tree/build/sluice-bench', 'serve', '--dir',
                          '/disk/mine/sluice-bench-AbC/objects', '--log', '/disk/mine2/log']
    given = {'--json': '/their/x.json', '--dir': '/disk/mine', '--retire': '/disk/old'}
    command = ['build/sluice-bench', case['case'], *(w for pair in given.items() for w in pair),
               '--tmpfs=/dev/shm/mine', '--runs', '7']
    return {**made_up(), 'command': command, 'started': started, 'cases': [case], **more}


def report_files(bench, folder, name, *reports):
    """tools/bench --report of several files."""
    files = [folder / f'{name}-{at}.json' for at in range(len(reports))]
    for file, report in zip(files, reports):
        file.write_text(json.dumps(report))
    return run(bench, '--report', *files, '--out', folder / name)


def merged_page(bench, folder, name, *reports):
    done = report_files(bench, folder, name, *reports)
    check(done.returncode == 0, f'{name}: the report of several files is made: {done.stdout}')
    return ((folder / name / 'README.md').read_text(),
            json.loads((folder / name / 'results.json').read_text()))


def test_merged(bench, folder):
    page, data = merged_page(
        bench, folder, 'merged', file_of(relay_case() | {'command': None}, '2026-01-03T00:00:00Z'),
        file_of(out_of_order_case(), '2026-01-01T09:00:00Z', versions={'sluice': '0.1.0',
                                                                       'nginx': '1.22'}),
        file_of(receive_case(), '2026-01-02T00:00:00Z'))
    check([case['case'] for case in data['cases']] == ['receive', 'out_of_order', 'relay'],
          'the order is that of a full run')
    check(data['started'] == '2026-01-01T09:00:00Z', 'begun when the first was')
    check(data['versions'] == {'sluice': '0.1.0', 'nginx': '1.22'}, 'versions are united')
    command = 'receive --json FILE --dir DIR --retire RETIRED --tmpfs=TMPFS --runs 7'
    check('Each case by a command of its own' in page and
          f'- receive: `build/sluice-bench {command}`, begun 2026-01-02' in page,
          'each case has its command, without paths, and its start')
    check(data['cases'][0]['rows'][0]['command'] ==
          ['build/sluice-bench', 'serve', '--dir', 'DIR/sluice-bench-AbC/objects', '--log',
           '/disk/mine2/log'], 'nor are they in the commands of rows')
    text = json.dumps(data) + page
    check('/their/' not in text and '/disk/mine/' not in text, 'private paths are nowhere')
    again, _ = merged_page(bench, folder, 'merged-again', data,
                           file_of(send_case(), '2026-01-04T00:00:00Z'))
    check('- relay: `build/sluice-bench relay --json FILE' in again and '- send: ' in again,
          'what was merged can be merged with more')


def test_revision(bench, folder):
    _, page = page_of(bench, {**made_up(), 'revision': '783466d, changed'}, folder, 'revision')
    check('Begun 2026-01-01T00:00:00Z, revision 783466d, changed. ' in page,
          'the revision is beside the date')
    files = [file_of(receive_case(), '2026-01-02T00:00:00Z', revision='1a48f64'),
             file_of(send_case(), '2026-01-03T00:00:00Z', revision='1a48f64')]
    page, _ = merged_page(bench, folder, 'alike', *files)
    check('Begun 2026-01-02T00:00:00Z, revision 1a48f64. ' in page and page.count('revision') == 1,
          'one revision of all files is said once')
    files[1]['revision'] = '783466d'
    old = file_of(durable_case(), '2026-01-04T00:00:00Z')
    page, _ = merged_page(bench, folder, 'unlike', *files, old)
    check('begun 2026-01-02T00:00:00Z, revision 1a48f64\n' in page and
          'begun 2026-01-03T00:00:00Z, revision 783466d\n' in page and
          'begun 2026-01-04T00:00:00Z, revision n/a\n' in page,
          'each case has its own where they differ')


def test_not_merged(bench, folder):
    done = report_files(bench, folder, 'twice', file_of(send_case(), '1'),
                        file_of(relay_case(), '2'), file_of(send_case(), '3'))
    check(done.returncode == 1 and all(part in done.stdout for part in
                                       ('the case send', 'twice-0.json', 'twice-2.json')),
          f'a case of two files names both: {done.stdout}')
    other = {**made_up()['machine'], 'kernel': '6.2'}
    done = report_files(bench, folder, 'apart', file_of(send_case(), '1'),
                        file_of(relay_case(), '2', machine=other))
    check(done.returncode == 1 and all(part in done.stdout for part in
                                       ('different machines', 'apart-0.json', 'apart-1.json',
                                        "kernel '6.1' and '6.2'")),
          f'two machines are refused: {done.stdout}')
    (folder / 'cut.json').write_text('{"schema": 1,')
    done = run(bench, '--report', folder / 'cut.json', '--out', folder / 'cut')
    check(done.returncode == 1 and 'cut.json' in done.stdout, 'a file that is no JSON is named')


def test_order(bench):
    """The order of the page is that of the table of sluice-bench."""
    sys.path.insert(0, str(bench.resolve().parent))
    from bench_report import rows  # pylint: disable=import-outside-toplevel
    source = (bench.resolve().parent / 'sluice-bench/cases.cpp').read_text()
    check(re.findall(r'bench_case\{"(\w+)"', source) == list(rows.CASES),
          'the cases are those of sluice-bench --list, in that order')


def test_compare(bench, folder):
    old, new = made_up(), made_up()
    changed = new['cases'][0]['rows'][0]['median']
    changed['mib_per_second'] *= 1.5
    changed['cpu_s_per_gib']['process'] = None
    for name, report in (('old', old), ('new', new)):
        (folder / f'{name}.json').write_text(json.dumps(report))
    done = run(bench, '--compare', folder / 'old.json', folder / 'new.json')
    lines = [l.split() for l in done.stdout.split('\n') if l.startswith('receive, sluice, direct')]
    check(lines and lines[0][-2:] == ['1.50', 'better'], f'before and after: {lines[:1]}')
    check(len(lines) > 1 and lines[1][-2:] == ['n/a', 'n/a'], f'n/a after: {lines[1:2]}')


def test_differing(bench):
    sys.path.insert(0, str(bench.resolve().parent))
    from bench_report import page  # pylint: disable=import-outside-toplevel
    rows = [case for case in made_up()['cases'] if case['case'] == 'receive'][0]['rows']
    check(page.differing(rows) == [], 'a sink keeps no bytes that could differ')
    rows[0]['verified'] = False
    check(page.differing(rows) == [rows[0]['way']], 'bytes that differ are told')


def main():
    sys.dont_write_bytecode = True
    bench = pathlib.Path(sys.argv[1])
    keep = pathlib.Path(sys.argv[3]) if sys.argv[2:3] == ['--keep'] else None
    with tempfile.TemporaryDirectory(prefix='bench-report-') as temporary:
        folder = pathlib.Path(temporary)
        test_whole(bench, folder)
        test_paths(bench, folder)
        test_limit(bench, folder)
        test_noise(bench, folder)
        test_bulk_gets(bench, folder)
        test_plain_loops(bench, folder)
        test_method(bench, folder)
        test_grid(bench, folder)
        test_copies(bench, folder)
        test_partial(bench, folder)
        test_merged(bench, folder)
        test_revision(bench, folder)
        test_not_merged(bench, folder)
        test_order(bench)
        test_compare(bench, folder)
        test_differing(bench)
        if keep:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
