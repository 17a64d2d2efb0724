"""How the figures were made, as far as the page has to say it: true of the C++ of each case."""

from bench_report.rows import GIB, MIB, points_tried, shown_bytes, table

ALL_CASES = '''Loopback on one machine, so the sender's work is in the machine's CPU figure. Shown
are the median and the interquartile range (IQR) of the runs; system calls and copies are counted
in a run of its own, which is not timed.
The CPU of a process includes its kernel workers; `n/a` is what this machine could not count. *Of
the limit* is against the lower of network alone and disk alone, measured in the same run (on tmpfs,
the network). *CPU of the limit* is the CPU of the process over that of network alone, or of network
alone and disk alone together where what is received must reach the disk. *Throughput / ours* is
theirs over ours with the same promise in the same place: above 1 is our loss.'''

BY_CASE = '''A virtual machine gives memory to its guest at first touch: where it is warmed, as much
memory and page cache as the case will use is written once before. *A B B A*: the ways of a point
take turns, every second time in the opposite order. Bytes are compared outside the timed window.'''

TURNS = 'A B B A'
FIRST = 'a first run of each way'
EVERY = 'every byte, after each run'

# case -> (memory warmed, order of the runs, what is thrown away, which bytes are compared)
MADE = {
    'receive': ('yes', TURNS, FIRST, EVERY),
    'send': ('yes', TURNS, FIRST, 'one object, after each run'),
    'durable': ('yes', TURNS, FIRST, EVERY),
    'idle': ('no', 'all runs of one way, then of the next, each of a fresh process', 'nothing',
             'none'),
    'latency': ('no', f'{TURNS}, of ways and loads; the maximum of each way before, one way after '
                'the other', f'{FIRST} and load, a quarter as long', 'one answer, at the end'),
    'start': ('no', 'all runs of one way, then of the next', FIRST, 'none'),
    'gets': ('no', TURNS, FIRST, 'one answer, at the end'),
    'out_of_order': ('no', TURNS, FIRST, EVERY),
    'framed': ('yes', TURNS, FIRST, f'{EVERY}; without disk, a sum of every byte, in a run of its '
               'own before'),
    'relay': ('no', TURNS, FIRST, 'every byte, in that first run; then how many they are'),
    'copy': ('no', TURNS, FIRST, 'every byte of data and how much is holes, after each run'),
    'torrent': ('yes', TURNS, FIRST, EVERY),
}
# Written to the disk, then moved aside for the rest of the run.
RETIRING = ('receive', 'durable', 'framed')


def method(report):
    names = [case['case'] for case in report['cases']]
    rows = [[name, *MADE.get(name, ('n/a',) * 4)] for name in names]
    retired = [name for name in names if name in RETIRING]
    text = [ALL_CASES, '']
    if rows:
        heads = ['case', 'memory warmed', 'order of the runs', 'thrown away', 'bytes compared']
        text += [BY_CASE, '', *table(heads, rows), '']
    if retired:
        text += [f'Files on disk of {", ".join(retired)} are emptied after each run and deleted at '
                 'the very end: an ext4 without a journal goes around recently deleted inodes, for '
                 'minutes, whenever a file is made.', '']
    return text


# ---- sizes and connections

KIB = 1 << 10
# Of these two cases, whose sizes are in case_transfers.cpp.
GRID_OF = ('receive', 'send')
SIZES = (4 * KIB, 64 * KIB, 256 * KIB, MIB, 16 * MIB, 256 * MIB, GIB)
CONNECTIONS = (1, 16, 256, 4096)
# Of framed, in case_framed.cpp.
FRAMED_SIZES = (KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
FRAMED_CONNECTIONS = (1, 16, 256)
FRAMED_STORAGES = ('none', 'tmpfs', 'page cache', 'direct')
RUN_BYTES = 256 * MIB  # of one run, or one object where that is larger


def braces(shown):
    return '{' + ', '.join(shown) + '}'


def framed_grid(case, points):
    storages = sorted({row.get('storage') or 'none' for row in case['rows']})
    whole = (len(FRAMED_SIZES) * len(FRAMED_CONNECTIONS) * len(FRAMED_STORAGES))
    measured = len({(row.get('object_bytes'), row.get('connections'), row.get('storage'))
                    for row in case['rows']})
    return [f'Measured: payloads of {braces(sorted({shown_bytes(size) for size, _ in points}))} '
            f'over {braces(sorted({f"{n:,}" for _, n in points}))} connections, storage '
            f'{braces(storages)}: {measured} of the {whole} points that `sluice-bench framed` has '
            f'without options, {braces(map(shown_bytes, FRAMED_SIZES))} x '
            f'{braces(f"{n:,}" for n in FRAMED_CONNECTIONS)} x {braces(FRAMED_STORAGES)}, which '
            'take some hours.', '']


def grid(case):
    """Which points of sizes x connections were measured, and why not the others."""
    points = sorted({(row.get('object_bytes') or 0, row.get('connections') or 0)
                     for row in case['rows']})
    if case['case'] == 'framed' and points:
        return framed_grid(case, points)
    if case['case'] not in GRID_OF or not points:
        return []
    chosen = ': small objects over few connections and over many, large ones over few'
    chosen *= len(points) > len({size for size, _ in points})  # else it is of --quick
    whole = [(size, connections) for size in SIZES for connections in CONNECTIONS]
    small = [p for p in whole if p[0] * p[1] <= max(RUN_BYTES, p[0])]
    return [f'Measured, size x connections: {listed(points)}. The whole grid is '
            f'{braces(map(shown_bytes, SIZES))} x {braces(f"{n:,}" for n in CONNECTIONS)}: '
            f'{len(whole)} points. In {len(whole) - len(small)} of them one object for each '
            f'connection is more than the {shown_bytes(RUN_BYTES)} that a run moves at most (of '
            f'objects of {shown_bytes(GIB)}: one). Of the other {len(small)}, '
            f'{len(set(small) & set(points))} were measured, because all take hours{chosen}.', '',
            *sampled(case, points)]


def listed(points):
    by_size = {}
    for size, connections in points:
        by_size.setdefault(size, []).append(f'{connections:,}')
    return '; '.join(f'{shown_bytes(size)} x {", ".join(some)}' for size, some in by_size.items())


def sampled(case, points):
    """Which ways were measured at some of the points only."""
    ways = {}
    for way, some in points_tried(case).items():
        if some < set(points):
            ways.setdefault(listed(sorted(some)), []).append(way)
    return [line for where, some in ways.items()
            for line in (f'Only at {where}: {"; ".join(some)}.', '')]
