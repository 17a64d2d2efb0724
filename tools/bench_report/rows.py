"""Rows of a result of sluice-bench: figures by name, which rows compare, how they print.

A figure that is null in the data is None here and `n/a` in print, never 0.
"""

import copy
import math
import re
from typing import NamedTuple

MIB = 1 << 20
GIB = 1 << 30

# In the order of `sluice-bench --list`, which is that of a full run.
CASES = {
    'receive': 'Receive: socket to file',
    'send': 'Send: file to socket',
    'durable': 'Durable: many small objects, each synced and named before it is acknowledged',
    'idle': 'Idle: connections that say nothing',
    'latency': 'Latency: open loop, timed from the scheduled start',
    'start': 'Start: from exec to listening',
    'gets': 'Gets: 16 KiB objects over keep-alive HTTP',
    'out_of_order': 'Out of order: 16 KiB blocks of one large file, from memory to disk',
    'framed': 'Framed: heads of 13 bytes and aligned payloads, by payload size',
    'relay': 'Relay: socket to socket',
    'copy': 'Copy: file to file, without a sync',
    'torrent': 'Torrent: from one libtorrent seeder to files, every piece hashed',
}


def title_of(case):
    return CASES.get(case, case.replace('_', ' ').capitalize())


def figure(row, name, part='median'):
    """A figure by its dotted name; None where it is null, missing or not finite."""
    at = row.get(part)
    for step in name.split('.'):
        if not isinstance(at, dict):
            return None
        at = at.get(step)
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
        return None
    return at


def first_figure(row, *names, part='median'):
    return next((v for v in (figure(row, name, part) for name in names) if v is not None), None)


def throughput(row, part='median'):
    return figure(row, 'mib_per_second', part)


def objects_per_second(row):
    counted = first_figure(row, 'objects_per_second', 'requests_per_second')
    rate = throughput(row)
    if counted is None and rate is not None and row.get('object_bytes'):
        counted = rate * MIB / row['object_bytes']
    return counted


def load_of(row):
    """The share of the measured maximum that was offered, in open loops."""
    return row['load'] if row.get('load') is not None else figure(row, 'offered_share')


def connections_of(row):
    return row.get('connections') or figure(row, 'idle_connections')


def place(row):
    return 'tmpfs' if row.get('storage') == 'tmpfs' else 'disk'


def is_ours(row):
    return row.get('ours', row.get('peer') in ('serve', 'sluiced'))


def speaks_http(row):
    return row.get('peer') in ('sluiced', 'nginx')


def plain(report):
    """The same results with one name for each way: loads are a column, not a part of the name."""
    report = copy.deepcopy(report)
    for case in report['cases']:
        for row in case['rows']:
            row['way'] = re.sub(r' at \d+%$', '', row['way'])
    return report


def tried(case):
    """The ways of a case, those that could not run too. What shows a limit is not one of them."""
    return [row for row in case['rows'] if row.get('peer') != 'sink']


def rows_of(case):
    """The ways of a case that have figures."""
    return [row for row in tried(case) if not row.get('unavailable')]


def points_tried(case):
    """Way -> where it was tried: (size, connections)."""
    found = {}
    for row in tried(case):
        found.setdefault(row['way'], set()).add((row.get('object_bytes') or 0,
                                                 row.get('connections') or 0))
    return found


def ways_of(report):
    """Every way once, ours first, then in the order of the run: the order of legends."""
    rows = [row for case in report['cases'] for row in rows_of(case)]
    rows.sort(key=lambda row: not is_ours(row))
    return list(dict.fromkeys(row['way'] for row in rows))


def ratio(a, b):
    return a / b if a is not None and b else None


class Group(NamedTuple):
    """Rows of one case that may be compared: the same place and the same promise."""
    where: str
    durable: bool
    promises: bool  # whether any row of the case is durable
    rows: list

    def label(self, row=None):
        """`row`: one that is compared with ours; a weaker promise of theirs is said."""
        if self.where == 'none':
            return 'without disk'
        if self.where == 'tmpfs' or not self.promises:
            return self.where
        if not self.durable:
            return f'{self.where}, no sync'
        weaker = row is not None and not row.get('durable')
        return f'{self.where}, durable before the answer' + (', theirs without a sync' * weaker)


def groups(case):
    found = {}
    for row in rows_of(case):
        # Frames are compared on each storage: on a disk too the kind of write is the subject.
        where = row.get('storage') if case.get('case') == 'framed' else place(row)
        durable = where == 'disk' and bool(row.get('durable'))
        found.setdefault((where, durable), []).append(row)
    weaker = found.get(('disk', False), [])
    if ('disk', True) in found and not any(is_ours(row) for row in weaker):
        # Nothing of ours promises as little: better beside the durable ways than beside none.
        found['disk', True] += found.pop(('disk', False), [])
    promises = any(row.get('durable') for row in rows_of(case))
    return [Group(*key, promises, rows) for key, rows in sorted(found.items())]


def same_point(row, other):
    """Whether two rows did the same work."""
    return (row.get('object_bytes') == other.get('object_bytes')
            and connections_of(row) == connections_of(other) and load_of(row) == load_of(other))


def ours_for(row, rows):
    """The row that stands for us beside this one: sluiced where that speaks HTTP too, else what the
    planner takes by itself, else the first of ours in the run.

    Never the best of several at each point, which would be picking.
    """
    mine = [r for r in rows if is_ours(r) and same_point(r, row)]
    alike = [r for r in mine if speaks_http(r) == speaks_http(row)] or mine
    by_itself = [r for r in alike if r['way'].split(',')[0] in ('sluice', 'sluice auto')]
    return (by_itself or alike or [None])[0]


def limits_at(case, row):
    """Network and disk alone at the work of this row, or else of the whole case."""
    each = [one for one in case.get('limits') or [] if all(
        one.get(key) == row.get(key) for key in ('object_bytes', 'connections'))]
    return (each or [case.get('limit') or {}])[0]


def limit_of(case, row):
    """MiB/s that network and disk alone allow, and the CPU s/GiB that both together cost."""
    limit = limits_at(case, row)
    rates = [limit.get('network_mib_per_second')]
    rates += [limit.get('disk_mib_per_second')] if place(row) == 'disk' else []
    costs = [limit.get('network_cpu_s_per_gib'), limit.get('disk_cpu_s_per_gib')]
    known = [r for r in rates if r]
    return (min(known) if known else None,
            sum(costs) if None not in costs else None)


def case_named(report, name):
    return next((c for c in report['cases'] if c['case'] == name), None)


def bytes_per_connection(row):
    return first_figure(row, 'bytes_per_connection', 'user_bytes_per_connection',
                        'memory_bytes_per_connection', 'rss_bytes_per_connection')


def shown(value, digits=3):
    """`digits` digits that matter; n/a for what was not counted."""
    if value is None:
        return 'n/a'
    if value == 0:
        return '0'
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f'{value:,.{min(decimals, 6)}f}'


def shown_bytes(count):
    if count is None:
        return 'n/a'
    for unit, size in (('GiB', GIB), ('MiB', MIB), ('KiB', 1 << 10)):
        if count >= size:
            return f'{count / size:.4g} {unit}'
    return f'{count:.4g} B'


def point_of(row):
    if not row.get('object_bytes'):
        return f'{connections_of(row):,.0f} connections' if connections_of(row) else 'all'
    load = '' if load_of(row) is None else f' at {load_of(row):.0%}'
    return f'{shown_bytes(row["object_bytes"])} x {connections_of(row) or 1:,.0f}{load}'


def table(heads, rows):
    """A Markdown table; text to the left, figures to the right."""
    def escaped(cells):
        return [str(cell).replace('|', '\\|') for cell in cells]
    numeric = [all(re.fullmatch(r'[\d,.]+|n/a|', str(row[at])) for row in rows)
               for at in range(len(heads))]
    lines = ['| ' + ' | '.join(escaped(heads)) + ' |',
             '|' + '|'.join('---:' if right else '---' for right in numeric) + '|']
    return lines + ['| ' + ' | '.join(escaped(row)) + ' |' for row in rows]
