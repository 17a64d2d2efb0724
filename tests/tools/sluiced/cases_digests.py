"""Digests of bodies (RFC 9530): promised, checked, kept, asked for."""

import base64
import hashlib
import os
import re
import time

from harness import Skipped, case, check, chunked, content, request

MISMATCH = re.compile(rb'400 Bad Request: the body is not what (\S+) promised: (\S+) was promised, '
                      rb'(\S+) is what came; nothing of this upload was kept\n')
WANT = 'Want-Repr-Digest: sha-256=5'


def digest(data, algorithm='sha-256'):
    raw = hashlib.new(algorithm.replace('-', ''), data).digest()
    return f'{algorithm}=:{base64.b64encode(raw).decode()}:'


def need_attributes(folder):
    probe = folder / '.probe'
    probe.touch()
    try:
        os.setxattr(probe, 'user.sluice.test', b'1')
    except OSError as reason:
        raise Skipped(f'no extended attributes here: {reason}') from None
    finally:
        probe.unlink()


def told(server, path, wanted='sha-256=5', method='GET', status=200, fields=()):
    got = server.ask_for(status, method, path, [f'Want-Repr-Digest: {wanted}', *fields])
    return got.fields.get('repr-digest')


@case
def a_body_with_its_digest_is_stored(bench):
    for size in [1, 5000, (256 << 10) + 1, 3_000_000]:
        data = content(size, seed=50)
        for name in ['Repr-Digest', 'content-digest']:
            for algorithm in ['sha-256', 'sha-512']:
                path = f'/digest/{size}-{name}-{algorithm}'
                got = bench.shared.ask_for(201, 'PUT', path,
                                           [f'{name}: {digest(data, algorithm)}'], data)
                check(f'bytes={size}; durability=durable' in got.fields['sluice-receipt'],
                      'the receipt', answer=got)
                check('repr-digest' not in got.fields, 'nobody asked for it', answer=got)
                check(bench.shared.ask('GET', path).body == data, f'{path} comes back')


@case
def an_empty_body_has_a_digest_too(bench):
    bench.shared.ask_for(201, 'PUT', '/digest/empty', [f'Repr-Digest: {digest(b"")}'])
    got = bench.shared.ask_for(400, 'PUT', '/digest/not-empty', [f'Repr-Digest: {digest(b"x")}'])
    check(MISMATCH.fullmatch(got.body), 'an empty body is not that', answer=got)
    with bench.shared.connect() as c:
        for status, data in [(204, b''), (400, b'x')]:
            fields = ['Transfer-Encoding: chunked', f'Repr-Digest: {digest(data)}']
            c.send(request('PUT', '/digest/empty', fields, chunked(b'', [1])))
            c.expect(status, 'an empty chunked body')


@case
def a_wrong_digest_leaves_nothing_and_keeps_the_connection(bench):
    server = bench.serve()
    for size in [5, 300_000, 3_000_000]:
        data = content(size, seed=51)
        wrong = digest(data + b'!')
        for fields, body in [([], data), (['Transfer-Encoding: chunked'], chunked(data, [65536]))]:
            with server.connect() as c:
                asked = request('PUT', '/new/x', [f'Repr-Digest: {wrong}', *fields], body)
                got = c.send(asked).expect(400, 'a wrong digest')
                match = MISMATCH.fullmatch(got.body)
                check(match, 'one line says what happened', asked, got)
                check(match[1] == b'Repr-Digest' and match[2].decode() == wrong
                      and match[3].decode() == digest(data), 'both digests', asked, got)
                receipt = got.fields.get('sluice-receipt', '')
                check(receipt.endswith(f'bytes={size}; durability=none'), 'the receipt', asked, got)
                check(server.names() == [], f'nothing is left: {server.names()}')
                c.send(request('GET', '/new/x')).expect(404, 'the connection goes on')
    metrics = server.metrics()
    check(metrics['sluice_receive_refused_total'] == 6, 'each was counted')
    check(metrics['sluice_http_uploads_aborted_total'] == 0, 'and none was cut off')
    server.stop()


@case
def a_wrong_digest_replaces_nothing(bench):
    bench.shared.ask_for(201, 'PUT', '/digest/kept', body=b'old')
    bench.shared.ask_for(400, 'PUT', '/digest/kept', [f'Content-Digest: {digest(b"other")}'],
                         b'new')
    check(bench.shared.ask('GET', '/digest/kept').body == b'old', 'the old file is there')


@case
def what_follows_a_refused_body_is_the_next_request(bench):
    data = content(400_000, seed=52)
    promise = f'Repr-Digest: {digest(b"")}'
    for refused in [request('PUT', '/digest/pipelined', [promise], data),
                    request('PUT', '/digest/pipelined', [promise], data[:100]),
                    request('PUT', '/digest/pipelined', ['Transfer-Encoding: chunked', promise],
                            chunked(data, [4096, 7]))]:
        with bench.shared.connect() as c:
            c.send(refused + request('GET', '/digest/pipelined') + refused
                   + request('GET', '/.sluice/metrics'))
            for status in [400, 404, 400, 200]:
                c.expect(status, 'pipelined')


@case
def a_digest_is_checked_over_chunks_of_any_size(bench):
    for name, sizes in {'ones': [1], 'odd': [1, 4095, 4097, 3, 65536], 'large': [1 << 20]}.items():
        data = content(700_001 if name != 'ones' else 40_000, seed=53)
        fields = ['Transfer-Encoding: chunked',
                  f'Repr-Digest: {digest(data)}, {digest(data, "sha-512")}']
        asked = request('PUT', f'/digest/chunks-{name}', fields, chunked(data, sizes))
        with bench.shared.connect() as c:
            c.send(asked).expect(201, f'chunks {name}')
        check(bench.shared.ask('GET', f'/digest/chunks-{name}').body == data, 'it comes back')


@case
def every_known_digest_of_both_fields_counts(bench):
    data, good, bad = b'hello', digest(b'hello'), digest(b'other')
    good_512, bad_512 = digest(data, 'sha-512'), digest(b'other', 'sha-512')
    for status, fields in [
            (201, [f'Content-Digest: {good}', f'Repr-Digest: {good_512}']),
            (204, [f'Repr-Digest: {good}, {good_512}', f'Content-Digest: {good}']),
            (204, [f'Repr-Digest: {good}', f'Repr-Digest: {good_512}']),
            (400, [f'Content-Digest: {good}', f'Repr-Digest: {bad}']),
            (400, [f'Content-Digest: {bad}', f'Repr-Digest: {good}']),
            (400, [f'Repr-Digest: {good}, {bad_512}']),
            (400, [f'Repr-Digest: {good}', f'Repr-Digest: {bad_512}'])]:
        bench.shared.ask_for(status, 'PUT', '/digest/several', fields, data)


@case
def unknown_algorithms_are_ignored(bench):
    for turn, value in enumerate(['md5=:YQ==:', 'unixsum=1234', '', f'sha=:YQ==:, {digest(b"x")}']):
        bench.shared.ask_for(204 if turn else 201, 'PUT', '/digest/unknown',
                             [f'Repr-Digest: {value}'], b'x')
    bench.shared.ask_for(400, 'PUT', '/digest/unknown',
                         [f'Repr-Digest: md5=:YQ==:, {digest(b"y")}'], b'x')


@case
def a_malformed_digest_is_refused_before_the_body(bench):
    for value in ['sha-256', 'sha-256=', 'sha-256=abc', 'sha-256=:abc:', 'sha-256=:YQ==', ',',
                  f'{digest(b"x")},', f'{digest(b"x")} x', 'SHA-256=:YQ==:']:
        for name in ['Repr-Digest', 'Content-Digest']:
            fields = [f'{name}: {value}', 'Content-Length: 1000000', 'Expect: 100-continue']
            with bench.shared.connect() as c:
                got = c.send(request('PUT', '/digest/malformed', fields)).expect(400, value)
                check(got.body.startswith(f'400 Bad Request: {name} is malformed'.encode()),
                      'the field is named', answer=got)
    # With a small body that is here the connection goes on; GET does not care.
    with bench.shared.connect() as c:
        c.send(request('PUT', '/digest/malformed', ['Repr-Digest: 1'], b'x')).expect(400)
        c.send(request('GET', '/digest/malformed', ['Repr-Digest: 1'])).expect(404)


@case
def a_forced_splice_cannot_check_and_says_so(bench):
    server = bench.serve('sluice.receive.path=splice')
    got = server.ask_for(500, 'PUT', '/x', [f'Repr-Digest: {digest(b"x")}'], b'x')
    check('reason="a check wants to see the bytes"' in got.fields.get('sluice-receipt', ''),
          'the receipt', answer=got)
    server.ask_for(201, 'PUT', '/x', body=b'x')
    server.stop()


@case
def a_digest_that_was_verified_is_told_to_who_asks(bench):
    server = bench.serve()
    need_attributes(server.root)
    data = content(300_000, seed=54)
    one, other = digest(data), digest(data, 'sha-512')
    got = server.ask_for(201, 'PUT', '/a', [f'Repr-Digest: {one}, {other}', WANT], data)
    check(got.fields.get('repr-digest') == one, 'PUT tells it', answer=got)
    for method in ['GET', 'HEAD']:
        check(told(server, '/a', method=method) == one, f'{method} tells it')
    check(told(server, '/a', 'sha-512=1, sha-256=3') == f'{one}, {other}', 'the most wanted first')
    check(told(server, '/a', 'sha-512=1, sha-256=0') == other, 'and 0 is no wish')
    for wanted in ['md5=5', 'sha-256=0', 'sha-256=11', 'nonsense nonsense']:
        check(told(server, '/a', wanted) is None, f'{wanted!r} wants nothing')
    check('repr-digest' not in server.ask('GET', '/a').fields, 'nobody asked')
    part = server.ask_for(206, 'GET', '/a', [WANT, 'Range: bytes=5-9'])
    check(part.fields.get('repr-digest') == one and part.body == data[5:10],
          'a part has the digest of the whole', answer=part)
    unchanged = [f'If-None-Match: {got.fields["etag"]}']
    check(told(server, '/a', status=304, fields=unchanged) is None, 'no file, no digest')
    server.stop()


@case
def without_a_promise_there_is_no_digest_to_tell(bench):
    got = bench.shared.ask_for(201, 'PUT', '/digest/plain', [WANT], b'plain')
    check('repr-digest' not in got.fields, 'nothing was verified', answer=got)
    check(told(bench.shared, '/digest/plain') is None, 'nothing was stored')


@case
def a_replaced_file_has_the_digest_of_its_own_upload(bench):
    server = bench.serve()
    need_attributes(server.root)
    server.ask_for(201, 'PUT', '/a', [f'Repr-Digest: {digest(b"one")}'], b'one')
    server.ask_for(204, 'PUT', '/a', [f'Repr-Digest: {digest(b"two")}'], b'two')
    check(told(server, '/a') == digest(b'two'), 'the second')
    server.ask_for(204, 'PUT', '/a', body=b'two')
    check(told(server, '/a') is None, 'the third promised nothing')
    server.stop()


@case
def a_digest_outlives_the_server_but_not_a_change_behind_its_back(bench):
    server = bench.serve()
    need_attributes(server.root)
    names = ['written', 'appended', 'cut', 'touched', 'replaced', 'left', 'copied']
    for name in names:
        server.ask_for(201, 'PUT', f'/{name}', [f'Content-Digest: {digest(b"hello")}'], b'hello')
    server.stop()
    root = server.root
    time.sleep(0.02)  # the kernel's clock for changes ticks every 10 ms at the latest
    with open(root / 'written', 'r+b') as f:
        f.write(b'hullo')
    with open(root / 'appended', 'ab') as f:
        f.write(b'!')
    os.truncate(root / 'cut', 3)
    os.utime(root / 'touched')
    (root / 'new').write_bytes(b'hello')
    os.rename(root / 'new', root / 'replaced')
    # A backup that keeps attributes and times keeps the digest.
    kept = os.getxattr(root / 'copied', 'user.sluice.repr-digest')
    times = (root / 'copied').stat()
    (root / 'copied').unlink()
    (root / 'copied').write_bytes(b'hello')
    os.setxattr(root / 'copied', 'user.sluice.repr-digest', kept)
    os.utime(root / 'copied', ns=(times.st_atime_ns, times.st_mtime_ns))

    server = bench.serve(root=root)
    for name in names:
        still = digest(b'hello') if name in ('left', 'copied') else None
        check(told(server, f'/{name}') == still, f'{name}: {still}')
    server.stop()


@case
def a_body_cut_off_is_told_as_such_whatever_its_digest(bench):
    server = bench.serve()
    data = content(600_000, seed=55)
    promise = f'Repr-Digest: {digest(data)}'
    for asked in [request('PUT', '/cut', [promise], data)[:-1],
                  request('PUT', '/cut', ['Transfer-Encoding: chunked', promise],
                          chunked(data, [50_000]))[:-5]]:
        with server.connect() as c:
            c.send(asked)
            c.end_sending()
            got = c.expect(400, 'a body cut off')
            check(b'ended before its promised length' in got.body, 'and not a mismatch', asked, got)
    check(server.names() == [], f'nothing is left: {server.names()}')
    server.stop()
