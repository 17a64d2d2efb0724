"""Before and after: two runs row by row."""

from bench_report.rows import (connections_of, figure, load_of, plain, ratio, rows_of, shown,
                               shown_bytes)

COMPARED = [('MiB/s', 'mib_per_second', True), ('objects/s', 'requests_per_second', True),
            ('CPU s/GiB', 'cpu_s_per_gib.process', False), ('p99 us', 'p99_us', False),
            ('start ms', 'start_ms', False),
            ('bytes each', 'bytes_per_connection', False)]


def key_of(case, row):
    return (case['case'], row['way'], row.get('storage'), bool(row.get('durable')),
            row.get('object_bytes'), connections_of(row), load_of(row))


def by_key(report):
    return {key_of(case, row): row for case in report['cases'] for row in rows_of(case)}


def compare(old, new):
    """Lines of before and after for every row that both have; `~` is within the spread."""
    before, after = by_key(plain(old)), by_key(plain(new))
    text = [f'{"case, way, storage, size x connections":66} {"figure":>10} {"before":>10} '
            f'{"after":>10} {"ratio":>7}']
    for key in (k for k in after if k in before):
        case, way, storage, durable, size, connections, load = key
        point = f'{shown_bytes(size or None)} x {connections or 1:.0f}'
        point += f' at {load:.0%}' if load else ''
        name = f'{case}, {way}, {storage or "n/a"}{", durable" if durable else ""}, {point}'
        for label, path, more_is_better in COMPARED:
            a, b = figure(before[key], path), figure(after[key], path)
            told = label == 'objects/s' and case not in ('durable', 'gets')  # by MiB/s
            if (a is None and b is None) or told:
                continue
            change = ratio(b, a)
            spread = max(figure(row, path, 'iqr') or 0 for row in (before[key], after[key]))
            mark = '' if change is None else ' ~' if abs(b - a) <= spread else (
                ' better' if (change > 1) == more_is_better else ' worse')
            text.append(f'{name:66} {label:>10} {shown(a):>10} {shown(b):>10} '
                        f'{shown(change):>7}{mark}')
    missing = len(set(before) ^ set(after))
    if missing:
        text.append(f'{missing} rows are in one of the two only')
    return text
