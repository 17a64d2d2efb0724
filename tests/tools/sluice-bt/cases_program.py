"""The program as such: arguments, what it shows, how it ends."""

import os
import pty
import resource
import socket
import time

from harness import Skipped, case, check


@case
def wrong_arguments_and_files_are_named(bench):
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)
    out, torrent = bench.new_folder(), content.torrent
    broken = bench.folder / 'broken.torrent'
    broken.write_bytes(torrent.read_bytes()[:-3])

    def said_by(*arguments, status, sets=True):
        return bench.run(*arguments, status=status, sets=sets)
    peer = ('--peer', '127.0.0.1:1', '--out', out)
    check('--peer' in said_by('get', torrent, '--out', out, status=2), 'no peer')
    check('HOST:PORT' in said_by('get', torrent, '--peer', '127.0.0.1', '--out', out, status=2),
          'a peer without port')
    check('No such file' in said_by('get', bench.folder / 'none', *peer, status=1), 'no torrent')
    check('no bencode' in said_by('get', broken, *peer, status=1), 'a broken torrent')
    check('knob=value' in said_by('get', torrent, *peer, '--set', 'x', status=2), 'no setting')
    check('no knob' in said_by('get', torrent, *peer, '--set', 'sluice.x=1', status=2), 'no knob')
    seed = ('seed', torrent, '--listen', '127.0.0.1:0', '--data')
    check('data' in said_by(*seed, bench.new_folder(), status=1), 'no content')
    check('power of two' in said_by('make', bench.folder / 'x', content.root, '--piece-bytes',
                                    '20000', status=2, sets=False), 'an odd piece length')
    (out / 'data').write_bytes(bytes(100_001))
    check('100001 bytes' in said_by('get', torrent, *peer, status=1), 'a longer file')
    check(os.path.getsize(out / 'data') == 100_001, 'which is left as it was')


@case
def a_disk_without_room_is_told_before_anything_comes(bench):
    content = bench.content(piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
    child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out',
                        bench.new_folder(), preexec_fn=small_files)
    said = bench.finish(child, status=1)
    check('data: ' in said and 'EFBIG' in said, said)
    check(seeder.handle.status().total_payload_upload == 0, 'nothing was asked for')


@case
def a_write_that_fails_is_told_and_so_is_what_became_of_the_files(bench):
    content = bench.content(piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(8 << 20)
    child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out',
                        bench.new_folder(), '--listen', '127.0.0.1:0')
    child.stdout.readline()
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
    said = bench.finish(child, status=1)
    why, _, rest = said.partition('the files may not be whole: ')
    check('EFBIG' in why and 'EFBIG' in rest, said)


@case
def a_folder_that_cannot_be_listed_may_lie_above_but_nothing_is_made_in_it(bench):
    if os.geteuid() != 0:
        raise Skipped('only the superuser can drop his powers')
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)
    _, port = bench.seed(content)
    closed = bench.new_folder()
    (closed / 'mine').mkdir()
    closed.chmod(0o311)

    def get_to(out, status):
        return bench.finish(bench.child(
            ['setpriv', '--bounding-set', '-dac_override,-dac_read_search', bench.program, 'get',
             content.torrent, '--peer', f'127.0.0.1:{port}', '--out', out, *bench.settings(())]),
            status)
    check('EACCES' in get_to(closed / 'new', status=1), 'its name could not be made durable')
    check(not (closed / 'new').exists(), 'so it is not there')
    get_to(closed / 'mine', status=0)
    content.check_copy(closed / 'mine', 'beneath such a folder')


@case
def every_address_of_a_name_is_tried(bench):
    if os.geteuid() != 0:
        raise Skipped('only the superuser can have an /etc/hosts of his own')
    content = bench.content(files={'': 100_000}, piece_bytes=64 << 10)
    hosts = bench.folder / 'hosts'
    addresses = [f'127.0.0.{last}' for last in (1, 2, 3)]
    hosts.write_text(''.join(f'{address} several.test\n' for address in addresses))
    for address in addresses:
        seeder = bench.start('seed', content.torrent, '--data', content.root, '--listen',
                             f'{address}:0')
        port = int(seeder.stdout.readline().rpartition(':')[2])
        out = bench.new_folder()
        bench.finish(bench.child(
            ['unshare', '--mount', '--propagation', 'private', 'sh', '-c',
             'mount --bind "$0" /etc/hosts && exec "$@"', hosts, os.path.abspath(bench.program),
             'get', content.torrent, '--peer', f'several.test:{port}', '--out', out,
             *bench.settings(())]))
        content.check_copy(out, f'from {address}')
        bench.end(seeder)


@case
def descriptors_are_counted_and_raised_before_files_are_opened(bench):
    content = bench.content('tree', {f'{i}/f': 1000 for i in range(50)}, piece_bytes=64 << 10)

    def at_most(soft, hard):
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    made = bench.folder / 'made.torrent'
    child = bench.start('make', made, content.root / 'tree', sets=False,
                        preexec_fn=at_most(30, 100))
    bench.finish(child)
    child = bench.start('get', content.torrent, '--peer', '127.0.0.1:1', '--out',
                        bench.new_folder(), preexec_fn=at_most(100, 499))
    check('needs 500 open files' in bench.finish(child, status=1), 'too few')


@case
def it_ends_soon_whatever_callers_do(bench):
    content = bench.content(files={'': 1 << 20}, piece_bytes=64 << 10)
    seeder, port = bench.seed(content)
    with socket.create_connection(('127.0.0.1', port)) as mute, \
            socket.create_connection(('127.0.0.1', port)) as greeted:
        greeted.sendall(b'\x13BitTorrent protocol' + bytes(8) + content.info_hash() + bytes(20))
        check(len(greeted.recv(68)) == 68, 'it greets')
        mute.sendall(b'\x13')
        began = time.monotonic()
        said = bench.end(seeder)
        check(time.monotonic() - began < 5, 'soon')
    check('sent data: 0 bytes' in said, said)


@case
def progress_is_shown_on_a_terminal_only(bench):
    content = bench.content(files={'': 4 << 20}, piece_bytes=64 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    seeder.limit_upload(4 << 20)
    ours, theirs = pty.openpty()
    try:
        child = bench.start('get', content.torrent, '--peer', f'127.0.0.1:{seeder.port}', '--out',
                            bench.new_folder(), stderr=theirs)
        out, _ = child.communicate(timeout=40)
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    check('/64 pieces, ' in shown and '1 peers' in shown, shown)
    check(out.startswith('got data: ') and out.count('\n') == 1, out)
    seeder.limit_upload(0)
    said = bench.get(content, bench.new_folder(), [seeder.port])
    check(said.count('\n') == 1, said)


@case
def help_says_what_there_is_not(bench):
    said = bench.run('--help', sets=False)
    for word in ('no trackers', 'no DHT', 'no encryption', 'get', 'seed', 'make'):
        check(word in said, f'{word}: {said}')
