"""HTTP/1.1 as RFC 9110 and RFC 9112 have it: methods, ranges, conditions, connections."""

import os
import socket
import time

from harness import case, check, chunked, content, request

DATA = content(10_000, seed=7)


def put(server, path, data=DATA):
    got = server.ask('PUT', path, body=data)
    check(got.status in (201, 204), f'PUT {path}', answer=got)
    return got.fields['etag']


@case
def get_and_head_agree(bench):
    put(bench.shared, '/agree.txt')
    get = bench.shared.ask_for(200, 'GET', '/agree.txt')
    head = bench.shared.ask_for(200, 'HEAD', '/agree.txt')
    for got in (get, head):
        got.fields.pop('date')
    check(get.fields == head.fields, 'the fields are the same', answer=head)
    check(get.fields['content-length'] == '10000', 'the length', answer=get)
    check(get.fields['content-type'] == 'text/plain; charset=utf-8', 'the type', answer=get)
    check(get.fields['accept-ranges'] == 'bytes', 'ranges are offered', answer=get)
    check(get.body == DATA and head.body == b'', 'only GET has a body')


@case
def ranges(bench):
    put(bench.shared, '/range')
    wanted = {
        'bytes=0-0': (0, 1), 'bytes=0-': (0, 10_000), 'bytes=9999-': (9999, 10_000),
        'bytes=4095-4096': (4095, 4097), 'bytes=-1': (9999, 10_000),
        'bytes=-20000': (0, 10_000), 'bytes=5-20000': (5, 10_000)}
    for field, (first, end) in wanted.items():
        got = bench.shared.ask_for(206, 'GET', '/range', [f'Range: {field}'])
        check(got.body == DATA[first:end], f'{field}: the bytes', answer=got)
        check(got.fields['content-range'] == f'bytes {first}-{end - 1}/10000',
              f'{field}: Content-Range', answer=got)
    for field in ('bytes=10000-', 'bytes=-0', 'bytes=99999999999999999999-'):
        got = bench.shared.ask_for(416, 'GET', '/range', [f'Range: {field}'])
        check(got.fields['content-range'] == 'bytes */10000', 'Content-Range', answer=got)
    for field in ('bytes=0-1,5-6', 'lines=0-1', 'bytes=5-4', 'bytes=x'):
        got = bench.shared.ask_for(200, 'GET', '/range', [f'Range: {field}'])
        check(got.body == DATA, f'{field}: everything', answer=got)
    got = bench.shared.ask_for(200, 'HEAD', '/range', ['Range: bytes=0-0'])
    check(got.fields['content-length'] == '10000', 'HEAD has no ranges', answer=got)


@case
def a_range_applies_only_to_the_content_that_if_range_names(bench):
    etag = put(bench.shared, '/if-range')
    fields = ['Range: bytes=1-2']
    bench.shared.ask_for(206, 'GET', '/if-range', fields + [f'If-Range: {etag}'])
    bench.shared.ask_for(200, 'GET', '/if-range', fields + ['If-Range: "other"'])
    bench.shared.ask_for(200, 'GET', '/if-range', fields + [f'If-Range: W/{etag}'])


@case
def ranges_of_a_large_file(bench):
    data = content(3_000_001, seed=8)
    put(bench.shared, '/large-range', data)
    for first, last in [(0, 999_999), (262_143, 262_144), (1_000_001, 3_000_000), (7, 2_999_993)]:
        got = bench.shared.ask_for(206, 'GET', '/large-range', [f'Range: bytes={first}-{last}'])
        check(got.body == data[first:last + 1], f'{first}-{last}: the bytes')


@case
def conditions_of_reads(bench):
    etag = put(bench.shared, '/read-if')
    modified = bench.shared.ask('HEAD', '/read-if').fields['last-modified']
    table = [
        (304, f'If-None-Match: {etag}'), (304, f'If-None-Match: "x", W/{etag}'),
        (304, 'If-None-Match: *'), (200, 'If-None-Match: "x"'), (400, 'If-None-Match: x'),
        (200, f'If-Match: {etag}'), (412, 'If-Match: "x"'), (412, f'If-Match: W/{etag}'),
        (200, 'If-Match: *'), (304, f'If-Modified-Since: {modified}'),
        (200, 'If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT'),
        (412, 'If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT'),
        (200, f'If-Unmodified-Since: {modified}')]
    for status, field in table:
        for method in ('GET', 'HEAD'):
            got = bench.shared.ask_for(status, method, '/read-if', [field])
            if status == 304:
                check(got.fields.get('etag') == etag, '304 says the tag', answer=got)
    bench.shared.ask_for(404, 'GET', '/nothing-here', ['If-Match: *'])


@case
def conditions_of_changes(bench):
    server = bench.shared
    server.ask_for(412, 'PUT', '/change-if', ['If-Match: *'], b'x')
    server.ask_for(412, 'PUT', '/change-if', ['If-Match: "x"'], b'x')
    check('change-if' not in server.names(), 'a refused upload leaves nothing')
    server.ask_for(201, 'PUT', '/change-if', ['If-None-Match: *'], b'one')
    server.ask_for(412, 'PUT', '/change-if', ['If-None-Match: *'], b'two')
    etag = server.ask('HEAD', '/change-if').fields['etag']
    server.ask_for(412, 'PUT', '/change-if', [f'If-None-Match: {etag}'], b'two')
    second = server.ask_for(204, 'PUT', '/change-if', [f'If-Match: "x", {etag}'], b'two')
    server.ask_for(412, 'PUT', '/change-if', [f'If-Match: {etag}'], b'three')
    check(server.ask('GET', '/change-if').body == b'two', 'the refused uploads changed nothing')
    server.ask_for(412, 'DELETE', '/change-if', [f'If-Match: {etag}'])
    server.ask_for(204, 'DELETE', '/change-if', [f"If-Match: {second.fields['etag']}"])
    server.ask_for(404, 'DELETE', '/change-if')


@case
def a_condition_is_checked_again_when_the_body_is_there(bench):
    etag = put(bench.shared, '/again', b'one')
    with bench.shared.connect() as slow:
        slow.send(request('PUT', '/again', [f'If-Match: {etag}', 'Content-Length: 10',
                                            'Expect: 100-continue']))
        slow.expect(100)
        put(bench.shared, '/again', b'two')
        slow.send(b'0123456789').expect(412, 'the file changed under the upload')
        slow.send(request('GET', '/again'))
        check(slow.expect(200).body == b'two', 'the other upload stays')


def answers_at_once(server, asked, last):
    """Every request has passed its first checks (100) before the last bytes of any are sent."""
    connections = [server.connect().send(data) for data in asked]
    for c in connections:
        c.expect(100)
    for c, data in zip(connections, last):
        c.send(data)
    answers = [c.answer() for c in connections]
    for c in connections:
        c.close()
    return answers


def uploads_at_once(server, path, fields, bodies):
    head = request('PUT', path, [*fields, f'Content-Length: {len(bodies[0])}',
                                 'Expect: 100-continue'])
    return answers_at_once(server, [head] * len(bodies), bodies)


@case
def of_uploads_that_ask_for_the_same_old_file_one_replaces_it(bench):
    server = bench.serve(engines=2)
    etag = put(server, '/guarded', b'the old file')
    for turn in range(20):
        bodies = [b'%3d %3d' % (turn, i) * 1000 for i in range(6)]
        answers = uploads_at_once(server, '/guarded', [f'If-Match: {etag}'], bodies)
        statuses = sorted(a.status for a in answers)
        check(statuses == [204] + [412] * 5, f'one replaces, the others hear of it: {statuses}')
        winner = next(i for i, a in enumerate(answers) if a.status == 204)
        etag = answers[winner].fields['etag']
        got = server.ask_for(200, 'GET', '/guarded')
        check(got.body == bodies[winner] and got.fields['etag'] == etag,
              'who was told 204 is there', answer=got)
    server.stop()


@case
def of_uploads_that_ask_for_no_file_one_makes_it(bench):
    server = bench.serve(engines=2)
    for turn in range(10):
        answers = uploads_at_once(server, f'/made/{turn}/x', ['If-None-Match: *'], [b'body'] * 6)
        statuses = sorted(a.status for a in answers)
        check(statuses == [201] + [412] * 5, f'one makes it: {statuses}')
    server.stop()


@case
def a_guarded_delete_removes_nothing_that_nobody_named(bench):
    server = bench.serve(engines=2)
    for turn in range(20):
        etag = put(server, '/gone', b'old')
        with server.connect() as upload, server.connect() as delete:
            upload.send(request('PUT', '/gone', [f'If-Match: {etag}', 'Content-Length: 3',
                                                 'Expect: 100-continue'])).expect(100)
            upload.send(b'new')
            delete.send(request('DELETE', '/gone', [f'If-Match: {etag}']))
            statuses = (upload.answer().status, delete.answer().status)
        check(statuses in ((204, 412), (412, 204)), f'one of both: {statuses}')
        there = server.ask('GET', '/gone').status
        check(there == (200 if statuses[0] == 204 else 404), f'{statuses}, then {there}')
    server.stop()


@case
def uploads_of_one_size_within_a_moment_differ_in_their_tags(bench):
    server = bench.serve('sluice.http.durability=stored')
    tags = []
    for turn in range(50):
        before = time.time_ns()
        tags.append(put(server, '/tags', b'%4d' % turn))
        changed = os.stat(server.root / 'tags').st_mtime_ns
        check(before <= changed <= time.time_ns(),
              f'the time is precise, not that of the last tick: {before - changed} ns before')
    check(len(set(tags)) == 50, f'all tags differ: {sorted(tags)}')
    server.stop()


@case
def delete_removes_files_only(bench):
    put(bench.shared, '/delete/me')
    bench.shared.ask_for(204, 'DELETE', '/delete/me')
    bench.shared.ask_for(404, 'GET', '/delete/me')
    bench.shared.ask_for(404, 'DELETE', '/delete/me')
    bench.shared.ask_for(409, 'DELETE', '/delete')
    bench.shared.ask_for(409, 'DELETE', '/delete/')


@case
def what_is_in_the_way_is_a_conflict(bench):
    put(bench.shared, '/way/file')
    for path in ('/way', '/way/', '/', '/way/file/below', '/way/file/far/below'):
        bench.shared.ask_for(409, 'PUT', path, body=b'x')
    bench.shared.ask_for(404, 'GET', '/way/file/below')
    bench.shared.ask_for(404, 'GET', '/way')
    server = bench.serve('sluice.http.create_parents=off')
    server.ask_for(409, 'PUT', '/missing/parent', body=b'x')
    os.mkdir(server.root / 'missing')
    server.ask_for(201, 'PUT', '/missing/parent', body=b'x')
    server.stop()


@case
def methods(bench):
    for method in ('POST', 'PATCH', 'TRACE', 'BREW', 'get'):
        got = bench.shared.ask_for(405, method, '/a')
        check('PUT' in got.fields.get('allow', ''), 'Allow', answer=got)
    got = bench.shared.ask_for(204, 'OPTIONS', '*')
    check('PUT' in got.fields.get('allow', ''), 'Allow', answer=got)
    for method in ('PUT', 'DELETE'):
        got = bench.shared.ask_for(405, method, '/.sluice/metrics')
        check(got.fields.get('allow') == 'GET, HEAD, OPTIONS', 'Allow', answer=got)
        bench.shared.ask_for(403, method, '/.sluice/other')
    bench.shared.ask_for(200, 'GET', '/.sluice/metrics?x')
    for path in ('/.sluice/other', '/.sluice/metrics/', '/.sluice/metrics/x'):
        bench.shared.ask_for(404, 'GET', path)
    bench.shared.ask_for(405, 'CONNECT', 'host:443')


@case
def expect_100_continue_follows_the_checks(bench):
    put(bench.shared, '/expect')
    expecting = ['Expect: 100-continue', 'Content-Length: 5']
    with bench.shared.connect() as c:
        c.send(request('PUT', '/expect-new', expecting)).expect(100)
        c.send(b'hello').expect(201)
        c.send(request('GET', '/expect-new'))
        check(c.expect(200).body == b'hello', 'the body is what came after the 100')
    refused = [(409, '/', []), (403, '/../x', []), (412, '/expect', ['If-None-Match: *']),
               (405, '/expect', [])]
    for status, path, fields in refused:
        method = 'POST' if status == 405 else 'PUT'
        with bench.shared.connect() as c:
            c.send(request(method, path, expecting + fields)).expect(status, 'without a 100 before')
            c.check_ended()
    with bench.shared.connect() as c:
        c.send(request('PUT', '/expect', ['Expect: tea', 'Content-Length: 5'])).expect(417)
    with bench.shared.connect() as c:
        c.send(request('PUT', '/expect-now', expecting) + b'hello').expect(201, 'body came along')


@case
def framing_errors(bench):
    table = [
        (411, b'PUT /x HTTP/1.1\r\nHost: a\r\n\r\n'),
        (400, b'PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked'
              b'\r\n\r\n0\r\n\r\n'),
        (400, b'PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx'),
        (400, request('PUT', '/x', ['Content-Range: bytes 0-0/2'], b'x')),
        (501, b'PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n'),
        (400, b'PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\n'
              b'hello'),
        (400, b'GET / HTTP/1.1\r\n\r\n'), (505, b'GET / HTTP/3.0\r\nHost: a\r\n\r\n'),
        (400, b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'), (400, b'GET / HTTP/1.1\n\n'),
        (400, b'GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n'),
        (400, b'GET /a b HTTP/1.1\r\nHost: a\r\n\r\n')]
    for status, data in table:
        with bench.shared.connect() as c:
            got = c.send(data).expect(status)
            check(len(got.body) > 20, 'a sentence for a person', data, got)
    check('x' not in bench.shared.names(), 'nothing was made')


@case
def connections_are_kept_or_closed_as_asked(bench):
    put(bench.shared, '/keep')
    with bench.shared.connect() as c:
        for _ in range(5):
            c.send(request('GET', '/keep')).expect(200)
        c.send(request('GET', '/keep', ['Connection: close']))
        got = c.expect(200)
        check(got.fields.get('connection') == 'close', 'close is confirmed', answer=got)
        c.check_ended()
    with bench.shared.connect() as c:
        got = c.send(request('GET', '/keep', version='1.0')).expect(200)
        check(got.fields.get('connection') == 'close', 'HTTP/1.0 closes', answer=got)
        c.check_ended()
    with bench.shared.connect() as c:
        for _ in range(2):
            got = c.send(request('GET', '/keep', ['Connection: keep-alive'],
                                 version='1.0')).expect(200)
            check(got.fields.get('connection') == 'keep-alive', 'unless asked', answer=got)


@case
def an_error_without_unread_body_keeps_the_connection(bench):
    with bench.shared.connect() as c:
        c.send(request('GET', '/none')).expect(404)
        c.send(request('PUT', '/', body=b'small')).expect(409)
        c.send(request('DELETE', '/none')).expect(404)
        c.send(request('GET', '/../x')).expect(403)
        c.send(request('GET', '/none', body=b'a body nobody wants')).expect(404)
        c.send(request('OPTIONS', '*')).expect(204)


@case
def pipelined_requests_are_answered_in_order(bench):
    bodies = [content(n, seed=n) for n in (5, 3000, 20_000)]
    burst = b''.join(request('PUT', f'/pipe/{i}', body=b) for i, b in enumerate(bodies))
    burst += b''.join(request('GET', f'/pipe/{i}') for i in range(3))
    burst += request('HEAD', '/pipe/0') + b'\r\n' + request('DELETE', '/pipe/0')
    burst += request('GET', '/pipe/0')
    with bench.shared.connect() as c:
        c.send(burst)
        for _ in bodies:
            c.expect(201)
        for body in bodies:
            check(c.expect(200).body == body, 'the answers come in order', burst)
        c.expect(200, to_head=True)
        c.expect(204)
        c.expect(404)


@case
def requests_behind_a_chunked_body_are_not_lost(bench):
    first, second = content(300_000, seed=20), content(400_000, seed=21)
    for sizes in ([1000], [1 << 20]):
        burst = request('PUT', '/behind/1', ['Transfer-Encoding: chunked'], chunked(first, sizes))
        burst += request('PUT', '/behind/2', body=second) + request('GET', '/behind/1')
        with bench.shared.connect() as c:
            c.send(burst)
            check(c.answer().status in (201, 204), 'the chunked one')
            check(c.answer().status in (201, 204), 'the one behind it')
            check(c.expect(200).body == first, 'the third')
        check(bench.shared.ask('GET', '/behind/2').body == second, 'its body is whole')


@case
def a_head_may_be_split_at_every_byte(bench):
    put(bench.shared, '/split')
    data = request('PUT', '/split', ['If-Match: *', 'X: y'], b'hello') + request('GET', '/split')
    connections = []
    for at in range(1, len(data)):
        c = bench.shared.connect()
        connections.append((c, at))
        c.send(data[:at])
    bench.shared.metrics()  # by its answer the server has seen the first halves
    for c, at in connections:
        c.send(data[at:])
    for c, at in connections:
        c.expect(204, f'split at {at}')
        check(c.expect(200).body == b'hello', f'split at {at}')
        c.close()


@case
def a_request_may_come_byte_by_byte(bench):
    body = chunked(b'hello, world', [5])
    data = request('PUT', '/bytes', ['Transfer-Encoding: chunked'], body) + request('GET', '/bytes')
    with bench.shared.connect() as c:
        for i in range(len(data)):
            c.send(data[i:i + 1])
        check(c.answer().status in (201, 204), 'the upload')
        check(c.expect(200).body == b'hello, world', 'what was uploaded')


@case
def a_chunked_body_may_be_split_at_every_byte(bench):
    coded = b'5;x="y"\r\nhello\r\n00006\r\n, you!\r\n0\r\nTrailer: x\r\n\r\n'
    head = request('PUT', '/chunk-split', ['Transfer-Encoding: chunked'])
    connections = []
    for at in range(len(coded)):
        c = bench.shared.connect()
        connections.append((c, at))
        c.send(head + coded[:at])
    bench.shared.metrics()
    for c, at in connections:
        c.send(coded[at:] + request('HEAD', '/chunk-split'))
    for c, at in connections:
        check(c.answer().status in (201, 204), f'split at {at}')
        got = c.expect(200, to_head=True)
        check(got.fields['content-length'] == '11', f'split at {at}', answer=got)
        c.close()


@case
def a_peer_that_has_ended_sending_still_gets_its_answer(bench):
    put(bench.shared, '/half')
    with bench.shared.connect() as c:
        c.send(request('GET', '/half'))
        c.end_sending()
        check(c.expect(200).body == DATA, 'the file')
        c.check_ended()
    with bench.shared.connect() as c:
        c.send(request('PUT', '/half-put', ['Content-Length: 100'], b'short'))
        c.end_sending()
        c.expect(400, 'the body is shorter than promised')
        c.check_ended()
    check('half-put' not in bench.shared.names(), 'nothing was made')


@case
def an_answer_is_whole_though_the_peer_sent_more_behind_its_last_request(bench):
    body = content(2_000_000, seed=22)
    put(bench.shared, '/whole', body)
    with bench.shared.connect(receive_buffer=1 << 17) as c:
        c.send(request('GET', '/whole', ['Connection: close']))
        time.sleep(0.2)  # the head is read, and the answer fills all buffers
        c.send(b'one more byte, and more of them')
        got = c.answer()
        check(got.body == body, f'{len(got.body)} bytes came')
        c.check_ended()


@case
def an_answer_is_whole_though_the_server_is_told_to_stop(bench):
    body = content(16_000_000, seed=23)  # more than all buffers between hold
    server = bench.serve()
    put(server, '/whole', body)
    with server.connect(receive_buffer=1 << 17) as c:
        c.send(request('GET', '/whole'))
        time.sleep(0.2)
        server.signal()
        c.send(request('GET', '/whole') * 3)
        check(c.answer().body == body, 'the answer under way')
        got = c.answer()  # of a request that had come; the last
        check(got.fields.get('connection') == 'close', 'no more of them', answer=got)
        check(got.body == body, f'{len(got.body)} bytes came')
        c.check_ended()
    server.wait_for_exit()


@case
def absolute_targets_and_queries(bench):
    put(bench.shared, '/target%20file')
    for path in ('/target%20file', '/target%20file?a=b/../c', 'http://x:1/target%20file',
                 '/%74arget%20file'):
        bench.shared.ask_for(200, 'GET', path)
    got = bench.shared.ask_for(201, 'PUT', '/encoded/%C3%A4%25', body=b'x')
    check(got.fields['location'] == '/encoded/%C3%A4%25', 'Location is encoded again', answer=got)
    check((bench.shared.root / 'encoded' / 'ä%').read_bytes() == b'x', 'decoded once')


@case
def small_answers_leave_in_one_piece(bench):
    put(bench.shared, '/piece', b'tiny')
    with bench.shared.connect() as c:
        c.send(request('GET', '/piece'))
        data = c.socket.recv(65536)
        check(data.endswith(b'\r\n\r\ntiny'), f'head and body came together: {data!r}')
        check(c.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, 'still connected')
