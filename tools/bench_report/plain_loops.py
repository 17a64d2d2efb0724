"""The rule of 5 %: what each path costs beside the plain loop that copies as often."""

from typing import NamedTuple

from bench_report.rows import (GIB, connections_of, figure, load_of, point_of, ratio, rows_of,
                               shown, table)

LEAST_BYTES = 256 << 10
MOST = 1.05
TICK_SECONDS = 0.01  # what the machine's CPU is counted in

# case -> [(path, the way of ours that takes it, a plain loop of as many copies)]
PAIRS = {
    'receive': [('direct', 'sluice direct', 'recv_direct'),
                ('copy', 'sluice copy', 'recv_write'),
                ('splice', 'sluice splice', 'recv_splice'),
                ('mapped', 'sluice mapped', 'recv_mapped'),
                ('direct', 'sluice direct, pool', 'recv_direct'),
                ('copy', 'sluice copy, pool', 'recv_write'),
                ('splice', 'sluice splice, pool', 'recv_splice'),
                ('mapped', 'sluice mapped, pool', 'recv_mapped'),
                ('copy', 'sluice copy, tmpfs', 'recv_write, tmpfs'),
                ('splice', 'sluice splice, tmpfs', 'recv_splice, tmpfs'),
                ('mapped', 'sluice mapped, tmpfs', 'recv_mapped, tmpfs')],
    'send': [('splice', 'sluice splice', 'send_sendfile'),
             ('copy', 'sluice copy', 'send_read'),
             ('direct', 'sluice direct', 'send_direct'),
             ('splice', 'sluice splice, pool', 'send_sendfile'),
             ('copy', 'sluice copy, pool', 'send_read'),
             ('direct', 'sluice direct, pool', 'send_direct'),
             ('splice', 'sluice splice, tmpfs', 'send_sendfile, tmpfs')],
    'relay': [('splice', 'sluice splice', 'splice in a loop'),
              ('splice', 'sluice splice, pool', 'splice in a loop')],
    'copy': [('copy_file_range', 'sluice, copy_file_range', 'cp'),
             ('copy', 'sluice, read and write', 'cp --reflink=never')],
}


class Cost(NamedTuple):
    """One path at one point: its CPU over the plain loop's, and the most that passes for level."""
    ours: str
    loop: str
    point: str
    by_itself: bool  # the planner takes this path there
    figures: list    # [(of what, ratio or None, most)]

    def over(self):
        return [(of, value, most) for of, value, most in self.figures
                if value is not None and value > most]


def most_of(case, theirs):
    """(of what, name of the figure, most): 5 % and the noise; a tick of a coarse clock besides."""
    noise = case.get('noise') or {}
    machine = figure(theirs, 'cpu_s_per_gib.machine')
    seconds = None if machine is None else machine * (theirs.get('bytes') or 0) / GIB
    return [('process', 'cpu_s_per_gib.process', MOST * (noise.get('a_a_cpu_ratio') or 1)),
            ('machine', 'cpu_s_per_gib.machine', MOST * (noise.get('a_a_machine_cpu_ratio') or 1)
             + (ratio(TICK_SECONDS, seconds) or 0))]


def taken(rows, way):
    """The row in which the planner chose, in the same place as this way: by pool as by ring."""
    end = ', tmpfs' * way.endswith(', tmpfs')
    return next((rows[name + end] for name in ('sluice auto', 'sluice') if name + end in rows), {})


def costs(case):
    """Of every path that has a plain loop, at every point that is large enough for the rule."""
    points = {}
    for row in rows_of(case):
        if (row.get('object_bytes') or 0) >= LEAST_BYTES and load_of(row) is None:
            key = (row['object_bytes'], connections_of(row) or 1)
            points.setdefault(key, {})[row['way']] = row
    found = []
    for rows in points.values():
        for path, way, loop in PAIRS.get(case['case'], []):
            auto = taken(rows, way)
            by_itself = (auto.get('receipt') or {}).get('path') == path
            # The row of path auto stands for a way that was not measured by itself.
            ours = rows.get(way) or (auto if by_itself and ', pool' not in way else None)
            if ours and loop in rows:
                theirs = rows[loop]
                found.append(Cost(way, loop, point_of(theirs), by_itself, [
                    (of, ratio(figure(ours, name), figure(theirs, name)), most)
                    for of, name, most in most_of(case, theirs)]))
    return found


def worst(some):
    """The figure that is nearest to its limit or most over it: (its Cost, of what, ratio)."""
    known = [(value / most, cost, of, value) for cost in some
             for of, value, most in cost.figures if value is not None]
    return max(known, key=lambda one: one[0])[1:] if known else None


def cell(cost):
    def marked(value, most):
        return f'**{shown(value)}**' if value is not None and value > most else shown(value)
    figures = ', '.join(marked(value, most) for _, value, most in cost.figures)
    return f'auto: {figures}' if cost.by_itself else figures


def case_table(case, found):
    points = list(dict.fromkeys(cost.point for cost in found))
    rows = {}
    for cost in found:
        rows.setdefault((cost.ours, cost.loop), {})[cost.point] = cell(cost)
    order = [pair[1:] for pair in PAIRS[case['case']] if pair[1:] in rows]
    return table([case['case'], 'plain loop', *points],
                 [[*pair, *(rows[pair].get(point, '') for point in points)] for pair in order])


def plain_loops_section(report):
    tables = [[*case_table(case, found), ''] for case in report['cases']
              for found in [costs(case)] if found]
    if not tables:
        return []
    return ['## Paths beside plain loops', '',
            'The CPU of each path over that of the plain loop of as many copies, of the process '
            'and of the machine, from 256 KiB on. **Bold** is more than 1.05 times the noise floor '
            'of the case, if it has one; of the machine, whose clock ticks in 10 ms, a tick more. '
            '*auto*: the planner takes this path there.', '',
            *(line for one in tables for line in one)]
