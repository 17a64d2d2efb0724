"""The Markdown page of a run: tables, goals, pictures."""

import json
import pathlib

from bench_report import gnuplot
from bench_report.judge import goals, wins_and_losses
from bench_report.method import grid, method
from bench_report.pictures import copies_plot, plots_of
from bench_report.plain_loops import plain_loops_section
from bench_report.rows import (figure, groups, limit_of, limits_at, load_of, objects_per_second,
                               ours_for, plain, ratio, rows_of, shown, shown_bytes, table,
                               throughput, title_of, tried, ways_of)

# ---- tables

# (head, figure) of the first table of a point; the rest of what was counted is in the second.
SPEED = [
    ('MiB/s', throughput),
    ('IQR', lambda r: throughput(r, 'iqr')),
    ('of the limit', None),  # needs the case
    ('CPU s/GiB, process', lambda r: figure(r, 'cpu_s_per_gib.process')),
    ('CPU of the limit', lambda r: figure(r, 'of_limit.cpu')),  # where any row has it
    ('CPU s/GiB, machine', lambda r: figure(r, 'cpu_s_per_gib.machine')),
]
OBJECT_RATES = ('durable', 'gets')
IN_FIRST_TABLE = {'seconds', 'mib_per_second', 'cpu_s_per_gib.process', 'cpu_s_per_gib.machine',
                  'requests_per_second', 'objects_per_second', 'offered_share',
                  'idle_connections'}
# Said in other columns, or the same for every row.
LEFT_OUT = {'of_limit', 'of_best_peer', 'copies_measured', 'requests', 'bytes'}
# What a reader looks for comes first; the rest in the order of the data.
FIRST = ['start_ms', 'p50_us', 'p99_us', 'p99_9_us', 'max_us', 'offered_per_second',
         'bytes_per_connection']


def names_in(figures, before=''):
    """The dotted names of all figures."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from names_in(value, f'{before}{name}.')
        else:
            yield before + name


def figure_names(case):
    """What this case's rows count beside the figures of the first table."""
    names = dict.fromkeys(n for row in rows_of(case) for n in names_in(row.get('median') or {}))
    names = [n for n in names if n not in IN_FIRST_TABLE and n.split('.')[0] not in LEFT_OUT]
    return [n for n in FIRST if n in names] + [n for n in names if n not in FIRST]


def columns_of(case):
    """(head, figure) of both tables: speed and cost, then everything else that was counted."""
    rows = rows_of(case)
    rest = [(name.replace('p99_9', 'p99.9').replace('_', ' '), lambda r, name=name: figure(r, name))
            for name in figure_names(case)]
    rest += [('copies, measured', lambda r: r.get('copies_measured')),
             ('copies, by receipt', lambda r: (r.get('receipt') or {}).get('copies'))]
    if case['case'] in ('idle', 'start', 'latency') or not any(
            throughput(r) is not None or objects_per_second(r) is not None for r in rows):
        return rest[:-2] or rest, []
    speed = [(head, value or (lambda r: ratio(throughput(r), limit_of(case, r)[0])))
             for head, value in SPEED
             if head != 'CPU of the limit' or any(value(r) is not None for r in rows)]
    if case['case'] in OBJECT_RATES:
        speed.insert(0, ('objects/s', objects_per_second))
    return speed, rest


def points_of(case):
    """Rows that did the same work, in the order of the run."""
    found = {}
    for row in tried(case):
        key = (row.get('object_bytes') or 0, row.get('connections') or 0)
        found.setdefault(key, []).append(row)
    return found


def point_title(key):
    size, connections = key
    plural = '' if connections == 1 else 's'
    return ', '.join(([f'{shown_bytes(size)}'] if size else [])
                     + ([f'{connections:,} connection{plural}'] if connections else []))


def ratio_to_ours(case, row):
    group = next(g for g in groups(case) if any(r is row for r in g.rows))
    ours = ours_for(row, group.rows)
    if ours is None or ours is row:
        return '' if ours is row else 'n/a'
    return shown(ratio(objects_per_second(row), objects_per_second(ours)))


def way_cells(row):
    return [row['way'], row.get('storage') or 'n/a', 'yes' if row.get('durable') else 'no']


def rows_with(columns, rows):
    return [way_cells(r) + [shown(value(r)) for _, value in columns] for r in rows]


def point_tables(case, rows):
    """The tables of one point, with the reason for each row that has no figures."""
    able = sorted((r for r in rows if not r.get('unavailable')), key=lambda r: load_of(r) or 0)
    speed, rest = columns_of(case)
    if any(load_of(r) is not None for r in able):
        speed = [('load', load_of), *speed]
    heads = ['way', 'storage', 'durable'] + [head for head, _ in speed]
    body = rows_with(speed, able)
    if rest:
        heads.append('throughput / ours')
        body = [cells + [ratio_to_ours(case, row)] for cells, row in zip(body, able)]
    text = [*table(heads, body), ''] if able else []
    counted = [(head, value) for head, value in rest if any(value(r) is not None for r in able)]
    not_counted = [head for head, value in rest if (head, value) not in counted]
    if counted and able:
        text += ['<details><summary>What was counted</summary>', '',
                 *table(['way', 'storage', 'durable'] + [head for head, _ in counted],
                        rows_with(counted, able)), '']
        text += [f'n/a: {", ".join(not_counted)}.', ''] if not_counted else []
        text += ['</details>', '']
    text += [line for r in rows if r.get('unavailable')
             for line in (f'{r["way"]}: n/a, {r["unavailable"]}.', '')]
    wrong = differing(rows)
    return text + ([f'**Bytes differed**: {", ".join(wrong)}.', ''] if wrong else [])


def differing(rows):
    """Ways whose bytes were not as sent; a sink keeps none that could be compared."""
    return [r['way'] for r in rows if r.get('verified') is False and not r.get('unavailable')
            and r.get('peer') != 'sink']


def limits_text(limit):
    if not limit:
        return []
    iperf3 = limit.get('iperf3_mib_per_second')
    stream = '' if iperf3 is None else f'; one stream of iperf3 {shown(iperf3)} MiB/s'
    return [f'Limits: network alone {shown(limit.get("network_mib_per_second"))} MiB/s at '
            f'{shown(limit.get("network_cpu_s_per_gib"))} CPU s/GiB, disk alone '
            f'{shown(limit.get("disk_mib_per_second"))} MiB/s at '
            f'{shown(limit.get("disk_cpu_s_per_gib"))} CPU s/GiB{stream}.', '']


def copies_unmeasured(case):
    """Why no row of a case has measured copies; nothing where one has, or nobody said why."""
    measured = any(row.get('copies_measured') is not None for row in case['rows'])
    return None if measured else case.get('copies_unavailable')


# ---- sections

def machine_section(report):
    machine = report.get('machine') or {}
    names = [('kernel', machine.get('kernel')), ('CPUs', machine.get('cpus')),
             ('memory', shown_bytes(machine.get('memory_bytes'))),
             ('filesystem', machine.get('filesystem')), ('counters', machine.get('counters'))]
    versions = [[name, version or 'n/a'] for name, version in
                sorted((report.get('versions') or {}).items())]
    return ['## Machine and versions', '',
            *table(['', 'this run'], [[n, v if v is not None else 'n/a'] for n, v in names]), '',
            *(table(['program', 'version'], versions) + [''] if versions else [])]


def goals_section(report, folder):
    rows = [[g.wanted, g.measured, g.verdict()] for g in goals(report)]
    if not rows:
        return []
    beside = {'shortfalls.md': 'What we are short of, and why',
              'improvements.md': 'What these figures had us change, before and after'}
    links = [f'{text}: [{name}]({name}).' for name, text in beside.items()
             if (folder / name).exists()]
    return ['## Goals', '', *table(['goal', 'measured', ''], rows), '',
            *(line for link in links for line in (link, ''))]


NOISE = [('A / A, throughput', 'a_a_ratio'), ('A / A, CPU of the process', 'a_a_cpu_ratio'),
         ('A / A, CPU of the machine', 'a_a_machine_cpu_ratio')]


def noise_section(report):
    floors = [(case['case'], case.get('noise') or {}) for case in report['cases']]
    columns = [(head, name) for head, name in NOISE
               if name == 'a_a_ratio' or any(floor.get(name) is not None for _, floor in floors)]
    rows = [[case, *(shown(floor.get(name)) for _, name in columns), noise_of(floor)]
            for case, floor in floors]
    return ['## Noise floor', '',
            'The same way against itself, as if it were two, the larger median over the smaller: a '
            'difference below this is none. It is measured at one point of a case.', '',
            *table(['case', *(head for head, _ in columns), 'of'], rows), '']


def noise_of(floor):
    """The way and the point that were measured twice."""
    point = point_title((floor.get('object_bytes') or 0, floor.get('connections') or 0))
    return ', '.join(part for part in (floor.get('way'), point) if part)


def pictures_section(plots, undrawn):
    drawn = [f'![{p.title}]({p.name}.svg)' for p in plots if p.name not in undrawn]
    return [line for picture in drawn for line in (picture, '')]


def case_section(case, plots, undrawn):
    text = [f'## {title_of(case["case"])}', '']
    if case.get('error'):
        text += [f'This case did not finish: {case["error"]}.', '']
    text += [line for note in case.get('notes') or [] for line in (f'{note}.', '')]
    if not case['rows']:
        return text + ['No figures.', '']
    why = copies_unmeasured(case)
    text += [f'Copies were not measured: {why}.', ''] if why else []
    text += grid(case) + wins_and_losses(case) + pictures_section(plots, undrawn)
    for key, rows in points_of(case).items():
        title = point_title(key)
        text += [f'### {title}', ''] if title else []
        text += point_tables(case, rows) + limits_text(limits_at(case, rows[0]))
    return text


def copies_section(report, plots, undrawn):
    if not plots:
        return []
    text = ['## Copies', '', 'What the kernel copied for each byte of payload, and what our '
            'receipts say; a difference is a defect of the receipt.', '']
    for case in report['cases']:
        why = copies_unmeasured(case) if case['case'] in ('receive', 'send') else None
        text += [f'{case["case"]}: not measured: {why}.', ''] if why else []
    return text + pictures_section(plots, undrawn)


def settings_section(report):
    """How each way was started, once."""
    commands = {}
    for case in report['cases']:
        for row in case['rows']:
            if row.get('command'):
                commands.setdefault(row['way'], ' '.join(row['command']))
    if not commands:
        return []
    return ['## Settings', '', 'How each way was started; the fair settings of each peer stand on '
            'top of its source in `tools/bench-peers/`, nginx has one worker and the '
            'configuration that `tools/sluice-bench/` writes.', '',
            *table(['way', 'command'], [[w, f'`{c}`'] for w, c in commands.items()]), '']


def begun(run):
    """When, and with which state of the source: of a report, or of a case by its own command."""
    when = run.get('started') or 'n/a'
    return f'{when}, revision {run["revision"] or "n/a"}' if 'revision' in run else when


def measured_apart(report):
    """Cases that another run has brought, which says so in the case."""
    runs = {}
    for case in report['cases']:
        if case.get('command'):
            run = (' '.join(case['command']), begun(case))
            runs.setdefault(run, []).append(case)
    if not runs:
        return []
    everything = all(case.get('command') for case in report['cases'])
    lines = ['', 'Each case by a command of its own, one after the other on the same machine:'
             if everything else 'Not of that run, but measured apart, on the same machine:', '']
    for (command, when), cases in runs.items():
        names = ', '.join(case['case'] for case in cases)
        lines.append(f'- {names}: `{command}`, begun {when}')
    return lines


def write(report, folder):
    """README.md, results.json and the pictures; returns the names of pictures not drawn."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'results.json').write_text(json.dumps(report) + '\n')
    report = plain(report)
    by_case = {case['case']: plots_of(case) for case in report['cases']}
    copies = list(copies_plot(report))
    undrawn = gnuplot.draw([p for plots in by_case.values() for p in plots] + copies, folder,
                               ways_of(report))
    command = ' '.join(report.get('bench_command') or report.get('command') or ['n/a'])
    page = ['# sluice-bench: results', '', f'    {command}', '',
            f'Begun {begun(report)}. The data: [results.json](results.json).',
            *measured_apart(report), '', *method(report), *goals_section(report, folder),
            *machine_section(report),
            *noise_section(report), *plain_loops_section(report)]
    for case in report['cases']:
        page += case_section(case, by_case[case['case']], undrawn)
    page += copies_section(report, copies, undrawn) + settings_section(report)
    if undrawn:
        page += [f'Not drawn (no gnuplot, or it failed): {", ".join(undrawn)}.', '']
    (folder / 'README.md').write_text('\n'.join(page).rstrip('\n') + '\n')
    return undrawn


def read(path):
    try:
        report = json.loads(pathlib.Path(path).read_text())
    except ValueError as problem:
        raise ValueError(f'{path}: {problem}') from problem
    if not isinstance(report, dict) or report.get('schema') != 1:
        raise ValueError(f'{path}: not a result of sluice-bench, schema 1')
    return report
