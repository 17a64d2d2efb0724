#include "wire.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace {

const bt::wire_limits limits{.bitfield_bytes = 3, .block_bytes_max = 16384};

std::vector<std::byte> bytes_of(std::initializer_list<unsigned> values) {
  std::vector<std::byte> bytes;
  for (const unsigned v : values) bytes.push_back(static_cast<std::byte>(v));
  return bytes;
}

// As the receiver asks: first for the least, then for as much as was said.
sluice::frame_shape shape_of(std::vector<std::byte> bytes) {
  bytes.resize(32);
  const sluice::frame_protocol protocol = bt::wire_protocol(limits);
  std::size_t shown = protocol.head_bytes_min;
  sluice::frame_shape shape;
  for (int asked = 0; asked < 4; ++asked) {
    shape = protocol.parse(protocol.context, std::span(bytes).first(shown));
    if (shape.bad || shape.head_bytes <= shown) break;
    REQUIRE(shape.head_bytes <= protocol.head_bytes_max);
    shown = shape.head_bytes;
  }
  return shape;
}

}  // namespace

TEST_CASE("messages that were appended have the shape and the fields of their kind") {
  std::vector<std::byte> out;
  bt::append_request(out, bt::message_kind::request, 1, 0x20000, 16384);
  CHECK(out.size() == 17);
  sluice::frame_shape shape = shape_of(out);
  CHECK_FALSE(shape.bad);
  CHECK(shape.head_bytes == 17);
  CHECK(shape.payload_bytes == 0);
  bt::message m = bt::read_message(out);
  CHECK(m.kind == bt::message_kind::request);
  CHECK(m.index == 1);
  CHECK(m.begin == 0x20000);
  CHECK(m.length == 16384);

  out.clear();
  bt::append_have(out, 0x01020304);
  CHECK(shape_of(out).head_bytes == 9);
  CHECK(bt::read_message(out).index == 0x01020304);

  out.clear();
  bt::append_message(out, bt::message_kind::unchoke);
  CHECK(out == bytes_of({0, 0, 0, 1, 1}));
  CHECK(shape_of(out).head_bytes == 5);

  out.clear();
  bt::append_message(out, bt::message_kind::keep_alive);
  CHECK(out == bytes_of({0, 0, 0, 0}));
  CHECK(shape_of(out).head_bytes == 4);
  CHECK(bt::read_message(out).kind == bt::message_kind::keep_alive);
}

TEST_CASE("the payload of a block goes to a lease, that of a bitfield is looked at") {
  const auto head = bt::write_piece_head(7, 16384, 16384);
  const sluice::frame_shape piece = shape_of({head.begin(), head.end()});
  CHECK_FALSE(piece.bad);
  CHECK(piece.head_bytes == 13);
  CHECK(piece.payload_bytes == 16384);
  CHECK(piece.place == sluice::frame_place::block);
  CHECK(bt::read_message(head).begin == 16384);

  std::vector<std::byte> out;
  bt::append_bitfield(out, bytes_of({0xff, 0, 1}));
  const sluice::frame_shape bits = shape_of(out);
  CHECK_FALSE(bits.bad);
  CHECK(bits.payload_bytes == 3);
  CHECK(bits.place == sluice::frame_place::view);
}

TEST_CASE("a length that the kind does not have is a bad frame") {
  CHECK(shape_of(bytes_of({0, 0, 0, 2, 0})).bad);        // choke
  CHECK(shape_of(bytes_of({0, 0, 0, 4, 4})).bad);        // have
  CHECK(shape_of(bytes_of({0, 0, 0, 3, 5})).bad);        // bitfield, too short
  CHECK(shape_of(bytes_of({0, 0, 0, 5, 5})).bad);        // and too long
  CHECK(shape_of(bytes_of({0, 0, 0, 12, 6})).bad);       // request
  CHECK(shape_of(bytes_of({0, 0, 0, 14, 8})).bad);       // cancel
  CHECK(shape_of(bytes_of({0, 0, 0, 9, 7})).bad);        // a piece without payload
  CHECK(shape_of(bytes_of({0, 0, 0, 1, 7})).bad);        // or without all of its head
  CHECK(shape_of(bytes_of({0, 0, 0x40, 0x0a, 7})).bad);  // or longer than a block
  CHECK_FALSE(shape_of(bytes_of({0, 0, 0x40, 0x09, 7})).bad);
  CHECK(shape_of(bytes_of({0xff, 0xff, 0xff, 0xff, 7})).bad);
  CHECK(shape_of(bytes_of({0xff, 0xff, 0xff, 0xff, 4})).bad);
  CHECK(shape_of(bytes_of({0x00, 0x10, 0x00, 0x02, 99})).bad);  // unknown and long
}

TEST_CASE("messages of extensions are passed over") {
  const sluice::frame_shape shape = shape_of(bytes_of({0, 0, 0, 100, 20, 0}));
  CHECK_FALSE(shape.bad);
  CHECK(shape.payload_bytes == 99);
  CHECK(bt::read_message(bytes_of({0, 0, 0, 100, 20})).kind == bt::message_kind::unknown);
}

TEST_CASE("a handshake is read as it was written") {
  bt::handshake of;
  of.info_hash.fill(std::byte{3});
  of.id.fill(std::byte{5});
  auto bytes = bt::write_handshake(of);
  CHECK(std::memcmp(bytes.data(),
                    "\x13"
                    "BitTorrent protocol",
                    20) == 0);
  bytes[24] = std::byte{0xff};  // extensions that the peer knows
  const auto read = bt::read_handshake(bytes);
  REQUIRE(read);
  CHECK(read->info_hash == of.info_hash);
  CHECK(read->id == of.id);
  bytes[3] ^= std::byte{1};
  CHECK_FALSE(bt::read_handshake(bytes));
}
