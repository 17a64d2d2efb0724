"""Uploads and downloads that go well, byte for byte, by curl and by hand."""

import concurrent.futures
import os
import re
import shutil
import tempfile
import time

from harness import Skipped, case, check, chunked, content, curl, request, wait_until

SIZES = [0, 1, 4095, 4096, 4097, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, (1 << 20) + 7,
         20_000_000]


def upload_with_curl(bench, data, path, *options):
    source = bench.file(data)
    out, status, error = curl('-T', source, '-D', '-', '-o', bench.folder / 'ignored', *options,
                              bench.shared.url(path))
    check(status == 0, f'curl -T {path} with {len(data)} bytes: {error}', answer=out)
    return out.decode()


def check_download(bench, path, data):
    out, status, error = curl(bench.shared.url(path))
    check(status == 0, f'curl {path}: {error}')
    check(out == data, f'{path} comes back with the same {len(data)} bytes, got {len(out)}')
    there = (bench.shared.root / path[1:]).read_bytes()
    check(there == data, f'{path} lies in the root with the same bytes')


@case
def curl_uploads_with_a_length_come_back_identical(bench):
    for size in SIZES:
        data = content(size)
        head = upload_with_curl(bench, data, f'/cl/{size}')
        check('201 Created' in head, f'{size} bytes are created', answer=head)
        check(f'bytes={size}; durability=durable' in head, 'the receipt counts them', answer=head)
        check_download(bench, f'/cl/{size}', data)


@case
def curl_uploads_in_chunks_come_back_identical(bench):
    for size in SIZES[1:]:  # curl 7.88 never sends the last chunk of an empty file
        data = content(size, seed=2)
        head = upload_with_curl(bench, data, f'/chunked/{size}', '-H',
                                'Transfer-Encoding: chunked')
        check('201 Created' in head, f'{size} bytes are created', answer=head)
        check(f'bytes={size};' in head, 'the receipt counts them', answer=head)
        check_download(bench, f'/chunked/{size}', data)


@case
def chunks_of_any_size_make_the_same_body(bench):
    empty = request('PUT', '/shape/empty', ['Transfer-Encoding: chunked'], chunked(b'', [1]))
    with bench.shared.connect() as c:
        c.send(empty).expect(201, 'no chunks')
    shapes = {'ones': [1], 'odd': [1, 4095, 4097, 3, 65536], 'blocks': [256 << 10],
              'large': [1 << 20]}
    for name, sizes in shapes.items():
        data = content(700_001 if name != 'ones' else 40_000, seed=3)
        asked = request('PUT', f'/shape/{name}', ['Transfer-Encoding: chunked'],
                        chunked(data, sizes))
        with bench.shared.connect() as c:
            got = c.send(asked).expect(201, f'chunks {name}')
        check(f'bytes={len(data)};' in got.fields['sluice-receipt'], 'the receipt', asked, got)
        got = bench.shared.ask_for(200, 'GET', f'/shape/{name}')
        check(got.body == data, f'chunks {name} come back as they were')


@case
def a_receipt_names_path_reason_copies_operations_times_bytes_and_durability(bench):
    small = bench.shared.ask_for(201, 'PUT', '/receipt/small', body=b'hello')
    receipt = small.fields.get('sluice-receipt', '')
    check(receipt.startswith('path=copy; reason="'), 'a small body is copied', answer=small)
    fields = re.search(r'; copies=2; misrouted=0; ops=(\d+); short_ops=(\d+); first_byte_us=(\d+); '
                       r'last_byte_us=(\d+); stored_us=(\d+); durable_us=(\d+); bytes=5; '
                       r'durability=durable$', receipt)
    check(fields is not None, 'all fields', answer=small)
    ops, short_ops, *times = (int(number) for number in fields.groups())
    check(0 < ops < 20 and short_ops <= ops, 'the operations are counted', answer=small)
    check(times == sorted(times) and times[-1] < 60_000_000,
          'first byte, last byte, stored, durable come in this order', answer=small)
    empty = bench.shared.ask_for(201, 'PUT', '/receipt/empty')
    check('bytes=0' in empty.fields.get('sluice-receipt', ''), 'an empty body too', answer=empty)


@case
def the_receipt_of_a_download_follows_it_for_who_takes_trailers(bench):
    data = content(3_000_001, seed=8)
    small = content(5000, seed=9)
    for name, body in {'big': data, 'small': small, 'empty': b''}.items():
        bench.shared.ask_for(201, 'PUT', f'/trailers/{name}', body=body)
    asks = ['TE: gzip;q=0.5, trailers', 'Connection: TE']
    with bench.shared.connect() as c:
        asked = request('GET', '/trailers/big', asks)
        got = c.send(asked).expect(200, 'one request with trailers')
        check(got.body == data and 'content-length' not in got.fields, 'the body', asked, got)
        check(got.fields.get('trailer') == 'Sluice-Receipt', 'it is announced', asked, got)
        receipt = got.trailers.get('sluice-receipt', '')
        check(re.match(r'path=splice; reason="auto: [^"]+"; copies=0; misrouted=\d+; ops=\d+; ',
                       receipt) and receipt.endswith('bytes=3000001; durability=none'),
              f'the receipt: {receipt}', asked, got)
        asked = request('GET', '/trailers/small', [*asks, 'Range: bytes=1-4000'])
        got = c.send(asked).expect(206, 'a range on the same connection')
        check(got.body == small[1:4001], 'the range', asked, got)
        check('path=copy; ' in got.trailers['sluice-receipt'] and
              'bytes=4000;' in got.trailers['sluice-receipt'], 'its receipt', asked, got)
        got = c.send(request('GET', '/trailers/empty', asks)).expect(200, 'nothing to send')
        check(got.fields.get('content-length') == '0' and not got.trailers, 'no transfer', b'', got)
        got = c.send(request('HEAD', '/trailers/big', asks)).expect(200, 'HEAD', to_head=True)
        check(got.fields.get('content-length') == '3000001', 'HEAD says the length', b'', got)
        got = c.send(request('GET', '/trailers/big')).expect(200, 'who does not take trailers')
        check(got.body == data and 'trailer' not in got.fields, 'gets none', b'', got)
    out, status, error = curl('-D', '-', '-o', bench.folder / 'trailed', '-H', 'TE: trailers', '-H',
                              'Connection: TE', bench.shared.url('/trailers/big'))
    check(status == 0 and (bench.folder / 'trailed').read_bytes() == data, f'curl: {error}')
    check(b'Sluice-Receipt: path=splice' in out, 'curl shows it', answer=out)


@case
def a_path_that_is_not_to_be_had_is_in_the_receipt(bench):
    if not os.access('/dev/shm', os.W_OK):
        raise Skipped('no filesystem without O_DIRECT here')
    root = tempfile.mkdtemp(dir='/dev/shm')
    bench.cleanup.callback(shutil.rmtree, root)
    server = bench.serve('sluice.receive.path=direct', root=root)
    got = server.ask_for(500, 'PUT', '/a', body=bytes(1_000_000))
    receipt = got.fields.get('sluice-receipt', '')
    check(receipt.startswith('path=direct; reason="') and 'reason=""' not in receipt,
          'what was refused, and why', answer=got)
    check(receipt.endswith('bytes=0; durability=none'), 'and nothing was moved', answer=got)
    check('path_unavailable' in server.messages(), f'the log has it: {server.messages()}')
    server.stop()


@case
def a_file_that_cannot_be_sent_is_answered_with_a_status(bench):
    if not os.access('/dev/shm', os.W_OK):
        raise Skipped('no filesystem without O_DIRECT here')
    root = tempfile.mkdtemp(dir='/dev/shm')
    bench.cleanup.callback(shutil.rmtree, root)
    server = bench.serve('sluice.send.path=direct', root=root)
    server.ask_for(201, 'PUT', '/a', body=content(1_000_000))
    with server.connect() as c:
        for _ in range(2):  # the connection lives on
            got = c.send(request('GET', '/a')).expect(500)
            check(b'no O_DIRECT' in got.body, 'a sentence says why', answer=got)
        c.send(request('HEAD', '/a')).expect(200, to_head=True)
    check('path_unavailable' in server.messages(), f'the log has it: {server.messages()}')
    server.stop()


@case
def a_chunked_body_is_copied_or_refused_when_another_path_is_forced(bench):
    data = content(700_001, seed=6)
    for path in ['direct', 'splice', 'mapped', 'copy']:
        server = bench.serve(f'sluice.receive.path={path}')
        status = 201 if path == 'copy' else 500
        for name, sizes in {'whole': [len(data)], 'pieces': [1000, 7]}.items():
            got = server.ask_for(status, 'PUT', f'/{name}', ['Transfer-Encoding: chunked'],
                                 chunked(data, sizes))
            receipt = got.fields.get('sluice-receipt', '')
            if status == 201:
                check(receipt.startswith('path=copy; reason="forced'), 'the receipt', answer=got)
                continue
            check(receipt.startswith(f'path={path}; reason="a body that comes in pieces can only'),
                  'what was refused, and why', answer=got)
            check(receipt.endswith('bytes=0; durability=none'), 'nothing was moved', answer=got)
            server.ask_for(404, 'GET', f'/{name}')
        check(status == 201 or 'path_unavailable' in server.messages(), 'the log has it')
        server.stop()


@case
def stored_is_said_when_durability_is_not_wanted(bench):
    server = bench.serve('sluice.http.durability=stored')
    got = server.ask_for(201, 'PUT', '/a', body=b'x' * 1000)
    check(got.fields['sluice-receipt'].endswith('durability=stored'), 'the receipt', answer=got)
    server.stop()


@case
def an_upload_creates_then_replaces_and_each_has_its_entity_tag(bench):
    tags = set()
    for turn, status in enumerate([201, 204, 204]):
        got = bench.shared.ask_for(status, 'PUT', '/replace/me', body=b'turn %d' % turn)
        tags.add(got.fields['etag'])
        check(('location' in got.fields) == (status == 201), 'Location for what is new',
              answer=got)
        back = bench.shared.ask_for(200, 'GET', '/replace/me')
        check(back.fields['etag'] == got.fields['etag'], 'PUT and GET say the same tag',
              answer=back)
        check(back.body == b'turn %d' % turn, 'the last upload is there', answer=back)
    check(len(tags) == 3, f'three contents, three tags: {tags}')


@case
def an_old_reader_keeps_the_old_file(bench):
    old, new = content(8_000_000, seed=4), content(8_000_000, seed=5)
    bench.shared.ask_for(201, 'PUT', '/reader', body=old)
    with bench.shared.connect() as reader:
        reader.send(request('GET', '/reader'))
        reader._more('the answer begins')
        bench.shared.ask_for(204, 'PUT', '/reader', body=new)
        check(reader.answer().body == old, 'the download that had begun is the old file')
    check(bench.shared.ask('GET', '/reader').body == new, 'a new download is the new file')


@case
def a_download_whose_file_another_program_writes_to_is_cut_off(bench):
    server = bench.serve('sluice.send.zero_copy=never')
    size = 12_000_000
    server.ask_for(201, 'PUT', '/written', body=content(size, seed=6))
    with server.connect(receive_buffer=65_536) as reader:
        reader.send(request('GET', '/written'))
        reader._more('the answer begins')
        got = len(reader.received)
        time.sleep(0.02)  # a tick of the kernel's clock
        with open(server.root / 'written', 'r+b') as f:
            f.write(b'x')
        while more := reader.socket.recv(1 << 20):
            got += len(more)
    check(got < size, f'{got} bytes of {size} and a head')
    wait_until(lambda: 'file_changed' in server.messages(), 'the log has it')
    server.stop()


@case
def the_last_of_many_uploads_of_one_name_wins_whole(bench):
    bodies = [content(300_000, seed=10 + i) for i in range(8)]
    bench.shared.ask_for(201, 'PUT', '/race/first', body=b'makes the directory')
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda b: bench.shared.ask('PUT', '/race/x', body=b), bodies))
    statuses = sorted(a.status for a in answers)
    check(statuses == [201] + [204] * 7, f'one creates and seven replace: {statuses}')
    check(bench.shared.ask('GET', '/race/x').body in bodies, 'one of them is there, whole')


@case
def uploads_at_once_share_their_syncs(bench):
    server = bench.serve('sluice.commit.grouping=filesystem')
    before = server.metrics()['sluice_commit_filesystem_syncs_total']
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: server.ask('PUT', f'/shared/{i}', body=b'x' * 5000),
                                range(40)))
    check({a.status for a in answers} == {201}, 'all are created')
    durable = [a for a in answers if 'durability=durable' in a.fields.get('sluice-receipt', '')]
    check(len(durable) == 40, 'all are durable')
    shared = server.metrics()['sluice_commit_filesystem_syncs_total'] - before
    server.stop()
    if 'grouping=filesystem is each here' in server.messages():
        raise Skipped('syncfs is not known to be enough on this filesystem')
    check(0 < shared < 40, f'their data was synced together: {shared}')


@case
def many_uploads_at_once_on_several_engines(bench):
    server = bench.serve(engines=3)
    bodies = {f'/many/{i}': content(200_000 + i, seed=30 + i) for i in range(24)}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda p: server.ask('PUT', p, body=bodies[p]), bodies))
    check({a.status for a in answers} == {201}, 'all are created')
    for path, data in bodies.items():
        check(server.ask('GET', path).body == data, f'{path} comes back')
    page = server.ask('GET', '/.sluice/metrics').body
    check(b'engine="2"' in page, 'the metrics are of every engine', answer=page)
    server.stop()
