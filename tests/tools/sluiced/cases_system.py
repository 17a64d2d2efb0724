"""The machine around the server: disks, permissions, descriptors, signals, the command line."""

import fcntl
import os
import resource
import signal
import subprocess
import time

from harness import (Failed, Skipped, case, check, chunked, content, curl, request, set_knob,
                     wait_until)

NOBODY = 65534


def free_bytes(path):
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize


@case
def a_full_disk_is_told_and_its_space_given_back(bench):
    if os.geteuid() != 0:
        raise Skipped('mounting a small tmpfs needs root')
    root = bench.new_folder()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'sluiced-e2e', str(root)],
                             stderr=subprocess.PIPE, check=False)
    if mounted.returncode != 0:
        raise Skipped(f'no tmpfs to mount here: {mounted.stderr.decode().strip()}')
    bench.cleanup.callback(subprocess.run, ['umount', '-l', str(root)], check=False)
    server = bench.serve(root=root)
    before, descriptors = free_bytes(root), server.descriptors_at_rest()
    big = bench.file(content(20_000_000, seed=50))
    for options in ([], ['-H', 'Expect:'], ['-H', 'Expect:', '-H', 'Transfer-Encoding: chunked']):
        out, _, error = curl('-T', big, *options, '-w', ' %{http_code}', server.url('/d/big'))
        check(out.endswith(b' 507'), f'curl {options} sees 507: {error}', answer=out)
        check(b'full' in out, 'and why', answer=out)
        check(free_bytes(root) == before, f'curl {options}: the space is free again, '
              f'{before - free_bytes(root)} bytes are not')
    coded = request('PUT', '/d/big', ['Transfer-Encoding: chunked'],
                    chunked(content(20_000_000, seed=50), [1 << 20]))
    with server.connect() as c:
        try:
            c.send(coded)
        except ConnectionError:
            raise Failed('a reset instead of the answer') from None
        receipt = c.expect(507).fields['sluice-receipt']
        check('bytes=0;' not in receipt and 'reason="the body' in receipt,
              f'the receipt tells what was moved: {receipt}')
    said = server.messages()
    check(said.count('answered 507') in (1, 2) and 'ENOSPC' in said, f'one line a kind: {said}')
    with server.connect() as c:
        c.send(request('PUT', '/d/big', ['Content-Length: 20000000', 'Expect: 100-continue']))
        c.expect(507, 'before the body is asked for')
    check(server.names() == [], f'nothing is left: {server.names()}')
    server.check_quiet(descriptors, 'full disk')
    data = content(3_000_000, seed=51)
    server.ask_for(201, 'PUT', '/fits', body=data)
    check(server.ask('GET', '/fits').body == data, 'what fits comes back, on tmpfs too')
    server.stop()


@case
def what_a_killed_process_left_is_swept_at_the_start(bench):
    root = bench.new_folder()
    (root / 'deep' / 'er').mkdir(parents=True)
    left = [root / '.sluice-tmp-0123456789abcdef', root / 'deep' / 'er' / '.sluice-tmp-feed']
    held = root / 'deep' / '.sluice-tmp-held'
    for path in [*left, held]:
        path.write_bytes(b'half of an upload')
    with open(held) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        server = bench.serve(root=root)
        wait_until(lambda: server.names() == ['deep', 'deep/.sluice-tmp-held', 'deep/er']
                   or server.names(), 'what nobody holds is gone')
        server.ask_for(201, 'PUT', '/deep/er/file', body=b'new')
        check(server.metrics()['sluice_publish_swept_total'] == 2, 'and counted')
        server.stop()
        check('removed 2 temporary names' in server.messages(), 'and told: ' + server.messages())
    check(held.exists(), 'what somebody holds stays')


@case
def a_directory_without_permission_is_forbidden(bench):
    user = NOBODY if os.geteuid() == 0 else None
    root = bench.new_folder()
    for name, mode in (('closed', 0o555), ('open', 0o755), ('locked', 0o000)):
        (root / name).mkdir()
        if name != 'open':
            (root / name / 'file').write_text('x')
            (root / name / 'file').chmod(0o600 if name == 'closed' else 0o644)
        if user:
            os.chown(root / name, user, user)
        (root / name).chmod(mode)
    server = bench.serve(root=root, user=user)
    descriptors = server.descriptors_at_rest()
    server.ask_for(403, 'PUT', '/closed/new', body=b'x' * 1000)
    server.ask_for(403, 'PUT', '/closed/further/down', body=b'x' * 1000)
    server.ask_for(403, 'PUT', '/locked/new', body=b'x' * 1000)
    server.ask_for(403, 'GET', '/locked/file')
    if user:
        server.ask_for(403, 'GET', '/closed/file')
        server.ask_for(403, 'DELETE', '/closed/file')
    server.ask_for(201, 'PUT', '/open/new', body=b'x' * 1_000_000)
    (root / 'open' / 'new').chmod(0o000)
    server.ask_for(204, 'PUT', '/open/new', body=b'x')  # a name needs its directory's permission
    (root / 'open' / 'new').chmod(0o000)
    server.ask_for(204, 'DELETE', '/open/new')
    server.check_quiet(descriptors, 'no permission')
    server.stop()
    (root / 'locked').chmod(0o755)


@case
def a_small_locked_memory_limit_only_costs_speed(bench):
    # A user of its own: the kernel counts locked memory by user, and gives it back late.
    user = NOBODY - 1 if os.geteuid() == 0 else None
    root = bench.new_folder()
    if user:
        os.chown(root, user, user)
    try:
        server = bench.serve(root=root, user=user, limits={resource.RLIMIT_MEMLOCK: 64 << 10})
    except Failed as failure:
        # Kernels before 5.12 count the ring itself as locked memory.
        if bench.backend != 'ring' or 'ENOMEM' not in str(failure):
            raise
        raise Skipped(f'no ring within 64 KiB of locked memory: {failure}') from None
    data = content(3_000_001, seed=52)
    server.ask_for(201, 'PUT', '/a', body=data)
    check(server.ask('GET', '/a').body == data, 'the upload comes back')
    server.stop()


def alive(connection):
    """Whether a connection is still served; one that gave way has ended."""
    try:
        connection.send(request('GET', '/.sluice/metrics'))
        return connection.answer().status == 200
    except (Failed, OSError):
        return False


@case
def out_of_descriptors_is_survived(bench):
    server = bench.serve()
    limit = server.descriptors_at_rest() + 8
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    connections = [server.connect() for _ in range(20)]
    wait_until(lambda: 'cannot accept' in server.messages() or server.messages(),
               'the server says that it cannot accept')
    wait_until(lambda: alive(server.connect()), 'who comes last is served: idle ones give way')
    served = sum(alive(c) for c in connections)
    check(0 < served < 20, f'{served} of 20 are still served')
    check(server.messages().count('cannot accept') < 5, f'not every time: {server.messages()}')
    for c in connections:
        c.close()
    server.ask_for(201, 'PUT', '/a', body=b'x')
    server.stop()


@case
def a_log_that_cannot_be_written_ends_nothing(bench):
    limit = bench.shared.descriptors_at_rest() + 64
    server = bench.serve(limits={resource.RLIMIT_NOFILE: limit}, log='/dev/full')
    limit = server.descriptors_at_rest() + 8
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    connections = [server.connect() for _ in range(20)]
    wait_until(lambda: alive(server.connect()), 'who comes last is served: idle ones give way')
    for c in connections:
        c.close()
    server.stop()


@case
def a_limit_of_file_sizes_is_told(bench):
    server = bench.serve(limits={resource.RLIMIT_FSIZE: 1 << 20})
    data = content(3_000_000, seed=55)
    for fields, body in (([], data), (['Transfer-Encoding: chunked'], chunked(data, [1 << 16]))):
        with server.connect() as c:
            got = c.send(request('PUT', '/large', fields, body)).expect(413, f'{fields}')
            check(b'limit of file sizes' in got.body, 'and why', answer=got)
    server.ask_for(201, 'PUT', '/small', body=data[:1 << 20])
    check(server.names() == ['small'], f'only what is allowed is there: {server.names()}')
    server.stop()


@case
def a_fifo_is_refused_and_not_opened(bench):
    os.mkfifo(bench.shared.root / 'fifo')
    writer = subprocess.Popen(['sh', '-c', 'exec > "$0"', bench.shared.root / 'fifo'])
    bench.cleanup.callback(writer.kill)
    time.sleep(0.1)
    for method in ('PUT', 'DELETE'):
        bench.shared.ask_for(409, method, '/fifo')
    time.sleep(0.1)
    check(writer.poll() is None, 'who waits for a reader still waits')
    writer.kill()
    writer.wait()
    os.unlink(bench.shared.root / 'fifo')


@case
def the_backend_that_was_chosen_is_said_once(bench):
    server = bench.serve('sluice.backend=auto', 'sluice.capabilities.hidden=io_uring', engines=2)
    check(server.messages().count('using the thread pool') == 1, f'why: {server.messages()}')
    server.stop()


@case
def durability_is_what_held_when_the_upload_began(bench):
    control = bench.new_folder() / 'control'
    server = bench.serve('sluice.http.durability=stored', control=control)
    with server.connect() as c:
        c.send(request('PUT', '/a', ['Content-Length: 5', 'Expect: 100-continue'])).expect(100)
        set_knob(control, 'sluice.http.durability', 'durable')
        got = c.send(b'hello').expect(201)
        check(got.fields['sluice-receipt'].endswith('durability=stored'), 'the old one', answer=got)
        got = c.send(request('PUT', '/a', body=b'x')).expect(204)
        check(got.fields['sluice-receipt'].endswith('durability=durable'), 'the new one',
              answer=got)
    server.stop()


@case
def few_descriptors_mean_few_connections(bench):
    limit = bench.shared.descriptors_at_rest() + 64
    server = bench.serve(limits={resource.RLIMIT_NOFILE: limit})
    check('ulimit -n' in server.messages(), f'it says so at start: {server.messages()}')
    connections = [server.connect() for _ in range(100)]
    server.ask_for(201, 'PUT', '/a', body=b'x')
    check('cannot accept' not in server.messages(), f'it never runs out: {server.messages()}')
    for c in connections:
        c.close()
    server.stop()


@case
def sigterm_lets_an_upload_finish(bench):
    server = bench.serve()
    data = content(2_000_000, seed=53)
    sized = server.connect().send(request('PUT', '/sized', body=data)[:1_000_000])
    coded = request('PUT', '/coded', ['Transfer-Encoding: chunked'], chunked(data, [100_000]))
    pieces = server.connect().send(coded[:1_000_000])
    wait_until(lambda: server.metrics()['sluice_http_requests_total'] >= 3, 'both have begun')
    server.signal()

    def refused():
        try:
            server.connect().close()
            return 'a new connection is accepted'
        except ConnectionError:
            return True
    wait_until(refused, 'no new connections')
    for c, rest in ((sized, request('PUT', '/sized', body=data)[1_000_000:]),
                    (pieces, coded[1_000_000:])):
        got = c.send(rest).expect(201, 'the upload finishes')
        check(got.fields.get('connection') == 'close', 'and is the last', answer=got)
        c.check_ended()
    server.wait_for_exit()
    for name in ('sized', 'coded'):
        check((server.root / name).read_bytes() == data, f'{name} is there, whole')


@case
def sigterm_does_not_wait_for_idle_connections(bench):
    server = bench.serve()
    idle = [server.connect() for _ in range(20)]
    for c in idle[:10]:
        c.send(request('GET', '/none')).expect(404)
    began = time.monotonic()
    server.signal(signal.SIGINT)
    server.wait_for_exit()
    check(time.monotonic() - began < 5, f'it took {time.monotonic() - began:.1f} s')
    for c in idle:
        c.check_ended()


@case
def the_grace_time_has_an_end(bench):
    for grace in (0, 300):
        server = bench.serve(f'sluice.http.grace_ms={grace}')
        sized = request('PUT', '/a/stuck', ['Content-Length: 9000000'], b'x')
        stuck = [server.connect().send(sized),
                 server.connect().send(request('PUT', '/a/stuck', ['Transfer-Encoding: chunked'],
                                               b'5\r\nhe')),
                 server.connect().send(b'GET /')]
        wait_until(lambda s=server: s.metrics()['sluice_http_requests_total'] >= 3, 'they began')
        began = time.monotonic()
        server.signal()
        server.wait_for_exit(what=f'grace of {grace} ms')
        took = time.monotonic() - began
        check(grace / 1000 <= took < grace / 1000 + 4, f'grace of {grace} ms took {took:.2f} s')
        check(server.names() == [], f'nothing is left: {server.names()}')
        for c in stuck:
            c.check_ended()


@case
def a_second_signal_ends_at_once(bench):
    server = bench.serve('sluice.http.grace_ms=60000')
    stuck = server.connect().send(request('PUT', '/stuck', ['Content-Length: 9000000'], b'x'))
    wait_until(lambda: server.metrics()['sluice_http_requests_total'] >= 2, 'it has begun')
    server.signal()
    time.sleep(0.2)
    check(server.process.poll() is None, 'the first signal waits')
    server.signal()
    server.wait_for_exit(status=1)
    stuck.check_ended()
    check('second signal' in server.messages(), f'it says so: {server.messages()}')
    check(server.names() == [], f'nothing is left: {server.names()}')


def run_wrongly(bench, *arguments):
    done = subprocess.run([bench.program, *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=20, check=False)
    return done.returncode, done.stderr.decode()


@case
def what_is_wrong_at_the_start_is_said(bench):
    root = bench.new_folder()
    taken = bench.shared.port
    table = [
        (2, ['--root', root], '--listen'),
        (2, ['--listen', ':0'], '--root'),
        (2, ['--root', root, '--listen', 'nonsense'], 'ADDR:PORT'),
        (2, ['--root', root, '--listen', ':0', '--set', 'x'], 'knob=value'),
        (2, ['--root', root, '--listen', ':0', '--set', 'no.such=1'], 'no.such'),
        (2, ['--root', root, '--listen', ':0', '--set', 'sluice.backend=x'], 'auto|ring|pool'),
        (2, ['--root', root, '--listen', ':0', '--engines', '0'], '--engines'),
        (1, ['--root', root / 'none', '--listen', ':0'], 'no such directory'),
        (1, ['--root', bench.file(b''), '--listen', ':0'], 'not a directory'),
        (1, ['--root', root, '--listen', f'127.0.0.1:{taken}'], 'listens there already'),
        (1, ['--root', root, '--listen', f'127.0.0.1:{taken}', '--engines', '2'],
         'listens there already'),
        (1, ['--root', root, '--listen', '192.0.2.1:1'], 'does not have that address')]
    for status, arguments, words in table:
        got, text = run_wrongly(bench, *arguments)
        check(got == status, f'{arguments}: expected status {status}, got {got}: {text}')
        check(words in text, f'{arguments}: the message has {words!r}: {text}')


@case
def a_thread_that_cannot_be_started_is_said(bench):
    user = NOBODY - 2 if os.geteuid() == 0 else None
    root = bench.new_folder()
    if user:
        os.chown(root, user, user)
    try:
        bench.serve(root=root, user=user, limits={resource.RLIMIT_NPROC: 1})
    except Failed as failure:
        check('cannot start a thread' in str(failure) and 'ulimit -u' in str(failure),
              f'what is wrong, and what to do: {failure}')
        check('terminate' not in str(failure), f'and no crash: {failure}')
        return
    raise Failed('it started a thread in spite of the limit')


@case
def metrics_are_counted(bench):
    server = bench.serve()
    before = server.metrics()
    server.ask_for(201, 'PUT', '/m', body=content(1_000_000, seed=54))
    server.ask_for(200, 'GET', '/m')
    server.ask_for(404, 'GET', '/none')
    after = server.metrics()
    grown = {name: after[name] - before[name] for name in after}
    check(grown['sluice_receive_bytes_total'] == 1_000_000, f'bytes received: {grown}')
    check(grown['sluice_send_bytes_total'] == 1_000_000, f'bytes sent: {grown}')
    check(grown['sluice_publish_count_total'] == 1, f'files published: {grown}')
    check(grown['sluice_http_requests_total'] == 4, f'requests: {grown}')
    check(grown['sluice_http_responses_4xx_total'] == 1, f'answers: {grown}')
    server.stop()
