"""Several files of sluice-bench, each of its own command, as one result."""

import re

from bench_report.rows import CASES

# Options of sluice-bench whose values are paths of one machine, and what is shown in their place.
PATHS = {'--json': 'FILE', '--dir': 'DIR', '--retire': 'RETIRED', '--tmpfs': 'TMPFS'}
# BUILD/sluice-bench and what else is run from there; what is before BUILD/ is nobody's business.
BUILT = re.compile(r'(/.*?/)[^/]+/(?:sluice-bench|sluiced|sluice-bt|(?:tools/)?bench-peers/[^/]+)')
INSTALLED = ('/usr/', '/usr/local/', '/opt/')
# A machine is another one when it is not alike in these, where both files have them.
IDENTITY = ('kernel', 'cpu', 'cpu_model', 'cpus')


# ---- paths

def with_path(word, after):
    """(the path, what is shown of the word), of a word of a command behind the word `after`."""
    option, equals, value = word.partition('=')
    if after in PATHS:
        return word, PATHS[after]
    if equals and option in PATHS:
        return value, f'{option}={PATHS[option]}'
    return None, word


def shown_command(command):
    """As it was, but for paths."""
    return [with_path(word, after)[1] for after, word in zip(['', *command], command)]


def hidden(command, cases):
    """Absolute path -> what is shown in its place: in rows they are the beginnings of others."""
    found = {}
    for after, word in zip(['', *command], command):
        path, _ = with_path(word, after)
        if path and path.startswith('/') and path.strip('/'):
            found[path.rstrip('/')] = PATHS[after if after in PATHS else word.partition('=')[0]]
    programs = [of[0] for of in (command, *(row.get('command') for case in cases
                                            for row in case['rows'])) if of]
    for built in map(BUILT.fullmatch, programs):
        if built and built[1] not in INSTALLED:
            found[built[1]] = ''
    return found


def without(value, paths):
    """Paths replaced where they stand whole or are followed by more of a path."""
    if isinstance(value, str):
        for path in sorted(paths, key=len, reverse=True):
            end = '' if path.endswith('/') else r'(?![\w.-])'
            value = re.sub(rf'(?<![\w.-]){re.escape(path)}{end}', paths[path], value)
        return value
    if isinstance(value, list):
        return [without(one, paths) for one in value]
    if isinstance(value, dict):
        return {key: without(one, paths) for key, one in value.items()}
    return value


# ---- what is one thing for the whole page

def same_machine(first, other):
    """One name for the machine of two (path, report), or ValueError."""
    (path, report), (other_path, other_report) = first, other
    ours, theirs = report.get('machine') or {}, other_report.get('machine') or {}
    apart = [f'{key} {ours[key]!r} and {theirs[key]!r}' for key in IDENTITY
             if None not in (ours.get(key), theirs.get(key)) and ours[key] != theirs[key]]
    if apart:
        raise ValueError(f'{path} and {other_path} are of different machines: {", ".join(apart)}')


def united(parts):
    """Dictionaries as one; texts that differ stand beside each other."""
    whole = {}
    for part in parts:
        for key, value in (part or {}).items():
            known = whole.get(key)
            if known is None:
                whole[key] = value
            elif isinstance(known, str) and value and value not in known.split('; '):
                whole[key] = f'{known}; {value}'
    return whole


def cases_of(report):
    """Its cases, each with the command, the start and the revision of this file."""
    of_file = report.get('bench_command') or report.get('command') or []
    paths = hidden(of_file, report['cases'])
    for case in report['cases']:
        made = without(case, paths)
        made['command'] = shown_command(made.get('command') or without(of_file, paths))
        made['started'] = case.get('started') or report.get('started')
        made['revision'] = case.get('revision') or report.get('revision')
        yield made


def place_revision(whole):
    """On top when it is the same of all cases, else in each."""
    revisions = {case['revision'] for case in whole['cases']}
    if len(revisions) == 1:
        for case in whole['cases']:
            del case['revision']
        if None not in revisions:
            whole['revision'] = revisions.pop()


def merged(reports):
    """One result of a list of (path, report), the cases in the order of a full run."""
    found = {}
    for path, report in reports:
        same_machine(reports[0], (path, report))
        for case in cases_of(report):
            name = case['case']
            if name in found:
                raise ValueError(f'the case {name} is in {found[name][0]} and in {path}')
            found[name] = (path, case)
    order = list(CASES)
    names = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    starts = [case['started'] for _, case in found.values() if case['started']]
    whole = {'schema': 1, 'command': ['build/sluice-bench', 'CASE', '...'],
             'started': min(starts, default=None),
             'machine': united(report.get('machine') for _, report in reports),
             'versions': united(report.get('versions') for _, report in reports),
             'cases': [found[name][1] for name in names]}
    place_revision(whole)
    return whole
