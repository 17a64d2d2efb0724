#!/usr/bin/env python3
"""Measures sluice beside the ways people would pick instead, and makes a page of it.

  tools/bench [--quick] [--cases CASE,...] [--runs N] [--dir DIR] [--out DIR]
  tools/bench --report FILE... [--out DIR]           the page and pictures of runs made before
  tools/bench --compare OLD.json NEW.json            before and after, row by row

Gets what the peers need with apt, builds release into build/, runs build/sluice-bench case by case
and writes README.md, results.json and the pictures (SVG, PNG) to bench-results/. What apt cannot
get is left out and n/a on the page. --quick ends within ten minutes on two CPUs, the installation
and the build included. Several FILEs, each of `build/sluice-bench CASE --json FILE` on the same
machine, become one page; it shows their commands without the paths of that machine.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from bench_report import compare, judge, merge, page  # noqa: E402 (after the line above)

TOP = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ['nginx-light', 'haproxy', 'fio', 'iperf3', 'wrk', 'socat', 'gnuplot-nox', 'bpftrace',
            'libpfm4-dev']
QUICK_SECONDS = 600
PAGE_SECONDS = 25  # of these, kept back for the pictures and the page


def arguments():
    parser = argparse.ArgumentParser('tools/bench', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='fewer sizes and runs, ten minutes')
    parser.add_argument('--out', type=pathlib.Path, help='folder of the page (bench-results/)')
    parser.add_argument('--cases', help='only these, with commas between')
    parser.add_argument('--runs', type=int, help='counted runs of each way')
    parser.add_argument('--dir', type=pathlib.Path, help='the disk to measure (build/)')
    parser.add_argument('--build', type=pathlib.Path, help='a folder that is built already')
    parser.add_argument('--report', nargs='+', type=pathlib.Path, metavar='FILE',
                        help='only make the page')
    parser.add_argument('--compare', nargs=2, type=pathlib.Path, metavar=('OLD', 'NEW'))
    return parser.parse_args()


# ---- what the peers need

def missing_packages():
    shown = subprocess.run(['dpkg-query', '-W', '-f', '${db:Status-Status} ${Package}\n',
                            *PACKAGES], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           text=True, check=False).stdout.split('\n')
    return [p for p in PACKAGES if f'installed {p}' not in shown]


def apt(*command):
    as_root = [] if os.getuid() == 0 else ['sudo']
    done = subprocess.run([*as_root, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', '-y',
                           '-o', 'DPkg::Lock::Timeout=600', *command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode == 0


def without_services(work):
    """work() while packages may not start their servers: an nginx on port 80 is not wanted here."""
    policy = pathlib.Path('/usr/sbin/policy-rc.d')
    if policy.exists():
        return work()
    as_root = [] if os.getuid() == 0 else ['sudo']
    with tempfile.NamedTemporaryFile('w', prefix='policy-rc.d-') as refusing:
        refusing.write('#!/bin/sh\nexit 101\n')
        refusing.flush()
        made = subprocess.run([*as_root, 'install', '-m', '755', refusing.name, str(policy)],
                              stdin=subprocess.DEVNULL, check=False).returncode == 0
    try:
        return work()
    finally:
        if made:
            subprocess.run([*as_root, 'rm', '-f', str(policy)], stdin=subprocess.DEVNULL,
                           check=False)


def get_peers():
    """Only what is missing; silent when nothing is; goes on without what cannot be had."""
    if not shutil.which('dpkg-query') or not shutil.which('apt-get'):
        print(f'tools/bench: no apt here; by Debian\'s names the peers need: {" ".join(PACKAGES)}')
        return
    missing = missing_packages()
    if not missing:
        return
    if os.getuid() != 0 and not shutil.which('sudo'):
        print(f'tools/bench: not root and no sudo: going on without {" ".join(missing)}')
        return
    print(f'tools/bench: installing {" ".join(missing)}', flush=True)
    apt('update')

    def install():
        if not apt('install', '--no-install-recommends', *missing):
            for package in missing:  # one that cannot be had must not keep out the others
                apt('install', '--no-install-recommends', package)
    without_services(install)
    left = missing_packages()
    if left:
        print(f'tools/bench: going on without {" ".join(left)}')


def build():
    if subprocess.run([TOP / 'tools/setup'], check=False).returncode != 0:
        sys.exit('tools/bench: the set-up failed')
    get_peers()
    folder = TOP / 'build'
    env = dict(os.environ)
    if shutil.which('ccache') and 'CXX' not in env:
        env['CXX'] = 'ccache g++'
    if (folder / 'build.ninja').exists():
        # --reconfigure: a library that was just installed is to be found.
        configure = ['meson', 'setup', '--reconfigure', '-Dbuildtype=release', '-Dwerror=false',
                     folder, TOP]
    else:
        configure = ['meson', 'setup', '--buildtype=release', folder, TOP]
    peers = sorted(path.stem for path in (TOP / 'tools/bench-peers').glob('*.cpp'))
    targets = ['sluice-bench', 'sluice-bt', 'sluiced', *peers]
    print('tools/bench: building (release) ...', flush=True)
    for command in (configure, ['ninja', '-C', folder, *targets]):
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            sys.exit(done.stdout + '\ntools/bench: the build failed: see above')
    return folder


# ---- the run

def known_cases(folder):
    """The table of sluice-bench: a case that is added there is run here."""
    shown = subprocess.run([folder / 'sluice-bench', '--list'], stdout=subprocess.PIPE, text=True,
                           check=True).stdout
    return [line.split()[0] for line in shown.split('\n') if line.startswith('  ')]


def run_case(folder, case, options, seconds, retired):
    """The result of one case; one with an error and no rows when it failed or had no time left."""
    failed = {'schema': 1, 'cases': [{'case': case, 'rows': []}]}
    if seconds is not None and seconds <= 0:
        failed['cases'][0]['error'] = 'no time was left for it'
        return failed
    # Folders of our own, so that nothing stays behind when a case has to be stopped.
    with contextlib.ExitStack() as stack:
        def scratch(where):
            return stack.enter_context(tempfile.TemporaryDirectory(prefix='bench-', dir=where))
        temporary = scratch(options.dir or folder)
        result = pathlib.Path(temporary) / 'result.json'
        command = [folder / 'sluice-bench', case, '--json', result, '--dir', temporary,
                   '--retire', retired]
        if os.access('/dev/shm', os.W_OK):
            command += ['--tmpfs', scratch('/dev/shm')]
        command += ['--quick'] if options.quick else []
        command += ['--runs', str(options.runs)] if options.runs else []
        # A group of its own, so that stopping it leaves no server behind.
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            status = running.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            stop_group(running)
            failed['cases'][0]['error'] = f'stopped after {seconds:.0f} s'
            return failed
        except BaseException:
            stop_group(running)
            raise
        try:
            report = page.read(result)
        except (OSError, ValueError):
            failed['cases'][0]['error'] = f'sluice-bench ended with status {status} and no result'
            return failed
        if status != 0:
            report['cases'][0].setdefault('error', f'sluice-bench ended with status {status}')
        return report


def stop_group(running):
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(running.pid, number)
            running.wait(timeout=10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    running.wait()


def without_paths(value, folder):
    """Where the repository and the measured disk lie on this machine is nobody's business."""
    if isinstance(value, str):
        value = value.replace(f'{TOP}/', '')
        return value.replace(str(folder), 'DIR') if folder else value
    if isinstance(value, list):
        return [without_paths(one, folder) for one in value]
    if isinstance(value, dict):
        return {key: without_paths(one, folder) for key, one in value.items()}
    return value


def run_all(folder, options, begun):
    # For all cases: on some filesystems the deleted files of one slow down the next.
    with tempfile.TemporaryDirectory(prefix='bench-', dir=options.dir or folder) as retired:
        return run_cases(folder, options, begun, retired)


def run_cases(folder, options, begun, retired):
    cases = options.cases.split(',') if options.cases else known_cases(folder)
    whole = {}
    for case in cases:
        left = None
        if options.quick:
            left = QUICK_SECONDS - PAGE_SECONDS - (time.monotonic() - begun)
        print(f'tools/bench: {case} ...', flush=True)
        report = run_case(folder, case, options, left, retired)
        found = whole.get('cases', []) + report.pop('cases')
        whole = {**report, **whole, 'cases': found}
        if not whole.get('machine'):
            whole['machine'] = report.get('machine')
        whole['versions'] = {**(report.get('versions') or {}), **(whole.get('versions') or {})}
    whole['bench_command'] = ['tools/bench', *sys.argv[1:]]
    whole['quick'] = options.quick
    if not options.cases and not options.build:  # else it says nothing of the whole
        whole['elapsed_seconds'] = round(time.monotonic() - begun)
    return without_paths(whole, options.dir)


def say(report, undrawn, folder):
    for one in judge.goals(report):
        print(f'{one.verdict():19}{one.wanted}: {one.measured}')
    if undrawn:
        print(f'tools/bench: not drawn (is gnuplot there?): {" ".join(undrawn)}')
    print(f'{folder / "README.md"}')


def main():
    options = arguments()
    begun = time.monotonic() - int(os.environ.get('TOOLS_BENCH_SPENT', '0'))
    if options.compare:
        print('\n'.join(compare.compare(*(page.read(path) for path in options.compare))))
        return 0
    if options.report:
        found = [(path, page.read(path)) for path in options.report]
        report = merge.merged(found) if len(found) > 1 else found[0][1]
        report = without_paths(report, options.dir)
        out = options.out or TOP / 'bench-results'
        say(report, page.write(report, out), out)
        return 0
    folder = options.build or build()
    report = run_all(folder, options, begun)
    out = options.out or TOP / 'bench-results'
    say(report, page.write(report, out), out)
    wrong = [case for case in report['cases'] if case.get('error') or page.differing(case['rows'])]
    for case in wrong:
        print(f'tools/bench: {case["case"]}: {case.get("error") or "bytes differ"}')
    return 1 if wrong else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ValueError) as problem:
        sys.exit(f'tools/bench: {problem}')
