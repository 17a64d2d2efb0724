"""Pictures of a run of sluice-bench by gnuplot, each as SVG and PNG.

What is null in the data is left out of a line and written n/a at a bar; it is never drawn as 0.
"""

import math
import shutil
import subprocess
from typing import NamedTuple

# Okabe and Ito's colours, told apart by colour-blind readers; dashes and points differ as well.
COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#882255',
           '#8c8c00', '#7f7f7f', '#117733', '#332288']
MISSING = '?'


class Series(NamedTuple):
    label: str
    points: list  # (x, y, low, high); None where it was not counted


class Panel(NamedTuple):
    title: str
    series: list


class Plot(NamedTuple):
    """One picture: lines over x in one or more panels, or bars."""
    name: str
    title: str
    x_label: str
    y_label: str
    panels: list = []
    x_tics: dict = {}    # x: label
    x_log: bool = False
    limits: list = []    # Series drawn as bounds
    bars: list = []      # (label of the row, [value of each legend entry])
    legend: list = []    # of the bars


def quoted(text):
    return '"' + str(text).replace('\\', '\\\\').replace('"', '\\"') + '"'


def number(value):
    return MISSING if value is None else f'{value:.6g}'


def short(value):
    """Three digits that matter, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f'{value:.0f}'
    return f'{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}'


def steps(low, high):
    """1, 2, 5, 10, ... from at most `low` to at least `high`."""
    if high / low > 1001:
        factors = [1]
    else:
        factors = [1, 2, 5]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [f * 10 ** e for e in range(first, last + 1) for f in factors]
    below = [s for s in every if s <= low * 1.0001] or every[:1]
    above = [s for s in every if s >= high * 0.9999] or every[-1:]
    return [s for s in every if below[-1] <= s <= above[0]]


def places_of(labels, order):
    """Which of the looks each way has: the same in every picture unless two would be alike."""
    taken = {}
    for label in labels:
        at = order.index(label) if label in order else 0
        while len(taken) < len(COLOURS) and at % len(COLOURS) in taken.values():
            at += 1
        taken[label] = at % len(COLOURS)
    return taken


def style(label, at, spread=False):
    """Ours are drawn thicker, spreads thin."""
    colour = f'lc rgb "{COLOURS[at]}"'
    if spread:
        return f'{colour} lw 1 dt 1 pt 0'
    points = [7, 5, 9, 11, 13, 4, 6, 8, 10, 12, 1, 2]
    line = 'lw 3 dt 1' if label.startswith('sluice') else f'lw 1.5 dt {1 + at % 5}'
    return f'{colour} {line} pt {points[at]} ps 0.9'


def bound_style(at):
    return f'lc rgb "{["#444444", "#888888"][at % 2]}" lw 2 dt {3 + at % 2}'


def y_axis(values):
    """Logarithmic where the values span more than a decade, else from 0."""
    positive = [v for v in values if v is not None and v > 0]
    if positive and max(positive) / min(positive) > 10:
        tics = steps(min(positive), max(positive))
        named = ', '.join(f'{quoted(f"{t:,.10g}")} {t}' for t in tics)
        return ['set logscale y 10', f'set yrange [{tics[0]}:{tics[-1]}]', f'set ytics ({named})']
    top = max(positive, default=1) * 1.08
    step = next(s for s in steps(top / 1000, top) if s >= top / 7)
    named = ', '.join(f'{quoted(f"{step * n:,.10g}")} {step * n}' for n in range(8))
    return ['unset logscale y', f'set yrange [0:{top:.6g}]', f'set ytics ({named})']


def x_axis(plot):
    lines = [f'set xlabel {quoted(plot.x_label)}',
             'set logscale x 2' if plot.x_log else 'unset logscale x']
    if plot.x_tics:
        # A tic's label is a format to gnuplot.
        tics = ', '.join(f'{quoted(label.replace("%", "%%"))} {x:.10g}'
                         for x, label in sorted(plot.x_tics.items()))
        lines.append(f'set xtics ({tics})' + (' rotate by -35' if len(plot.x_tics) > 7 else ''))
        low, high = min(plot.x_tics), max(plot.x_tics)
        margin = 1.3 if plot.x_log else (high - low) * 0.08 or 1
        lines.append(f'set xrange [{low / margin}:{high * margin}]' if plot.x_log
                     else f'set xrange [{low - margin}:{high + margin}]')
    return lines


def data_block(name, rows):
    return [f'${name} << EOD', *(' '.join(row) for row in rows), 'EOD']


def panel_lines(plot, panel, at, order, with_key):
    lines, spreads, drawn = [], [], []
    looks = places_of([series.label for series in panel.series], order)
    for index, series in enumerate(panel.series):
        block = f'd{at}_{index}'
        lines += data_block(block, [[number(v) for v in point] for point in series.points])
        look = style(series.label, looks[series.label])
        # Unbroken by holes: a size that was not run is no reason to lose the line.
        known = [p for p in series.points if p[1] is not None]
        if not known:
            continue
        title = f'title {quoted(series.label)}' if with_key else 'notitle'
        drawn.append(f'${block} using 1:2 with linespoints {look} {title}')
        if any(p[2] is not None for p in known):
            look = style(series.label, looks[series.label], spread=True)
            spreads.append(f'${block} using 1:2:3:4 with yerrorbars {look} notitle')
    for index, bound in enumerate(plot.limits):
        block = f'l{at}_{index}'
        lines += data_block(block, [[number(v) for v in point[:2]] for point in bound.points])
        title = f'title {quoted(bound.label)}' if with_key else 'notitle'
        drawn.append(f'${block} using 1:2 with lines {bound_style(index)} {title}')
    values = [p[1] for s in [*panel.series, *plot.limits] for p in s.points]
    lines += y_axis(values)
    lines.append(f'set title {quoted(panel.title)}')
    lines.append('plot ' + ', \\\n  '.join(spreads + drawn))  # the points lie on top
    return lines


def line_script(plot, order):
    count = len(plot.panels)
    lines = ['set datafile missing "?"', 'set border 3', 'set tics nomirror',
             'set grid x y lt 1 lw 0.6 lc rgb "#dddddd"', *x_axis(plot),
             f'set ylabel {quoted(plot.y_label)}']
    if count == 1:
        lines.append('set key outside right top vertical Left reverse samplen 3 spacing 1.2')
        # Not a title: that is centred over the axes and cut off where it is wider than they are.
        lines += [f'set label 1 {quoted(plot.title)} at screen 0.01, screen 0.965 left',
                  'set tmargin at screen 0.92']
        one = plot.panels[0]._replace(title='')
        return lines + panel_lines(plot, one, 0, order, True)
    # By hand, so that the panels are equally wide and one legend serves all of them.
    lines.append(f'set multiplot title {quoted(plot.title)} font ",13"')
    lines.append('set key at screen 0.8, screen 0.88 left top vertical Left reverse samplen 3')
    left, right = 0.085, 0.785
    width = (right - left) / count
    for at, panel in enumerate(plot.panels):
        lines += [f'set lmargin at screen {left + at * width:.3f}',
                  f'set rmargin at screen {left + (at + 1) * width - 0.07:.3f}',
                  'set tmargin at screen 0.84', 'set bmargin at screen 0.16']
        lines += panel_lines(plot, panel, at, order, at == 0)
        lines.append('unset ylabel')
    return lines + ['unset multiplot']


def bar_script(plot):
    """Bars lie on their side: the names of the ways are long."""
    rows, entries = len(plot.bars), max(1, len(plot.legend))
    thick = 0.8 / entries
    values = [v for _, row in plot.bars for v in row if v is not None]
    most = max(values, default=1) or 1
    lines = [f'set title {quoted(plot.title)}', f'set xlabel {quoted(plot.x_label)}',
             f'set xrange [0:{most * 1.15:.6g}]', f'set yrange [{rows - 0.4}:-0.6]',
             'set border 3', 'set tics nomirror', 'set grid x lt 1 lw 0.6 lc rgb "#dddddd"',
             'set style fill solid 0.85 noborder',
             'set key outside right top vertical Left reverse spacing 1.2',
             'set ytics (' + ', '.join(f'{quoted(label)} {at}'
                                       for at, (label, _) in enumerate(plot.bars)) + ')']
    drawn = []
    for entry, name in enumerate(plot.legend):
        boxes, texts = [], []
        for at, (_, row) in enumerate(plot.bars):
            y = at - 0.4 + (entry + 0.5) * thick
            value = row[entry]
            texts.append([number(value or 0), f'{y:.3f}',
                          'n/a' if value is None else short(value)])
            if value is not None:
                boxes.append([number(value / 2), f'{y:.3f}', number(value / 2),
                              f'{thick * 0.45:.3f}'])
        lines += data_block(f't{entry}', texts)
        title = quoted(name) if len(plot.legend) > 1 else '""'
        if boxes:
            lines += data_block(f'b{entry}', boxes)
            drawn.append(f'$b{entry} using 1:2:3:4 with boxxyerror lc rgb '
                         f'"{COLOURS[entry]}" title {title}')
        else:
            drawn.append(f'NaN with boxes lc rgb "{COLOURS[entry]}" title {title}')
        drawn.append(f'$t{entry} using 1:2:3 with labels left offset 0.5,0 font ",9" notitle')
    lines.append('plot ' + ', \\\n  '.join(drawn))
    return lines


def draw(plots, folder, order):
    """Writes NAME.svg and NAME.png for each; the names of those that could not be drawn, if any."""
    if not shutil.which('gnuplot'):
        return [plot.name for plot in plots]
    failed = []
    for plot in plots:
        height = 480 if not plot.bars else 140 + 34 * max(3, len(plot.bars)) * (
            1 if len(plot.legend) < 2 else 1.4)
        body = bar_script(plot) if plot.bars else line_script(plot, order)
        script = []
        for ending, terminal in (('svg', 'svg background rgb "white" dynamic'),
                                 ('png', 'pngcairo')):
            script += ['reset', f'set terminal {terminal} size 1000,{height:.0f} font "sans,11" '
                       'noenhanced', f'set output {quoted(folder / f"{plot.name}.{ending}")}',
                       *body, 'set output']
        done = subprocess.run(['gnuplot'], input='\n'.join(script) + '\n', text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            print(f'gnuplot failed at {plot.name}:\n{done.stdout}')
            failed.append(plot.name)
    return failed
