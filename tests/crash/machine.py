"""What a crash test needs of Linux: mounts of its own, loop devices that go with their last user,
children that go with their parent.

Nothing outlives the process, however it ends: the mounts lie in a namespace of its own, a loop
device detaches itself when the last descriptor and the last mount of it are gone (autoclear), and
a child is killed when its parent dies.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import struct
import subprocess
import time

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LOOP_CONFIG_BYTES = 304        # struct loop_config
LOOP_FLAGS_AT = 8 + 52         # its info.lo_flags
LO_FLAGS_AUTOCLEAR = 4
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SECTOR_BYTES = 4096            # of the loop devices, and so what a power cut leaves whole
WAIT_S = 60

libc = ctypes.CDLL(None, use_errno=True)


class CannotRun(Exception):
    """This machine cannot show it."""


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f'{name}: {os.strerror(code)}')


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans():
    """Whoever loses its parent below this process becomes its child."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def need(*programs):
    """Refuses a machine without root, FUSE, loop devices or one of the programs."""
    if os.geteuid() != 0:
        raise CannotRun('mounting needs the superuser')
    for device in ('/dev/fuse', '/dev/loop-control'):
        if not os.access(device, os.R_OK | os.W_OK):
            raise CannotRun(f'no {device} here')
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    for program in programs:
        if not any(os.access(os.path.join(folder, program), os.X_OK)
                   for folder in os.environ['PATH'].split(':')):
            raise CannotRun(f'{program} is not installed')


def own_mounts():
    """From here on mounts are seen by this process and its children alone, and end with them."""
    try:
        call('unshare', CLONE_NEWNS)
        call('mount', b'none', b'/', None, MS_REC | MS_PRIVATE, None)
    except OSError as problem:
        raise CannotRun(f'no mounts of its own: {problem}') from problem


@contextlib.contextmanager
def loop_device(path):
    """The path of a loop device over a file; it stays while it is open or mounted."""
    backing = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        name, device = attach(backing)
    finally:
        os.close(backing)
    try:
        yield name
    finally:
        os.close(device)


def attach(backing):
    config = bytearray(LOOP_CONFIG_BYTES)
    struct.pack_into('II', config, 0, backing, SECTOR_BYTES)
    struct.pack_into('I', config, LOOP_FLAGS_AT, LO_FLAGS_AUTOCLEAR)
    control = os.open('/dev/loop-control', os.O_RDWR | os.O_CLOEXEC)
    try:
        end = time.monotonic() + WAIT_S
        while True:
            name = f'/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}'
            device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, LOOP_CONFIGURE, bytes(config))
                return name, device
            except OSError as problem:
                os.close(device)  # EBUSY: another program was faster
                if problem.errno != errno.EBUSY or time.monotonic() > end:
                    raise
    finally:
        os.close(control)


@contextlib.contextmanager
def mounted(device, at, filesystem):
    call('mount', device.encode(), at.encode(), filesystem.encode(), 0, None)
    try:
        yield at
    finally:
        unmount(at)


def unmount(at):
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return call('umount2', at.encode(), 0)
        except OSError as problem:
            if problem.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def logged_disk(program, folder, size):
    """A file of `size` bytes whose writes and flushes are logged: (its path, the log's path)."""
    store, log, point = (os.path.join(folder, name) for name in ('store', 'log', 'fuse'))
    with open(store, 'wb') as made:
        made.truncate(size)
    os.mkdir(point)
    daemon = subprocess.Popen([program, store, log, point], preexec_fn=die_with_parent)
    disk = os.path.join(point, 'disk')
    try:
        end = time.monotonic() + WAIT_S
        while not os.path.exists(disk):
            if daemon.poll() is not None or time.monotonic() > end:
                raise CannotRun('FUSE cannot be mounted here')
            time.sleep(0.01)
        yield disk, log
    finally:
        with contextlib.suppress(OSError):
            call('umount2', point.encode(), MNT_DETACH)
        daemon.kill()
        daemon.wait()
        os.rmdir(point)


def run(*command, timeout=WAIT_S):
    """Runs a program and gives its output, which is shown when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
                          preexec_fn=die_with_parent)
    if done.returncode == 77:
        raise CannotRun(done.stdout.strip().rpartition('skipped: ')[2])
    if done.returncode != 0:
        raise RuntimeError(f'{command[0]} ended with {done.returncode}: {done.stdout.strip()}')
    return done.stdout
