"""Peers that vanish, lie, stall or send nonsense: nothing may be left of them."""

import os
import random

from harness import Failed, case, check, chunked, content, curl, request

BODY = content(600_000, seed=40)


def positions(length):
    """Byte positions to cut at: all near the ends and the block borders, some between."""
    near = {0, 1, 2, 100, length - 1, length - 2}
    for border in (4096, 8192, 65536, 256 << 10, 512 << 10):
        near |= {border - 1, border, border + 1}
    near |= {random.Random(41).randrange(length) for _ in range(10)}
    return sorted(p for p in near if 0 <= p < length)


def check_nothing_left(server, before, descriptors, what):
    server.check_quiet(descriptors, what)
    check(server.names() == before, f'{what}: the root is as before: {server.names()}')
    server.ask_for(201, 'PUT', '/after', body=b'works')
    check(server.ask('GET', '/after').body == b'works', f'{what}: the next request works')
    server.ask_for(204, 'DELETE', '/after')


def cut_uploads(server):
    server.ask_for(201, 'PUT', '/warm/up', body=BODY)
    before, descriptors = server.names(), server.descriptors_at_rest()
    plain = request('PUT', '/cut/deep/file', body=BODY)
    coded = request('PUT', '/cut/deep/file', ['Transfer-Encoding: chunked'],
                    chunked(BODY, [70_000, 11]))
    for data in (plain, coded):
        for at in positions(len(data)):
            c = server.connect()
            c.send(data[:at])
            c.close()
            c = server.connect()
            c.send(data[:at])
            c.reset()
    check_nothing_left(server, before, descriptors, 'cut uploads')
    values = server.metrics()
    check(values['sluice_http_uploads_aborted_total'] > 50, f'they were counted: {values}')
    check(values['sluice_http_responses_5xx_total'] == 0, f'no fault of the server: {values}')
    server.stop()


@case
def uploads_cut_anywhere_leave_nothing(bench):
    cut_uploads(bench.serve())


@case
def uploads_cut_anywhere_leave_no_temporary_name(bench):
    cut_uploads(bench.serve('sluice.capabilities.hidden=unnamed_files'))


@case
def an_upload_under_way_is_nobodys_file(bench):
    server = bench.serve('sluice.capabilities.hidden=unnamed_files')
    with server.connect() as c:
        c.send(request('PUT', '/under-way', ['Content-Length: 10', 'Expect: 100-continue']))
        c.expect(100)
        names = server.names()
        check(len(names) == 1 and names[0] != 'under-way', f'a temporary name: {names}')
        for method in ('GET', 'PUT', 'DELETE'):
            server.ask_for(403, method, f'/{names[0]}')
        c.send(b'0123456789').expect(201)
    check(server.names() == ['under-way'], f'its own name in the end: {server.names()}')
    check(server.ask_for(204, 'PUT', '/under-way', body=b'x') and
          server.names() == ['under-way'], f'replaced: {server.names()}')
    server.stop()


@case
def uploads_cut_while_they_replace_leave_the_old_file(bench):
    server = bench.serve()
    server.ask_for(201, 'PUT', '/old', body=b'old')
    descriptors = server.descriptors_at_rest()
    data = request('PUT', '/old', body=BODY)
    for at in (len(data) - 1, len(data) - 300_000, len(data) - 600_000):
        with server.connect() as c:
            c.send(data[:at])
    server.check_quiet(descriptors, 'cut replacements')
    check(server.ask('GET', '/old').body == b'old', 'the old file is whole')
    check(server.names() == ['old'], f'and alone: {server.names()}')
    server.stop()


@case
def a_reset_right_after_the_whole_upload_is_no_harm(bench):
    server = bench.serve()
    descriptors = server.descriptors_at_rest()
    for turn in range(20):
        c = server.connect()
        c.send(request('PUT', f'/reset/{turn}', body=BODY[:100_000]))
        c.reset()
    server.check_quiet(descriptors, 'resets')
    for path in server.root.rglob('*'):
        check(path.is_dir() or path.read_bytes() == BODY[:100_000],
              f'{path.name} is whole, or not there')
    server.stop()


@case
def downloads_cut_anywhere_leave_nothing(bench):
    server = bench.serve()
    server.ask_for(201, 'PUT', '/down', body=content(5_000_000, seed=42))
    server.ask_for(200, 'GET', '/down')
    descriptors = server.descriptors_at_rest()
    for turn in range(30):
        c = server.connect()
        c.send(request('GET', '/down') * (1 + turn % 3))
        if turn % 2:
            c.socket.recv(1 + turn * 10_000)
        c.reset()
    server.check_quiet(descriptors, 'cut downloads')
    server.ask_for(200, 'GET', '/down')
    server.stop()


@case
def a_body_longer_than_promised_is_the_next_request(bench):
    with bench.shared.connect() as c:
        c.send(request('PUT', '/longer', ['Content-Length: 5'], b'hello and more\r\n\r\n'))
        c.expect(201, 'the promised bytes are the file')
        c.expect(400, 'the rest is no request')
        c.check_ended()
    check(bench.shared.ask('GET', '/longer').body == b'hello', 'five bytes')


@case
def garbage_in_place_of_chunks_is_refused(bench):
    before = bench.shared.names()
    for garbage in (b'hello', b'\r\n', b'-5\r\nhello\r\n', b'5\r\nhelloworld', b'5\nhello',
                    b'fffffffffffffffff\r\n', b'5\r\nhello\r\n0\r\nno trailer\x00\r\n\r\n',
                    b'5 ;\r\nhello' + b'\x00', b'1;' + b'x' * 5000, b'0x5\r\nhello\r\n0\r\n\r\n',
                    BODY):
        with bench.shared.connect() as c:
            data = request('PUT', '/garbage', ['Transfer-Encoding: chunked'], garbage)
            try:
                c.send(data)
                c.expect(400, f'chunks {garbage[:20]!r}')
            except BrokenPipeError:
                raise Failed(f'a reset before the answer to {garbage[:20]!r}') from None
    check(bench.shared.names() == before, 'nothing was made')


@case
def the_path_never_leads_out(bench):
    lead_out(bench, bench.serve())


@case
def the_path_never_leads_out_without_openat2(bench):
    lead_out(bench, bench.serve('sluice.capabilities.hidden=openat2'))


def lead_out(bench, server):
    outside = bench.new_folder()
    (outside / 'secret').write_text('secret')
    root = server.root
    (root / 'inside').mkdir()
    (root / 'inside' / 'file').write_text('file')
    (root / 'out').symlink_to(outside)
    (root / 'secret').symlink_to(outside / 'secret')
    (root / 'absolute').symlink_to('/etc')
    (root / 'loop').symlink_to('loop')
    (root / 'also').symlink_to('inside')
    os.mkfifo(root / 'fifo')
    before = server.names()
    forbidden = ['/../x', '/%2e%2e/x', '/inside/../../x', '/a%00b', '/%2fetc', '/inside%2ffile',
                 '/inside\\file', '/inside/%5c', '//inside', '/inside//file', '/./inside',
                 '/out/secret', '/secret', '/absolute/passwd', '/loop', '/loop/x', '/also/file',
                 '/' + 'a' * 256, '/%0a', '/inside/..', '/fifo']
    for path in forbidden:
        server.ask_for(403, 'GET', path)
        got = server.ask('PUT', path, body=b'x')
        check(got.status in (403, 409), f'PUT {path} is refused', answer=got)
        got = server.ask('DELETE', path)
        check(got.status in (403, 409), f'DELETE {path} is refused', answer=got)
    check(server.names() == before, f'nothing changed inside: {server.names()}')
    check(os.listdir(outside) == ['secret'], 'nothing changed outside')
    check((outside / 'secret').read_text() == 'secret', 'the secret is as it was')
    server.stop()


@case
def random_nonsense_is_survived(bench):
    server = bench.serve()
    descriptors = server.descriptors_at_rest()
    chance = random.Random(43)
    good = [request('GET', '/x', ['Range: bytes=0-1']), request('PUT', '/fuzz', body=b'hello'),
            request('PUT', '/fuzz', ['Transfer-Encoding: chunked'], chunked(b'hello', [2]))]
    for _ in range(300):
        data = bytearray(chance.choice(good) * chance.randint(1, 2))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            kind = chance.randrange(3)
            if kind == 0:
                data[at] = chance.randrange(256)
            elif kind == 1:
                del data[at:at + chance.randint(1, 8)]
            else:
                data[at:at] = chance.choice([b'\r\n', b'\n', b' ', b'\x00', b':', b'%', b'/..',
                                             b'\xff', b'0', b'GET / HTTP/1.1\r\n'])
            data = data or bytearray(b'\r')
        with server.connect() as c:
            c.send(bytes(data))
    server.check_quiet(descriptors, 'nonsense')
    server.ask_for(404, 'GET', '/still-here')
    server.stop()


@case
def a_large_body_that_is_refused_still_sees_the_answer(bench):
    server = bench.serve('sluice.http.body_max_bytes=1M')
    big = bench.file(content(20_000_000, seed=44))
    for options in (['-H', 'Expect:'], [], ['-H', 'Expect:', '-H', 'Transfer-Encoding: chunked']):
        out, _, error = curl('-T', big, *options, '-w', ' %{http_code}', server.url('/large'))
        check(out.endswith(b' 413'), f'curl {options} sees 413: {error}', answer=out)
    out, _, error = curl('-T', big, '-H', 'Expect:', '-w', ' %{http_code}', '--path-as-is',
                         server.url('/../x'))
    check(out.endswith(b' 403'), f'curl sees 403: {error}', answer=out)
    server.ask_for(201, 'PUT', '/fits', body=bytes(1 << 20))
    server.ask_for(413, 'PUT', '/too-large', body=bytes((1 << 20) + 1))
    check(server.names() == ['fits'], f'only what fits is there: {server.names()}')
    server.stop()
