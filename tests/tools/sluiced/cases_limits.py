"""Budgets and deadlines: memory, connections, heads, silence, rate."""

import time

from harness import Failed, case, check, chunked, request, set_knob, wait_until


def head_of(size):
    """A GET of exactly `size` bytes."""
    empty = request('GET', '/none', ['X: '])
    return request('GET', '/none', ['X: ' + 'x' * (size - len(empty))])


@case
def a_head_has_a_size_limit(bench):
    bench.shared.connect().send(head_of(8192)).expect(404, 'a head of 8192 bytes')
    for data in (head_of(8193), head_of(100_000), request('GET', '/n', ['X: y'] * 3000)):
        with bench.shared.connect() as c:
            c.send(data).expect(431, 'a larger head')
            c.check_ended()
    with bench.shared.connect() as c:
        c.send(request('GET', '/' + 'a' * 9000)).expect(414, 'a longer line')
    with bench.shared.connect() as c:
        c.send(request('GET', '/' + 'a/' * 2500 + 'a')).expect(414, 'a longer path')


@case
def deadlines(bench):
    server = bench.serve('sluice.http.head_timeout_ms=400', 'sluice.http.idle_timeout_ms=700',
                         'sluice.receive.timeout_ms=500', 'sluice.receive.rate_min_bytes=1M')
    descriptors = server.descriptors_at_rest()
    half_head = server.connect().send(b'GET / HT')
    silent = server.connect()
    kept = server.connect().send(request('GET', '/none'))
    half_body = server.connect().send(request('PUT', '/half', ['Content-Length: 1000000'], b'x'))
    half_chunk = server.connect().send(
        request('PUT', '/half', ['Transfer-Encoding: chunked'], b'100\r\nx'))
    slow = server.connect().send(request('PUT', '/slow', ['Content-Length: 1000000'], b'x'))
    slow_chunks = server.connect().send(request('PUT', '/slow', ['Transfer-Encoding: chunked']))
    kept.expect(404)
    for _ in range(6):
        time.sleep(0.1)
        slow.socket.send(b'y' * 100)
        slow_chunks.socket.send(b'3\r\nyyy\r\n')
    half_head.expect(408, 'half a head')
    half_head.check_ended()
    half_body.expect(408, 'half a body')
    half_chunk.expect(408, 'half a chunk')
    slow.expect(408, 'a slow body')
    got = slow_chunks.expect(408, 'a slow body in chunks')
    check(b'slowly' in got.body, 'and it is told so', answer=got)
    silent.check_ended('a silent connection ends without a word')
    kept.check_ended('a kept connection ends without a word')
    for c in (half_body, half_chunk, slow, slow_chunks):
        c.close()
    check(server.names() == [], f'nothing is left: {server.names()}')
    server.check_quiet(descriptors, 'deadlines')
    check(server.metrics()['sluice_http_timeouts_total'] >= 6, 'they were counted')
    server.stop()


@case
def idle_connections_hold_no_lease(bench):
    server = bench.serve()
    descriptors = server.descriptors_at_rest()
    connections = [server.connect() for _ in range(300)]
    for c in connections:
        c.send(request('GET', '/none')).expect(404)
    values = server.metrics()
    check(values['sluice_memory_leases_in_use'] == 0, f'no lease in use: {values}')
    check(values['sluice_http_connections_open'] == 301, f'all are open: {values}')
    for c in connections:
        c.close()
    server.check_quiet(descriptors, 'idle connections')
    server.stop()


@case
def beyond_the_connection_limit_idle_ones_give_way(bench):
    server = bench.serve('sluice.http.connections_max=3')
    idle = [server.connect() for _ in range(3)]
    for c in idle:
        c.send(request('GET', '/none')).expect(404)
    with server.connect() as c:
        c.send(request('GET', '/none')).expect(404, 'one more')
        idle[0].check_ended('the one that waited longest gave way')
    for c in idle[1:]:
        c.send(request('GET', '/none')).expect(404, 'the others are served')
    server.stop()


@case
def more_idle_connections_than_a_ring_holds_operations(bench):
    server = bench.serve('sluice.ring.entries=8', 'sluice.ring.completion_entries=64')
    connections = [server.connect() for _ in range(150)]
    served = 0
    for c in reversed(connections):
        try:
            served += c.send(request('GET', '/none')).answer().status == 404
        except (Failed, OSError):  # it gave way to a later one
            pass
    check(served >= 40, f'the last ones are served: {served}')
    for c in connections:
        c.close()
    server.ask_for(201, 'PUT', '/a', body=bytes(3_000_000))
    server.stop()


@case
def beyond_the_connection_limit_busy_ones_stay(bench):
    server = bench.serve('sluice.http.connections_max=2')
    busy = [server.connect().send(request('PUT', f'/{i}', ['Content-Length: 10'], b'01234'))
            for i in range(2)]
    for _ in range(3):
        with server.connect() as c:
            got = c.expect(503, 'one more is told to come back')
            check('retry-after' in got.fields, 'Retry-After', answer=got)
            c.check_ended()
    for c in busy:
        c.send(b'56789').expect(201, 'those that were first are served')
    server.stop()


@case
def without_memory_an_upload_is_told_to_come_back(bench):
    server = bench.serve('sluice.memory.arena_bytes=2M', 'sluice.memory.head_blocks=16',
                         'sluice.http.head_timeout_ms=500')
    descriptors = server.descriptors_at_rest()
    stuck = [server.connect().send(request('PUT', f'/{i}', ['Content-Length: 1000000'], b'x'))
             for i in range(8)]  # at least one more than there are blocks
    time.sleep(0.2)
    for expecting in ([], ['Expect: 100-continue']):
        with server.connect() as c:
            c.send(request('PUT', '/more', ['Content-Length: 1000000', *expecting]))
            got = c.expect(503, 'no block in time')
            check('retry-after' in got.fields, 'Retry-After', answer=got)
    server.ask_for(404, 'GET', '/none')
    for c in stuck:
        c.close()
    server.check_quiet(descriptors, 'stuck uploads')
    server.ask_for(201, 'PUT', '/more', body=bytes(1_000_000))
    check(server.names() == ['more'], f'only the last is there: {server.names()}')
    server.stop()


@case
def heads_wait_for_memory_and_are_served(bench):
    server = bench.serve('sluice.memory.head_blocks=4')
    half = [server.connect().send(b'GET /none HTTP/1.1\r\n') for _ in range(4)]
    time.sleep(0.1)
    waiting = [server.connect().send(request('GET', '/none')) for _ in range(20)]
    waiting[0].check_silent(0.2, 'they wait')
    for c in half:
        c.send(b'Host: a\r\n\r\n').expect(404)
    for c in waiting:
        c.expect(404, 'they are served in their turn')
    server.stop()


@case
def without_memory_a_head_is_told_to_come_back(bench):
    control = bench.new_folder() / 'control'
    server = bench.serve('sluice.memory.head_blocks=4', control=control)
    stuck = [server.connect().send(b'GET /none HT') for _ in range(4)]
    time.sleep(0.1)
    set_knob(control, 'sluice.http.head_timeout_ms', '300')  # of those that come from now on
    with server.connect() as c:
        got = c.send(request('GET', '/none')).expect(503)
        check('retry-after' in got.fields, 'Retry-After', answer=got)
        c.check_ended()
    for c in stuck:
        c.close()
    server.ask_for(404, 'GET', '/none')
    server.stop()


@case
def uploads_under_way_leave_the_memory_for_heads_alone(bench):
    server = bench.serve('sluice.memory.head_blocks=4', 'sluice.http.head_timeout_ms=400')
    descriptors = server.descriptors_at_rest()
    framings = (['Content-Length: 1000000'], ['Transfer-Encoding: chunked'])
    # Their first bytes came with their heads.
    stuck = [server.connect().send(request('PUT', f'/{i}', framings[i % 2], b'8\r\nx'))
             for i in range(12)]
    wait_until(lambda: server.metrics()['sluice_http_requests_total'] > 12, 'they have begun')
    server.ask_for(404, 'GET', '/none')
    stuck[0].send(b'y' * (1_000_000 - 4)).expect(201, 'they go on')
    stuck[1].send(b'1234567\r\n0\r\n\r\n').expect(201, 'they go on')
    check((server.root / '0').read_bytes() == b'8\r\nx' + b'y' * 999_996, 'whole')
    check((server.root / '1').read_bytes() == b'x1234567', 'whole')
    for c in stuck:
        c.close()
    server.check_quiet(descriptors, 'uploads under way')
    server.stop()


@case
def half_a_head_behind_a_chunked_body_holds_no_memory_for_bodies(bench):
    server = bench.serve('sluice.memory.arena_bytes=2M', 'sluice.memory.head_blocks=32',
                         'sluice.http.head_timeout_ms=3000')
    coded = request('PUT', '/behind', ['Transfer-Encoding: chunked'],
                    chunked(bytes(100_000), [50_000]))
    waiting = [server.connect() for _ in range(8)]  # more than there are blocks
    for c in waiting:
        c.send(coded + b'GET /none HTTP/1.1\r\n')
        check(c.answer().status in (201, 204), 'the upload')
    began = time.monotonic()
    server.ask_for(201, 'PUT', '/more', body=bytes(100_000))
    check(time.monotonic() - began < 2, 'it waited for no block')
    for c in waiting:
        c.send(b'Host: a\r\n\r\n').expect(404, 'what was sent before is not lost')
    server.stop()


@case
def a_pause_before_a_short_chunked_body_is_no_slowness(bench):
    with bench.shared.connect() as c:
        c.send(request('PUT', '/pause', ['Transfer-Encoding: chunked']))
        time.sleep(5.3)
        c.send(b'5\r\nhello\r\n0\r\n\r\n').expect(201, 'a few bytes after 5 seconds')


@case
def a_download_without_memory_is_told_to_come_back(bench):
    server = bench.serve('sluice.memory.arena_bytes=2M', 'sluice.memory.head_blocks=32',
                         'sluice.send.timeout_ms=300', 'sluice.receive.rate_min_bytes=0',
                         'sluice.send.path=copy')  # a splice needs no block
    server.ask_for(201, 'PUT', '/file', body=b'here')
    stuck = [server.connect().send(request('PUT', '/x', ['Transfer-Encoding: chunked']))
             for _ in range(8)]
    time.sleep(0.2)
    for c in stuck:  # each holds the block that its first bytes went to, while there are any
        c.send(b'10\r\nxx')
    time.sleep(0.2)
    with server.connect() as c:
        got = c.send(request('GET', '/file')).expect(503, 'no block in time')
        check('retry-after' in got.fields and 'etag' not in got.fields, 'Retry-After', answer=got)
        for other in stuck:
            other.close()
        got = c.send(request('GET', '/file')).expect(200, 'later, on the same connection')
        check(got.body == b'here', 'the file', answer=got)
    server.stop()


@case
def a_chunked_upload_without_memory_is_told_to_come_back(bench):
    server = bench.serve('sluice.memory.arena_bytes=2M', 'sluice.memory.head_blocks=32',
                         'sluice.http.head_timeout_ms=500', 'sluice.receive.timeout_ms=4000',
                         'sluice.receive.rate_min_bytes=0')
    head = request('PUT', '/x', ['Transfer-Encoding: chunked', 'Expect: 100-continue'])
    # Three blocks, each given up after a timeout, so that six get one in the two timeouts that the
    # others wait.
    connections = [server.connect().send(head) for _ in range(16)]
    for c in connections:
        c.expect(100)
    for c in connections:  # each holds the block that its first bytes went to, while there are any
        c.send(b'10\r\nxx')
    time.sleep(0.2)
    # In which order they get a block nobody promises.
    answers = [c.answer() for c in connections]
    told = [a for a in answers if a.status == 503]
    check(len(told) > 0, 'no block in time', answer=answers[-1])
    for got in told:
        check('retry-after' in got.fields, 'Retry-After', answer=got)
        check(b'memory' in got.body, 'and why', answer=got)
    check({a.status for a in answers} <= {408, 503}, 'the others waited with a block')
    check(server.metrics()['sluice_http_timeouts_total'] <= len(answers) - len(told),
          'who had none is not blamed')
    for c in connections:
        c.close()
    server.stop()
