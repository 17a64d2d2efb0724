"""One trial: a workload recorded on a disk that logs, then the disk as every power cut could have
left it, mounted and held against what was promised."""

import contextlib
import os
import random
import re
import subprocess
from typing import NamedTuple

import machine
from block_log import BlockLog, Cut, Disk, epochs
from promises import Promises, broken_promises

MIB = 1 << 20


class Filesystem(NamedTuple):
    name: str
    mkfs: tuple
    size: int
    repair: tuple = ()  # before it is mounted after the cut, as a boot would


# The sizes are the least that each makes a disk of its usual shape from.
FILESYSTEMS = {
    'ext4': Filesystem('ext4', ('mkfs.ext4', '-q', '-F', '-b', '4096', '-E',
                                'nodiscard,lazy_itable_init=0,lazy_journal_init=0'), 96 * MIB),
    'xfs': Filesystem('xfs', ('mkfs.xfs', '-q', '-f', '-K'), 320 * MIB),
    'btrfs': Filesystem('btrfs', ('mkfs.btrfs', '-q', '-f', '-K'), 256 * MIB),
    # Breaks promises (include/sluice/file.hpp, publish), so it is tried only when it is named.
    'ext4_without_journal': Filesystem(
        'ext4', ('mkfs.ext4', '-q', '-F', '-b', '4096', '-O', '^has_journal', '-E',
                 'nodiscard,lazy_itable_init=0'), 96 * MIB, ('e2fsck', '-fy')),
}
KEEPING = ('ext4', 'xfs', 'btrfs')

# Manners of the workload that keep its promise.
KEPT = ('durable', 'in_steps', 'ranges')
# Those that break it, and what the checker must say of them.
BROKEN = {
    'stored': 'was acknowledged and is gone|partial|where it must show',
    'no_file_sync': 'was acknowledged and is gone|partial|where it must show',
    'no_name_sync': 'was acknowledged and is gone|where it must show',
    'in_place': 'partial',
    'flushed_ranges': 'was acknowledged and is gone|partial',
}


class Workload(NamedTuple):
    filesystem: str
    backend: str
    grouping: str = ''   # of sluice.commit.grouping; '' leaves it alone
    manner: str = 'durable'
    workers: int = 1
    names: int = 12
    rounds: int = 20     # of each worker
    seed: int = 1
    solo_max: int = 4    # sluice.commit.solo_max; 0: all publishes in lanes
    engines: int = 1     # the workers are spread over

    def __str__(self):
        grouping = f', grouping {self.grouping}' if self.grouping else ''
        lanes = '' if self.solo_max else ', all in lanes'
        engines = f', {self.engines} engines' if self.engines > 1 else ''
        return (f'{self.filesystem}, {self.backend}{grouping}{lanes}{engines}, {self.manner}, '
                f'{self.workers} x {self.rounds}, seed {self.seed}')

    def options(self):
        named = {'--backend': self.backend, '--manner': self.manner, '--seed': self.seed,
                 '--names': self.names, '--rounds': self.rounds, '--workers': self.workers,
                 '--solo-max': self.solo_max, '--engines': self.engines}
        if self.grouping:
            named['--grouping'] = self.grouping
        return [str(part) for pair in named.items() for part in pair]


class Programs(NamedTuple):
    block_log: str
    workload: str


def need_for(filesystem):
    kind = FILESYSTEMS[filesystem]
    machine.need(kind.mkfs[0], *kind.repair[:1])


def record(programs, workload, folder):
    """Runs the workload on a fresh disk; (path of the block log, path of the journal, notes)."""
    kind = FILESYSTEMS[workload.filesystem]
    journal, at = os.path.join(folder, 'journal'), os.path.join(folder, 'mounted')
    os.mkdir(at)
    with machine.logged_disk(programs.block_log, folder, kind.size) as (disk, log), \
            machine.loop_device(disk) as device:
        machine.run(*kind.mkfs, device)
        with machine.mounted(device, at, kind.name):
            said = machine.run(programs.workload, '--root', at, '--log', log, '--journal', journal,
                               *workload.options(), timeout=300)
    os.rmdir(at)
    return log, journal, [line for line in said.splitlines() if line.startswith('note: ')]


def cuts(log, promises, states, seed):
    """The cuts to look at: each epoch as its flush left it, and states with a part of what came
    behind. At most about `states`, spread evenly; every epoch when it is 0."""
    chance = random.Random(seed)
    for epoch in chosen(epochs(log, promises.start, promises.end), states // 3, chance):
        # Everything behind the flush is lost, as late as it can be: what was acknowledged by then
        # needed no more than was flushed.
        yield Cut(epoch.number, epoch.first, epoch.last, 'none', 0)
        first = max(epoch.first, promises.start)
        if epoch.last > epoch.first:
            for _ in range(2):
                at = chance.randint(first, epoch.last)
                yield Cut(epoch.number, epoch.first, at, 'some', chance.randrange(1 << 30))


def chosen(everything, count, chance):
    """`count` of them in their order, the last one always; all when count is 0."""
    if not count or count >= len(everything):
        return everything
    kept = set(chance.sample(range(len(everything) - 1), count - 1)) | {len(everything) - 1}
    return [everything[i] for i in sorted(kept)]


def repair(command, device):
    """What fsck(8) does at a boot; it says by its status that it has corrected errors."""
    done = subprocess.run([*command, device], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=machine.WAIT_S, check=False)
    if done.returncode >= 4:
        raise OSError(f'{command[0]}: {done.stdout}{done.stderr}')


def look_at(disk, cut, promises, at, kind, kept):
    """Mounts the disk as the cut left it; what is wrong with it, one line each."""
    image = disk.image(cut)
    written_until = cut.first if cut.manner == 'none' else cut.at
    with machine.loop_device(image) as device, contextlib.ExitStack() as stack:
        try:
            if kind.repair:
                repair(kind.repair, device)
            stack.enter_context(machine.mounted(device, at, kind.name))
        except OSError as problem:
            return [f'the filesystem cannot be mounted: {problem}']
        return broken_promises(promises, at, written_until, cut.at, kept)


class Outcome(NamedTuple):
    acknowledged: int
    flushes: int
    states: int
    wrong: list  # (cut, line)


def replay(workload, log_path, journal, folder, states):
    log = BlockLog(log_path)
    promises = Promises(journal, log.time_of, workload.seed)
    at = os.path.join(folder, 'mounted')
    os.mkdir(at)
    kind = FILESYSTEMS[workload.filesystem]
    disk = Disk(log, folder, kind.size)
    wrong, looked_at, kept = [], 0, {}
    try:
        for cut in cuts(log, promises, states, workload.seed):
            looked_at += 1
            wrong += [(cut, line)
                      for line in look_at(disk, cut, promises, at, kind, kept)]
    finally:
        disk.close()
        log.close()
        os.rmdir(at)
    flushes = sum(promises.start <= n < promises.end for n in log.flushes)
    return Outcome(promises.count, flushes, looked_at, wrong)


def verdict(workload, outcome):
    """What the trial shows against us; '' when all is as it must be."""
    if outcome.acknowledged == 0 or outcome.states == 0:
        return 'nothing was acknowledged or looked at: the trial shows nothing'
    wrong = [f'{cut}: {line}' for cut, line in outcome.wrong]
    if workload.manner in KEPT:
        return '\n'.join(wrong[:20])
    expected = re.compile(BROKEN[workload.manner])
    if any(expected.search(line) for line in wrong):
        return ''
    return f'the broken manner {workload.manner} was not caught ({wrong[:3]})'


def try_out(programs, workload, folder, states=0):
    """Records and replays; (outcome, verdict, notes)."""
    log, journal, notes = record(programs, workload, folder)
    outcome = replay(workload, log, journal, folder, states)
    return outcome, verdict(workload, outcome), notes
