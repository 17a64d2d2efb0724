"""What the rows say: the goals, met or short of, and wins and losses against each way."""

from typing import NamedTuple

from bench_report.plain_loops import PAIRS, costs, worst
from bench_report.rows import (bytes_per_connection, case_named, connections_of, figure, groups,
                               is_ours, limit_of, objects_per_second, ours_for, place, plain,
                               point_of, ratio, rows_of, shown, shown_bytes, speaks_http, table,
                               throughput)


class Goal(NamedTuple):
    wanted: str
    measured: str
    met: bool | None  # None: not measured, or with too little to judge by

    def verdict(self):
        if self.met is None:
            return 'not measured' if self.measured == 'n/a' else 'too small to judge'
        return 'met' if self.met else 'short of'


# Smaller objects say nothing of 1 GiB.
BULK_BYTES = 256 << 20


def bulk_rows(rows):
    """Those on disk with the largest objects, over one connection if there are such."""
    rows = [r for r in rows if place(r) == 'disk']
    largest = max((r.get('object_bytes') or 0 for r in rows), default=0)
    rows = [r for r in rows if (r.get('object_bytes') or 0) == largest]
    fewest = min((r.get('connections') or 0 for r in rows), default=0)
    return [r for r in rows if (r.get('connections') or 0) == fewest]


def goal(wanted, value, most=None, least=None, of=''):
    if value is None:
        return Goal(wanted, 'n/a', None)
    met = (most is None or value <= most) and (least is None or value >= least)
    return Goal(wanted, f'{shown(value)}{of}', met)


def receive_goals(case):
    rows = bulk_rows([r for r in rows_of(case) if r.get('durable')])
    ours = next((ours_for(r, rows) for r in rows if not speaks_http(r)), None)
    if ours is None:
        return []
    size = shown_bytes(ours.get('object_bytes'))
    rate, cost = limit_of(case, ours)
    of = f' ({ours["way"]}, {size})'
    large = (ours.get('object_bytes') or 0) >= BULK_BYTES
    found = [
        goal('1 GiB receive, durable: throughput at least 0.9 of the limit line',
             ratio(throughput(ours), rate), least=0.9, of=of),
        goal('1 GiB receive, durable: CPU at most 1.2 times network alone + disk alone',
             ratio(figure(ours, 'cpu_s_per_gib.process'), cost), most=1.2, of=of)]
    nginx = next((r for r in rows if r['way'].startswith('nginx')), None)
    wanted = "1 GiB receive: at least 3 times nginx's PUT throughput or a third of its CPU"
    if nginx is None:
        found.append(Goal(wanted, 'n/a', None))
    else:
        speed = ratio(throughput(ours), throughput(nginx))
        cpu = ratio(figure(ours, 'cpu_s_per_gib.process'), figure(nginx, 'cpu_s_per_gib.process'))
        known = [value for value in (speed, cpu) if value is not None]
        met = (speed or 0) >= 3 or (cpu is not None and cpu <= 1 / 3)
        text = f'{shown(speed)} times the throughput, {shown(cpu)} of the CPU{of}'
        found.append(Goal(wanted, text, met) if known else Goal(wanted, 'n/a', None))
    calls = figure(ours, 'syscalls_per_mib')
    found.append(goal('less than 0.05 system calls per 16 KiB of bulk payload',
                      None if calls is None else calls / 64, most=0.05, of=of))
    return found if large else [g._replace(met=None) for g in found]


def get_goals(case):
    wanted = '16 KiB GETs over keep-alive, 32 connections: at least nginx with one worker'
    rows = [r for r in rows_of(case) if r.get('object_bytes') == 16384]
    pairs = [(a, b) for a in rows if is_ours(a) for b in rows
             if b['way'].startswith('nginx') and b.get('connections') == a.get('connections')]
    if not pairs:
        return []
    ours, nginx = min(pairs, key=lambda p: (abs((p[0].get('connections') or 0) - 32),
                                            'sluiced' not in p[0]['way']))
    return [goal(wanted, ratio(objects_per_second(ours), objects_per_second(nginx)), least=1,
                 of=f' times nginx ({ours["way"]}, {ours.get("connections")} connections)')]


def bulk_get_goals(case):
    rows = bulk_rows([r for r in rows_of(case) if speaks_http(r)])
    ours = next((r for r in rows if is_ours(r)), None)
    if ours is None:
        return []
    nginx = next((r for r in rows if not is_ours(r)), {})
    of = f" of nginx's ({ours['way']}, {shown_bytes(ours.get('object_bytes'))})"
    cpu = 'cpu_s_per_gib.process'
    found = [goal("GET of a 1 GiB cached file: CPU per GiB at most nginx's",
                  ratio(figure(ours, cpu), figure(nginx, cpu)), most=1, of=of),
             goal("GET of a 1 GiB cached file: throughput at least 0.95 of nginx's",
                  ratio(throughput(ours), throughput(nginx)), least=0.95, of=of)]
    large = (ours.get('object_bytes') or 0) >= BULK_BYTES
    return found if large else [g._replace(met=None) for g in found]


def idle_goals(case):
    rows = [r for r in rows_of(case) if is_ours(r)]
    if not rows:
        return []
    most = max(connections_of(r) or 0 for r in rows)
    ours = next(r for r in rows if (connections_of(r) or 0) == most)
    value = bytes_per_connection(ours)
    of = f' bytes each ({ours["way"]}, {most:,} connections)'
    made = goal('10,000 idle connections: at most 2 KiB of our memory each', value, most=2048,
                of=of)
    # Of fewer the memory that the process has anyway weighs too much.
    return [made if most >= 9000 else made._replace(met=None)]


def framed_goals(case):
    rows = {r['way']: r for r in rows_of(case) if r.get('storage') == 'none'
            and r.get('object_bytes') == 16384 and connections_of(r) == 1}
    ours = rows.get('sluice auto') or rows.get('sluice scatter')
    plain_ways = [rows[way] for way in rows if way.startswith(('contiguous', 'two calls'))]

    def best(name, pick):
        return pick((v for v in (figure(r, name) for r in plain_ways) if v is not None),
                    default=None)
    if ours is None or not plain_ways:
        return []
    of = f' ({ours["way"]})'
    wanted = 'frames of 16 KiB without disk: '
    cpu = ratio(figure(ours, 'cpu_s_per_gib.process'), best('cpu_s_per_gib.process', min))
    return [goal(wanted + 'CPU at most 0.85 of the better of copying and two calls', cpu,
                 most=0.85, of=of),
            goal(wanted + 'throughput at least theirs',
                 ratio(throughput(ours), best('mib_per_second', max)), least=1, of=of)]


def rate_of(rows, way):
    return next((objects_per_second(r) for r in rows if r['way'].startswith(way)), None)


def durable_goals(case):
    rows = [r for r in rows_of(case) if (r.get('object_bytes') or 0) == 16384]
    many = [r for r in rows if connections_of(r) == 64]
    one = [r for r in rows if connections_of(r) == 1]
    if not many and not one:
        return []
    ours, plain_way = rate_of(many, 'sluiced'), rate_of(many, 'recv_write_threads')
    return [goal('durable 16 KiB objects, 64 connections: at least 4 times the plain program',
                 ratio(ours, plain_way), least=4),
            goal("durable 16 KiB objects, 64 connections: at least 0.6 of nginx's, unsynced",
                 ratio(ours, rate_of(many, 'nginx')), least=0.6),
            goal('durable 16 KiB objects, one connection: at least 0.9 of the plain program',
                 ratio(rate_of(one, 'sluiced'), rate_of(one, 'recv_write_threads')), least=0.9)]


def out_of_order_goals(case):
    ours = next((r for r in rows_of(case) if is_ours(r)), None)
    if ours is None:
        return []
    rate, _ = limit_of(case, ours)
    written = figure(ours, 'write_bytes_mean')
    return [goal("16 KiB blocks out of order: at least 0.9 of fio's sequential O_DIRECT rate",
                 ratio(throughput(ours), rate), least=0.9),
            goal('16 KiB blocks out of order: mean write at least 256 KiB',
                 None if written is None else written / 1024, least=256, of=' KiB')]


def counted(number, noun):
    return f'{number:,} {noun}' if number == 1 else f'{number:,} {noun}s'


def relay_goals(case):
    found = []
    for connections in sorted({connections_of(r) for r in rows_of(case)}):
        rows = {r['way']: r for r in rows_of(case) if connections_of(r) == connections}
        ours = rows.get('sluice splice')
        haproxy = next((rows[way] for way in rows if way.startswith('HAProxy')), None)
        if ours is not None:
            theirs = None if haproxy is None else throughput(haproxy)
            load = counted(connections, 'connection')
            found.append(goal(f'relay, {load}: at least 0.9 of HAProxy',
                              ratio(throughput(ours), theirs), least=0.9))
    return found


def torrent_goals(case):
    found = []
    for where in ('disk', 'tmpfs'):
        rows = [r for r in rows_of(case) if place(r) == where]
        ours = next((r for r in rows if is_ours(r)), None)
        theirs = next((r for r in rows if r.get('peer') == 'libtorrent'), None)
        if ours is None or theirs is None:
            continue
        speed = ratio(throughput(ours), throughput(theirs))
        share = ratio(throughput(ours), limit_of(case, ours)[0])
        cpu = ratio(figure(ours, 'cpu_s_per_gib.process'), figure(theirs, 'cpu_s_per_gib.process'))
        begin = f'torrent to {where}: '
        fast = Goal(begin + "at least 2 times libtorrent's rate, or 0.95 of what its seeder sends",
                    f'{shown(speed)} times the rate, {shown(share)} of the seeder',
                    (speed or 0) >= 2 or (share or 0) >= 0.95)
        made = [fast, goal(begin + "at most a third of libtorrent's CPU", cpu, most=1 / 3)]
        large = (ours.get('object_bytes') or 0) >= BULK_BYTES
        found += made if large else [g._replace(met=None) for g in made]
    return found


def plain_loop_goals(case):
    found = costs(case)
    if not found:
        return []
    wanted = (f'{case["case"]}, 256 KiB and more: no path that auto takes over 1.05 of the CPU of '
              'the plain loop of as many copies')
    chosen = [cost for cost in found if cost.by_itself]
    if worst(chosen) is None:
        return [Goal(wanted, 'n/a', None)]
    cost, of, value = worst(chosen)
    level = sum(1 for one in chosen if not one.over())
    return [Goal(wanted, f'{level} of {len(chosen)} within it and the noise; worst {shown(value)}, '
                 f'{of}, {cost.ours} at {cost.point}', level == len(chosen))]


def goals(report):
    report = plain(report)
    found = []
    for name, judge in (('receive', receive_goals), ('gets', get_goals), ('send', get_goals),
                        ('send', bulk_get_goals), ('idle', idle_goals), ('durable', durable_goals),
                        ('out_of_order', out_of_order_goals), ('relay', relay_goals),
                        ('framed', framed_goals), ('torrent', torrent_goals),
                        *((case, plain_loop_goals) for case in PAIRS)):
        case = case_named(report, name)
        made = judge(case) if case else []
        found += [g for g in made if g.wanted not in {f.wanted for f in found}]
    elapsed = report.get('elapsed_seconds')
    if report.get('quick') and elapsed:
        found.append(goal('tools/bench --quick within 10 minutes, the build included',
                          elapsed / 60, most=10, of=' minutes'))
    return found


THROUGHPUT = [('throughput', throughput, True),
              ('CPU per byte, process', lambda r: figure(r, 'cpu_s_per_gib.process'), False),
              ('CPU per byte, machine', lambda r: figure(r, 'cpu_s_per_gib.machine'), False)]
OBJECTS = [('objects/s', objects_per_second, True), *THROUGHPUT[1:]]
# What to compare the ways of a case by: (name, figure, whether more is better).
RIVALRY = {
    'durable': OBJECTS,
    'gets': OBJECTS,
    'latency': [(name, lambda r, key=key: figure(r, key), False)
                for name, key in (('p50', 'p50_us'), ('p99', 'p99_us'), ('p99.9', 'p99_9_us'))],
    'idle': [('memory', bytes_per_connection, False)],
    'start': [('start', lambda r: figure(r, 'start_ms'), False)],
}


def duels(case):
    """(theirs, ours, group, name, ratio, more is better) for each figure both have."""
    for group in groups(case):
        for row in group.rows:
            ours = ours_for(row, group.rows)
            if is_ours(row) or ours is None:
                continue
            for name, value, more_is_better in RIVALRY.get(case['case'], THROUGHPUT):
                quotient = ratio(value(ours), value(row))
                if quotient is not None:
                    yield row, ours, group, name, quotient, more_is_better


def wins_and_losses(case):
    """One table: against each way, how often ahead, how often behind, best and worst."""
    against = {}
    for row, ours, group, name, quotient, more_is_better in duels(case):
        key = (row['way'], ours['way'], group.label(row), name, more_is_better)
        against.setdefault(key, []).append((quotient, point_of(row)))
    rows = []
    for (theirs, ours, label, name, more_is_better), values in against.items():
        values.sort(reverse=more_is_better)
        above = sum(1 for quotient, _ in values if quotient > 1)
        below = sum(1 for quotient, _ in values if quotient < 1)
        won, lost = (above, below) if more_is_better else (below, above)
        (best, best_at), (worst, worst_at) = values[0], values[-1]
        rows.append([theirs, ours, label, name, won, lost, f'{shown(best)} at {best_at}',
                     f'{shown(worst)} at {worst_at}'])
    if not rows:
        return []
    return ['Ours divided by theirs, over all sizes and numbers of connections measured. Of CPU, '
            'memory and time less than 1 is better. Differences below the noise floor count too.',
            '', *table(['against', 'ours', 'where', 'of', 'wins', 'losses', 'best', 'worst'], rows),
            '']
