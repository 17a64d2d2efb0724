"""Pad files (BEP 47) that are not as they should be."""

import hashlib
import time

from bad_peer import BadPeer
from harness import case, check, lt, write_content

PIECE = 64 << 10
FIRST, SECOND = 100_000, 150_000
PAD = 2 * PIECE - FIRST


class PaddedContent:
    """Two files, a pad between them that ends with a piece, and what a seeder has in its place.

    hashed: the pad's bytes as the torrent has hashed them; sent: as they are sent
    """

    piece_bytes = PIECE

    def __init__(self, bench, hashed, sent):
        self.root, self.name = bench.new_folder(), 'data'
        self.files = []
        for seed, size in enumerate((FIRST, SECOND)):
            write_content(self.root / f'{seed}', size, seed)
            self.files.append((self.root / f'{seed}').read_bytes())
        whole = self.files[0] + hashed + self.files[1]
        info = {b'name': b'tree', b'piece length': PIECE,
                b'files': [{b'length': FIRST, b'path': [b'a']},
                           {b'attr': b'p', b'length': PAD, b'path': [b'.pad', b'%d' % PAD]},
                           {b'length': SECOND, b'path': [b'b']}],
                b'pieces': b''.join(hashlib.sha1(whole[at:at + PIECE]).digest()
                                    for at in range(0, len(whole), PIECE))}
        self.torrent = self.root / 'pads.torrent'
        self.torrent.write_bytes(lt.bencode({b'info': info}))
        self.info_digest = hashlib.sha1(lt.bencode(info)).digest()
        (self.root / self.name).write_bytes(self.files[0] + sent + self.files[1])

    def info_hash(self):
        return self.info_digest

    def check_copy(self, folder, what):
        got = [(folder / 'tree' / name).read_bytes() for name in 'ab']
        check(got == self.files, f'{what}: as they were')


JUNK = hashlib.shake_256(b'pad').digest(PAD)
ZEROES = bytes(PAD)


def refused(bench, content, seeders):
    out = bench.new_folder()
    began = time.monotonic()
    said = bench.get(content, out, [seeder.port for seeder in seeders], '--give-up', '30',
                     status=1, seconds=25)
    check('no peer is left' in said and 'piece 1' in said, said)
    check(said.count('pad file of the torrent') >= len(seeders), said)
    check(time.monotonic() - began < 20, 'soon')
    for seeder in seeders:
        check(seeder.connections <= 2, f'called {seeder.connections} times')
        check(seeder.blocks_sent <= 64, f'{seeder.blocks_sent} blocks were taken')


@case
def a_torrent_with_a_pad_of_other_bytes_than_zeroes_is_given_up(bench):
    content = PaddedContent(bench, hashed=JUNK, sent=JUNK)
    with BadPeer(content) as seeder:
        refused(bench, content, [seeder])


@case
def nor_can_zeroes_for_such_a_pad_be_right(bench):
    content = PaddedContent(bench, hashed=JUNK, sent=ZEROES)
    with BadPeer(content) as first, BadPeer(content) as second:
        refused(bench, content, [first, second])


@case
def whatever_is_sent_for_a_pad_it_is_zeroes(bench):
    content = PaddedContent(bench, hashed=ZEROES, sent=JUNK)
    out = bench.new_folder()
    with BadPeer(content) as seeder:
        bench.get(content, out, [seeder.port])
    content.check_copy(out, 'in spite of the pad')
    # Given out again: what a peer that checks takes for right.
    giver, port = bench.seed(content, data=out)
    again = bench.new_folder()
    bench.get(content, again, [port])
    content.check_copy(again, 'from ourselves')
    bench.end(giver)
