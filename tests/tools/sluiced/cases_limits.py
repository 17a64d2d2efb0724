"""Budgets and deadlines: memory, connections, heads, silence, rate."""

import time

from harness import Failed, case, check, request


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
    kept.expect(404)
    for _ in range(6):
        time.sleep(0.1)
        slow.socket.send(b'y' * 100)
    half_head.expect(408, 'half a head')
    half_head.check_ended()
    half_body.expect(408, 'half a body')
    half_chunk.expect(408, 'half a chunk')
    slow.expect(408, 'a slow body')
    silent.check_ended('a silent connection ends without a word')
    kept.check_ended('a kept connection ends without a word')
    for c in (half_body, half_chunk, slow):
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
    server = bench.serve('sluice.memory.head_blocks=4', 'sluice.http.head_timeout_ms=400')
    # An upload whose first bytes came with its head keeps the head's block until its end.
    stuck = [server.connect().send(request('PUT', f'/{i}', ['Content-Length: 1000000'], b'x'))
             for i in range(4)]
    time.sleep(0.1)
    with server.connect() as c:
        got = c.send(request('GET', '/none')).expect(503)
        check('retry-after' in got.fields, 'Retry-After', answer=got)
        c.check_ended()
    for c in stuck:
        c.close()
    server.ask_for(404, 'GET', '/none')
    server.stop()
