#!/usr/bin/env python3
"""Crash tests: what sluice acknowledged survives a power cut.

  crash.py --block-log PROGRAM --workload PROGRAM [options]

A workload of publishes, replacements and removals, of one engine or of two in one directory, or of
commits of ranges of large files, runs on a filesystem whose disk logs every write and flush. The
disk is then built again as a power cut could have left it, at every flush and with any part of the
writes behind it, mounted, and held against what was acknowledged. Manners that break the promise
are tried too, and must be caught.

  --filesystem NAME   ext4, xfs or btrfs (default: all three), or ext4_without_journal, which is to
                      show that it breaks promises
  --backend NAME      ring or pool (default: both)
  --grouping WORD     sluice.commit.grouping (default: as it comes, each, and filesystem)
  --manner MANNER     only this one
  --states N          at most about N states of the disk for each trial (default: all)
  --short             few trials and states: for the fast set
  --seed N            of the workload and of what is lost
  --keep FOLDER       leave log and journal of failed trials there

map: machine.py mounts and loop devices, block_log.py the log and the states of the disk,
promises.py what was promised and whether it is kept, trial.py one trial, crash_test.py tests of
these. block_log_main.cpp is the disk, workload_main.cpp the workload.
"""

import argparse
import collections
import os
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import machine  # noqa: E402
import trial  # noqa: E402

EXIT_SKIPPED = 77


def full_matrix(filesystems, backends, groupings, seed):
    for filesystem in filesystems:
        for backend in backends:
            for grouping in groupings:
                named = {'filesystem': filesystem, 'backend': backend, 'grouping': grouping}
                yield trial.Workload(**named, workers=1, rounds=60, seed=seed)
                yield trial.Workload(**named, workers=8, names=24, rounds=20, seed=seed + 1,
                                     solo_max=0)
                yield trial.Workload(**named, workers=8, names=24, rounds=12, seed=seed + 3,
                                     solo_max=0, engines=2)
                yield trial.Workload(**named, manner='ranges', workers=8, rounds=20, seed=seed + 4)
            # Two engines whose solos know nothing of each other.
            yield trial.Workload(filesystem, backend, workers=6, rounds=20, seed=seed + 5,
                                 engines=2)
            # Solos and lanes at once, by one call and by three.
            for manner in ('durable', 'in_steps'):
                yield trial.Workload(filesystem, backend, manner=manner, workers=8, names=24,
                                     rounds=20, seed=seed + 2)
        for manner in trial.BROKEN:
            yield trial.Workload(filesystem, backends[0], manner=manner, seed=seed)


def short_matrix(filesystems, backends, seed):
    for filesystem in filesystems:
        for backend in backends:
            for solo_max in (0, 4):
                yield trial.Workload(filesystem, backend, workers=4, rounds=8, seed=seed,
                                     solo_max=solo_max)
            yield trial.Workload(filesystem, backend, workers=4, rounds=8, seed=seed, engines=2)
            yield trial.Workload(filesystem, backend, manner='ranges', workers=4, rounds=8,
                                 seed=seed)
        for manner in trial.BROKEN:
            yield trial.Workload(filesystem, backends[0], manner=manner, rounds=12, seed=seed)


def keep_files(folder, into, workload):
    target = os.path.join(into, str(workload).replace(', ', '-').replace(' ', '_'))
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    for name in ('log', 'journal'):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            shutil.copy(path, target)
    return target


def run_trial(programs, workload, states, keep):
    """passed, failed or skipped; says how it went."""
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix='sluice-crash-', dir=scratch_folder())
    try:
        trial.need_for(workload.filesystem)
        outcome, wrong, notes = trial.try_out(programs, workload, folder, states)
        if wrong and keep:
            wrong += f'\nkept in {keep_files(folder, keep, workload)}'
    except machine.CannotRun as reason:
        print(f'skipped {workload}: {reason}', flush=True)
        return 'skipped'
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = (f'{outcome.acknowledged} acknowledged, {outcome.flushes} flushes, '
               f'{outcome.states} states, {len(outcome.wrong)} broken promises, '
               f'{time.monotonic() - began:.1f} s')
    for note in notes:
        print(f'{workload}: {note}')
    print(f'FAILED {workload} ({figures}):\n{wrong}' if wrong else f'passed {workload} ({figures})',
          flush=True)
    return 'failed' if wrong else 'passed'


def scratch_folder():
    """Memory where there is some: a disk is written once for each of its states."""
    return os.environ.get('TMPDIR') or ('/dev/shm' if os.access('/dev/shm', os.W_OK) else None)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--block-log', required=True)
    parser.add_argument('--workload', required=True)
    parser.add_argument('--filesystem', choices=trial.FILESYSTEMS, action='append')
    parser.add_argument('--backend', choices=['ring', 'pool'], action='append')
    parser.add_argument('--grouping', action='append')
    parser.add_argument('--manner', choices=[*trial.KEPT, *trial.BROKEN])
    parser.add_argument('--states', type=int, default=0)
    parser.add_argument('--short', action='store_true')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--keep')
    return parser.parse_args()


def main():
    arguments = parsed()
    # An exception unwinds, so that whatever ends the test cleans up as its end does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('crash.py: ended by SIGTERM'))
    backends = arguments.backend or ['ring', 'pool']
    try:
        machine.need()
        machine.own_mounts()
    except machine.CannotRun as reason:
        print(f'skipped: {reason}')
        return EXIT_SKIPPED
    if arguments.short:
        matrix = short_matrix(arguments.filesystem or ['ext4'], backends, arguments.seed)
    else:
        matrix = full_matrix(arguments.filesystem or list(trial.KEEPING), backends,
                             arguments.grouping or ['', 'each', 'filesystem'], arguments.seed)
    programs = trial.Programs(os.path.abspath(arguments.block_log),
                              os.path.abspath(arguments.workload))
    results = collections.Counter(
        run_trial(programs, workload, arguments.states, arguments.keep)
        for workload in matrix if arguments.manner in (None, workload.manner))
    print(', '.join(f'{results[word]} {word}' for word in ('passed', 'failed', 'skipped')))
    if results['failed'] or not results:
        return 1
    return 0 if results['passed'] else EXIT_SKIPPED


if __name__ == '__main__':
    sys.exit(main())
