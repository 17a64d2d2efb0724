#!/usr/bin/env python3
"""Runs meson's tests of a build folder and says what a person wants to know of the run.

Prints the log of each failed test, the reason of each skipped one, and last the line
`N passed, N failed, N skipped`. Used by tools/test.
"""

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys

PASSED = {'OK', 'EXPECTEDFAIL'}
LOG_LINES_MAX = 80


def introspect(folder):
    text = subprocess.run(['meson', 'introspect', '--tests', folder], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    return json.loads(text)


def chosen_names(folder, filters, default_set):
    """Without filters one set; a filter reaches tests of every set."""
    names = []
    for test in introspect(folder):
        sets = {suite.rpartition(':')[2] for suite in test['suite']}
        if filters:
            wanted = any(f in test['name'] or fnmatch.fnmatchcase(test['name'], f)
                         for f in filters)
        else:
            wanted = default_set in sets
        if wanted:
            names.append(test['name'])
    return names


def run(folder, names, jobs, time_factor):
    """The records of testlog.json, one per test that ran."""
    log = os.path.join(folder, 'meson-logs', 'testlog.json')
    if os.path.exists(log):
        os.unlink(log)  # a run that dies early must not be judged by the log of the one before
    done = subprocess.run(
        ['meson', 'test', '-C', folder, '--no-rebuild', '--num-processes', str(jobs),
         '--timeout-multiplier', str(time_factor), *names],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not os.path.exists(log):
        print(done.stdout)
        return []
    with open(log, encoding='utf-8', errors='replace') as lines:
        return [json.loads(line) for line in lines if line.strip()]


def output_lines(record):
    return [line.rstrip() for stream in ('stdout', 'stderr')
            for line in (record.get(stream) or '').splitlines()]


def skip_reason(record):
    lines = [line for line in output_lines(record) if line.strip()]
    named = [line for line in lines if line.lower().startswith('skip')]
    return re.sub(r'^skip\w*[: ]+', '', (named or lines or ['no reason given'])[-1], flags=re.I)


def partly_skipped(record):
    """The reasons of what a passed test could not show here, each once."""
    said = [line for line in output_lines(record) if re.match(r'skip(ped)?\b.*: ', line)]
    return list(dict.fromkeys(line.partition(': ')[2] for line in said))


def report_failure(record):
    lines = output_lines(record)
    print(f"\n---- {record['name']}: {record['result'].lower()}, exit code "
          f"{record['returncode']}, {record['duration']:.1f} s")
    if len(lines) > LOG_LINES_MAX:
        print(f'({len(lines) - LOG_LINES_MAX} lines left out; all of them are in testlog.txt)')
    print('\n'.join(lines[-LOG_LINES_MAX:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--folder', required=True)
    parser.add_argument('--jobs', type=int, required=True)
    parser.add_argument('--time-factor', type=int, default=1)
    parser.add_argument('--set', default='fast')
    parser.add_argument('filters', nargs='*')
    arguments = parser.parse_args()

    names = chosen_names(arguments.folder, arguments.filters, arguments.set)
    print(f'tools/test: running {len(names)} tests', flush=True)
    records = run(arguments.folder, names, arguments.jobs, arguments.time_factor) if names else []
    passed = [r for r in records if r['result'] in PASSED]
    skipped = [r for r in records if r['result'] == 'SKIP']
    failed = [r for r in records if r not in passed and r not in skipped]
    lost = len(names) - len(records)  # chosen, but the run ended before them

    for record in skipped:
        print(f"skipped {record['name']}: {skip_reason(record)}")
    for record in passed:
        for reason in partly_skipped(record):
            print(f"skipped in {record['name']}: {reason}")
    for record in failed:
        report_failure(record)
    if failed:
        print('\nfailed: ' + ' '.join(r['name'] for r in failed))
    if lost:
        print(f'{lost} tests did not run: meson test ended early')
    if not names:
        print('no test of that name')
    print(f'{len(passed)} passed, {len(failed) + lost} failed, {len(skipped)} skipped')

    # A full run in which every test was skipped has shown nothing.
    ran = passed or (skipped and arguments.filters)
    return 1 if failed or lost or not ran else 0


if __name__ == '__main__':
    sys.exit(main())
