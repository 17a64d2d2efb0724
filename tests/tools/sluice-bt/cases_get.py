"""sluice-bt downloads from libtorrent."""

from harness import case, check, number

MANY = {'a/first.bin': 3_000_017, 'a/second.bin': 1, 'b/c/third.bin': 9_123_457, 'empty': 0,
        'last.bin': 65_536, 'z': 777}


@case
def a_file_comes_from_libtorrent(bench):
    content = bench.content()
    seeder = bench.peer(content, content.root, seeds=True)
    out = bench.new_folder()
    said = bench.get(content, out, [seeder.port])
    content.check_copy(out, 'downloaded')
    check(number(r'got data: (\d+) bytes', said) == content.bytes, said)


@case
def files_whose_blocks_cross_their_borders_come_from_libtorrent(bench):
    content = bench.content('tree', MANY, piece_bytes=32 << 10)
    seeder = bench.peer(content, content.root, seeds=True)
    out = bench.new_folder()
    bench.get(content, out, [seeder.port])
    content.check_copy(out, 'downloaded')


@case
def several_seeders_share_the_work(bench):
    content = bench.content(piece_bytes=64 << 10)
    seeders = [bench.peer(content, content.root, seeds=True) for _ in range(3)]
    for seeder in seeders:
        seeder.limit_upload(12 << 20)  # so that none is done before the others have begun
    out = bench.new_folder()
    bench.get(content, out, [s.port for s in seeders])
    content.check_copy(out, 'downloaded')
    shares = [s.handle.status().total_payload_upload for s in seeders]
    check(all(share > content.bytes / 10 for share in shares), f'each sends some: {shares}')
