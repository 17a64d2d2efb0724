"""Over a GiB in several files, both ways, with rates: run by --large only."""

import pathlib
import re
import subprocess
import sys
import time

from harness import check, large_case, number

HERE = pathlib.Path(__file__).parent


def large_content(bench):
    """Three files of odd lengths: blocks cross their borders."""
    first, second = bench.large_bytes // 2 + 12_345, bench.large_bytes // 4 - 777
    rest = bench.large_bytes - first - second
    return bench.content('large', {'a.bin': first, 'b/b.bin': second, 'c.bin': rest},
                         piece_bytes=bench.large_piece_bytes)


def child(bench, *arguments):
    """A peer of libtorrent, or one that throws all away, in a process of its own."""
    return bench.child([sys.executable, HERE / 'peer_main.py', *map(str, arguments)])


def seeder(bench, content):
    made = child(bench, 'seed', content.torrent, content.root)
    return made, int(made.stdout.readline().rpartition(' ')[2])


def last_line(made):
    out, err = made.communicate(timeout=600)
    check(made.returncode == 0, f'{out} {err}')
    return out.strip().splitlines()[-1]


def cpu_of(made):
    """Seconds so far of a running child."""
    words = pathlib.Path(f'/proc/{made.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(words[11]) + int(words[12])) / 100


def told(what, line, seeding=None):
    more = f'; the seeder used {seeding:.2f} CPU s' if seeding is not None else ''
    print(f'  {what}: {line}{more}', flush=True)


@large_case
def large_downloads_beside_libtorrent_and_a_peer_that_throws_away(bench):
    content = large_content(bench)
    for run in range(bench.large_runs):
        made, port = seeder(bench, content)
        begin = cpu_of(made)
        out = bench.new_folder()
        line = bench.get(content, out, [port], seconds=600).strip()
        told('sluice-bt from libtorrent', line, cpu_of(made) - begin)
        if run == 0:
            content.check_copy(out, 'downloaded')
        bench.remove(out)
        begin = cpu_of(made)
        out = bench.new_folder()
        taker = child(bench, 'get', content.torrent, out, port)
        told('libtorrent from libtorrent', last_line(taker), cpu_of(made) - begin)
        bench.remove(out)
        begin = cpu_of(made)
        taker = child(bench, 'discard', content.torrent, port)
        told('thrown away from libtorrent', last_line(taker), cpu_of(made) - begin)
        made.kill()


@large_case
def large_uploads_to_libtorrent_and_to_itself(bench):
    content = large_content(bench)
    for run in range(bench.large_runs):
        made, port = bench.seed(content)
        out = bench.new_folder()
        begin, began = cpu_of(made), time.monotonic()
        taker = child(bench, 'get', content.torrent, out, port)
        line = last_line(taker)
        took = time.monotonic() - began
        told('libtorrent from sluice-bt', line, cpu_of(made) - begin)
        if run == 0:
            content.check_copy(out, 'fetched by libtorrent')
        check(re.search(r'MiB/s', line) and took > 0, line)
        bench.remove(out)
        begin = cpu_of(made)
        taker = child(bench, 'discard', content.torrent, port)
        told('thrown away from sluice-bt', last_line(taker), cpu_of(made) - begin)
        begin = cpu_of(made)
        out = bench.new_folder()
        line = bench.get(content, out, [port], seconds=600).strip()
        told('sluice-bt from sluice-bt', line, cpu_of(made) - begin)
        if run == 0:
            content.check_copy(out, 'fetched by sluice-bt')
        bench.remove(out)
        said = bench.end(made)
        check(number(r'sent large: (\d+) bytes', said) >= 3 * content.bytes, said)
