"""What a workload promised, and whether a disk after a power cut keeps it.

acknowledged => present and whole; a final name shows a whole version or nothing; of a replacement
under way the old version or the new one; nothing that was not begun. Of a range of a file each unit
may be of the old version or of the new one, while it is written: that is no replacement of a name.
"""

import array
import os
import stat
import sys
from typing import NamedTuple

TEMPORARY = '.sluice-tmp-'
OF_THE_FILESYSTEM = {'lost+found'}
REMOVED = -1
UNIT = 16  # of a content, bytes


class State(NamedTuple):
    """A version of a name: its length (REMOVED: none), and when it was begun and acknowledged."""
    version: int
    bytes: int
    begun: int
    acknowledged: int | None


class Promises:
    """The journal of crash/journal.hpp with its positions turned into times of the log."""

    def __init__(self, path, time_of, seed):
        self.seed, self.start, self.end, self.names = seed, None, None, {}
        with open(path, encoding='ascii') as lines:
            for line in lines:
                self._take(time_of, *line.split())

    def _take(self, time_of, event, position, name=None, version=None, count=None):
        time = time_of(int(position))
        if event == 'begin':
            state = State(int(version), int(count), time, None)
            self.names.setdefault(name, []).append(state)
        elif event == 'acknowledged':
            states = self.names[name]
            assert states[-1].version == int(version), 'versions of a name come one after the other'
            states[-1] = states[-1]._replace(acknowledged=time)
        else:
            setattr(self, event, time)

    @property
    def count(self):
        return sum(state.acknowledged is not None
                   for states in self.names.values() for state in states)

    def allowed(self, name, written_until, acknowledged_until):
        """The states a name may be found in, None for absent, when no write behind the first time
        reached the disk and the power went at the second."""
        last = None
        found = []
        for state in self.names.get(name, []):
            if state.acknowledged is not None and state.acknowledged <= acknowledged_until:
                last, found = state, []
            elif state.begun <= written_until:
                found.append(state)
        return [last] + found


def content(seed, name, version, count):
    """The bytes of crash/content.hpp."""
    number = int(name.rpartition('/n')[2] if '/' in name else name[1:])
    units = (count + 15) // 16
    words = array.array('Q', bytes(16 * units))
    words[0::2] = array.array('Q', [seed << 48 | number << 32 | version]) * units
    words[1::2] = array.array('Q', range(units))
    if sys.byteorder != 'little':
        words.byteswap()
    return words.tobytes()[:count]


RANGE = '@'  # FILE@OFFSET/nN


def range_of(name):
    """The file and the offset of a range."""
    file, _, rest = name.partition(RANGE)
    return file, int(rest.partition('/')[0])


def broken_range(promises, name, data, allowed):
    """What is wrong with the bytes of a range, '' for nothing; they may end early."""
    states = [s for s in allowed if s is not None]
    count = promises.names[name][0].bytes
    data = data.ljust(count, b'\0')
    may_be = [bytes(count) if s is None else content(promises.seed, name, s.version, count)
              for s in allowed]
    if data in may_be:
        return ''
    if len(may_be) > 1 and all(any(data[i:i + UNIT] == whole[i:i + UNIT] for whole in may_be)
                               for i in range(0, count, UNIT)):
        return ''
    if not states:
        return 'shows something where nothing was begun'
    if len(states) < len(allowed) or len(states) > 1:
        return f'units of no allowed version; {described(data, may_be[-1])}'
    if not any(data):
        return f'version {states[0].version} was acknowledged and is gone'
    return f'partial: against version {states[0].version}: {described(data, may_be[0])}'


def broken_ranges(promises, files, written_until, acknowledged_until):
    """What is wrong with the ranges, one line each. `files`: the content of each that is there."""
    for name in promises.names:
        if RANGE not in name:
            continue
        file, offset = range_of(name)
        count = promises.names[name][0].bytes
        allowed = promises.allowed(name, written_until, acknowledged_until)
        wrong = broken_range(promises, name, files.get(file, b'')[offset:offset + count], allowed)
        if wrong:
            yield f'{name}: {wrong}'


def described(data, expected):
    """Where the bytes of a file leave what they should be, and what stands there instead."""
    if len(data) != len(expected):
        return f'{len(data)} bytes instead of {len(expected)}'
    at = next(i for i in range(len(data)) if data[i] != expected[i])
    if not any(data[at:]):
        return f'zeroes from byte {at} on'
    unit = data[at // 16 * 16:at // 16 * 16 + 16]
    key, index = (int.from_bytes(unit[i:i + 8], 'little') for i in (0, 8))
    return (f'byte {at} differs: there stands unit {index} of version {key & 0xffffffff} of '
            f'name number {key >> 32 & 0xffff}')


def is_whole(state, data, name, seed, kept):
    if state.bytes != len(data):
        return False
    key = (name, state.version)
    if key not in kept:
        kept[key] = content(seed, name, state.version, state.bytes)
    return kept[key] == data


def files_below(root):
    """(path from the root, stat) of everything but directories."""
    for folder, directories, files in os.walk(root):
        directories[:] = [d for d in directories if d not in OF_THE_FILESYSTEM]
        for file in files:
            path = os.path.join(folder, file)
            yield os.path.relpath(path, root), os.lstat(path)


def broken_promises(promises, root, written_until, acknowledged_until, kept):
    """What is wrong with a disk, one line each. `kept`: contents computed before."""
    wrong, seen, ranged = [], set(), {}
    files_with_ranges = {range_of(name)[0] for name in promises.names if RANGE in name}
    for name, info in files_below(root):
        if os.path.basename(name).startswith(TEMPORARY):
            continue
        seen.add(name)
        if name in files_with_ranges:
            with open(os.path.join(root, name), 'rb') as file:
                ranged[name] = file.read()
            continue
        if not stat.S_ISREG(info.st_mode) or name not in promises.names:
            wrong.append(f'{name}: nobody made it')
            continue
        with open(os.path.join(root, name), 'rb') as file:
            data = file.read()
        allowed = promises.allowed(name, written_until, acknowledged_until)
        present = [s for s in allowed if s is not None and s.bytes != REMOVED]
        if any(is_whole(s, data, name, promises.seed, kept) for s in present):
            continue
        wrong.append(f'{name}: {which_wrong(promises, name, data, present, kept)}')
    wrong += broken_ranges(promises, ranged, written_until, acknowledged_until)
    for name in promises.names:
        if name not in seen and RANGE not in name:
            first = promises.allowed(name, written_until, acknowledged_until)
            if not any(s is None or s.bytes == REMOVED for s in first):
                wrong.append(f'{name}: version {first[0].version} was acknowledged and is gone')
    return wrong


def which_wrong(promises, name, data, present, kept):
    """Whole but the wrong version, or no whole version at all."""
    for state in promises.names[name]:
        if state.bytes != REMOVED and is_whole(state, data, name, promises.seed, kept):
            versions = ' or '.join(str(s.version) for s in present) or 'none'
            return f'shows version {state.version} where it must show {versions}'
    if not present:
        return f'{len(data)} bytes of no version, and none may be there'
    last = present[-1]
    expected = content(promises.seed, name, last.version, last.bytes)
    return f'partial: no whole version; against version {last.version}: {described(data, expected)}'
