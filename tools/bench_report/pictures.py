"""Which pictures a run gives: rows to lines and bars. How they are drawn is in gnuplot.py."""

from bench_report.gnuplot import Panel, Plot, Series
from bench_report.rows import (MIB, bytes_per_connection, case_named, connections_of, figure,
                               first_figure, groups, is_ours, limits_at, load_of,
                               objects_per_second, place, points_tried, rows_of, shown_bytes,
                               title_of)


def ways_in(rows):
    return list(dict.fromkeys(row['way'] for row in rows))


def has_values(series):
    return any(point[1] is not None for one in series for point in one.points)


def lines(rows, x_of, y_of, iqr=None):
    """One line for each way; `iqr` names the figure whose spread is drawn."""
    series = []
    for way in ways_in(rows):
        points = []
        for row in sorted((r for r in rows if r['way'] == way and x_of(r) is not None), key=x_of):
            y = y_of(row)
            half = (figure(row, iqr, 'iqr') or 0) / 2 if iqr and y is not None else 0
            # Not to 0, which a logarithmic axis cannot show.
            points.append((x_of(row), y, *((max(y - half, y / 10), y + half) if half
                                           else (None, None))))
        series.append(Series(way, points))
    return series


# ---- throughput and CPU against size and connections

METRICS = [('throughput', 'mib_per_second', 'MiB/s'),
           ('cpu', 'cpu_s_per_gib.process', 'CPU s/GiB, the serving process'),
           ('cpu-machine', 'cpu_s_per_gib.machine', 'CPU s/GiB, the whole machine')]


def size_of(row):
    return row.get('object_bytes') or None


def by_size(rows):
    """(rows, tics, what is fixed) with each size once: at one number of connections that has all
    sizes, else at the fewest that each size was run with."""
    sizes = {size_of(r) for r in rows} - {None}
    for connections in sorted({connections_of(r) or 0 for r in rows}):
        some = [r for r in rows if (connections_of(r) or 0) == connections]
        if {size_of(r) for r in some} >= sizes:
            plural = '' if connections == 1 else 's'
            return some, {s: shown_bytes(s) for s in sizes}, f'{connections:,} connection{plural}'
    fewest = {s: min(connections_of(r) or 1 for r in rows if size_of(r) == s) for s in sizes}
    some = [r for r in rows if size_of(r) and (connections_of(r) or 1) == fewest[size_of(r)]]
    tics = {s: f'{shown_bytes(s)} x {n:,}' for s, n in fewest.items()}
    return some, tics, 'size x connections'


def by_connections(rows):
    """(rows, tics, what is fixed) at the largest size with the most numbers of connections."""
    best = []
    for size in sorted({size_of(r) for r in rows} - {None}, reverse=True):
        some = [r for r in rows if size_of(r) == size and connections_of(r)]
        if len({connections_of(r) for r in some}) > len({connections_of(r) for r in best}):
            best = some
    tics = {connections_of(r): f'{connections_of(r):,}' for r in best}
    return best, tics, f'objects of {shown_bytes(size_of(best[0]))}' if best else ''


def limit_lines(case, rows, x_of, where):
    names = [('network alone', 'network_mib_per_second'), ('disk alone', 'disk_mib_per_second')]
    points = {x_of(row): limits_at(case, row) for row in rows if x_of(row) is not None}
    series = [Series(label, [(x, points[x].get(name), None, None) for x in sorted(points)])
              for label, name in (names if where == 'disk' else names[:1])]
    return [one for one in series if has_values([one])]


def suffix_of(group):
    if group.where != 'disk':
        return '-' + {'none': 'no-disk'}.get(group.where, group.where.replace(' ', '-'))
    return '-no-sync' if group.promises and not group.durable else ''


def everywhere(case, rows):
    """Without the ways that are samples: lines of few points would hide the others."""
    points = {(r.get('object_bytes') or 0, r.get('connections') or 0) for r in rows}
    found = points_tried(case)
    return [r for r in rows if points <= found[r['way']]]


def transfer_plots(case):
    name = case['case']
    size_label = 'payload of each frame' if name == 'framed' else 'object size'
    for group in groups(case):
        for what, choose, x_of, x_label in (('size', by_size, size_of, size_label),
                                            ('connections', by_connections, connections_of,
                                             'connections')):
            rows, tics, fixed = choose(everywhere(case, group.rows))
            if len(tics) < 2:
                continue
            for metric, path, label in METRICS:
                series = lines(rows, x_of, lambda r, path=path: figure(r, path), path)
                if has_values(series):
                    limits = limit_lines(case, rows, x_of, group.where)
                    yield Plot(f'{name}-{metric}-by-{what}{suffix_of(group)}',
                               f'{title_of(name)}; {group.label()}; {fixed}', x_label, label,
                               [Panel('', series)], tics, True,
                               limits if metric == 'throughput' else [])


# ---- the other cases

def objects_plots(case):
    for group in groups(case):
        rows, tics, fixed = by_connections(group.rows)
        series = lines(rows, connections_of, objects_per_second)
        if not has_values(series):
            continue
        title = f'{title_of(case["case"])}; {fixed}, {group.where}'
        if len(tics) > 1:
            yield Plot(case['case'] + suffix_of(group), title, 'concurrent connections',
                       'objects/s', [Panel('', series)], tics, True)
        else:
            yield Plot(case['case'] + suffix_of(group), title, 'objects/s', '',
                       bars=[(one.label, [one.points[0][1]]) for one in series],
                       legend=['objects/s'])


PERCENTILES = [('p50', 'p50_us'), ('p99', 'p99_us'), ('p99.9', 'p99_9_us')]


def latency_plots(case):
    for group in groups(case):
        rows = [r for r in group.rows if load_of(r) is not None]
        panels = [Panel(title, lines(rows, load_of, lambda r, name=name: figure(r, name), name))
                  for title, name in PERCENTILES]
        panels = [panel for panel in panels if has_values(panel.series)]
        if panels:
            yield Plot(f'latency{suffix_of(group)}',
                       f'Latency at a share of the maximum of each way; {group.label()}', 'load',
                       'us from the scheduled start', panels,
                       {load_of(r): f'{load_of(r):.0%}' for r in rows})


def idle_memory(row):
    """MiB of the whole process, or of all connections where only each is known."""
    total, each = first_figure(row, 'rss_bytes', 'memory_bytes'), bytes_per_connection(row)
    if total is None and each is not None and connections_of(row):
        total = each * connections_of(row)
    return None if total is None else total / MIB


def idle_plots(case):
    rows = [r for r in rows_of(case) if connections_of(r)]
    counts = sorted({connections_of(r) for r in rows})
    series = lines(rows, connections_of, idle_memory)
    if len(counts) > 1 and has_values(series):
        yield Plot('idle-memory', 'Memory with idle connections', 'connections', 'MiB',
                   [Panel('', series)], {x: f'{x:,.0f}' for x in counts}, True)
    bars = [(r['way'], [bytes_per_connection(r)]) for r in rows if connections_of(r) == counts[-1]]
    if any(values[0] is not None for _, values in bars):
        yield Plot('idle-each', f'Memory of each of {counts[-1]:,.0f} idle connections',
                   'bytes for each connection', '', bars=bars, legend=['bytes'])


def start_plots(case):
    bars = [(r['way'], [figure(r, 'start_ms')]) for r in rows_of(case)]
    if any(values[0] is not None for _, values in bars):
        yield Plot('start', 'From exec to listening', 'ms', '', bars=bars, legend=['ms'])


def copies_plot(report):
    """One bar for each way of receive and send, at its largest size."""
    bars = {}
    for name in ('receive', 'send'):
        case = case_named(report, name)
        rows = rows_of(case) if case else []
        for row in sorted(rows, key=lambda r: r.get('object_bytes') or 0):
            claimed = (row.get('receipt') or {}).get('copies')
            measured = row.get('copies_measured')
            label = f'{name}: {row["way"]}'
            if place(row) == 'tmpfs' and 'tmpfs' not in label:
                label += ', tmpfs'
            if (measured, claimed) != (None, None) or (is_ours(row) and label not in bars):
                bars[label] = [measured, claimed]
    if any(value is not None for bar in bars.values() for value in bar):
        bars = sorted(bars.items(), key=lambda bar: bar[0].split(':')[0] != 'receive')
        yield Plot('copies', 'Copies by the CPU for each byte of payload', 'copies per byte', '',
                   bars=bars, legend=['measured', 'by the receipt'])


DRAWN = {'durable': objects_plots, 'gets': objects_plots, 'latency': latency_plots,
         'idle': idle_plots, 'start': start_plots}


def plots_of(case):
    return list(DRAWN.get(case['case'], transfer_plots)(case))
