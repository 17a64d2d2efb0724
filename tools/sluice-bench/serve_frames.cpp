#include "serve_frames.hpp"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <utility>

#include "../bench-peers/frame_wire.hpp"
#include "sluice/block_writer.hpp"
#include "sluice/frames.hpp"

namespace bench {

namespace {

struct tally {
  std::uint64_t length = 0;
  std::uint64_t bytes = 0;
  std::uint64_t receives = 0;
  std::uint64_t sum = 0;
};

sluice::frame_shape parse(void*, std::span<const std::byte> head) noexcept {
  peer::frame_head said;
  sluice::frame_shape shape;
  shape.bad = !peer::decode_frame_head(reinterpret_cast<const unsigned char*>(head.data()), said);
  shape.head_bytes = peer::frame_head_bytes;
  shape.payload_bytes = said.payload_bytes;
  return shape;
}

sluice::frame_protocol protocol() {
  sluice::frame_protocol p;
  p.head_bytes_min = peer::frame_head_bytes;
  p.head_bytes_max = peer::frame_head_bytes;
  p.payload_bytes_max = std::uint64_t{1} << 20;
  // Payloads of 1 KiB lie densely, larger ones of this case on pages all the same.
  p.alignment = 1024;
  p.parse = parse;
  return p;
}

// Counts, checks and posts one part. EBADMSG: not the one that was due.
sluice::result<void> take(const frame_service& s, sluice::frame part, sluice::block_writer* to,
                          tally& seen) {
  peer::frame_head said;
  peer::decode_frame_head(reinterpret_cast<const unsigned char*>(part.head.data()), said);
  const std::uint64_t offset = said.offset + part.payload_offset;
  if (offset != seen.bytes || part.payload.size() > seen.length - seen.bytes)
    return sluice::fail(EBADMSG, "frame", "serve");
  if (s.check) seen.sum += peer::check_sum(part.payload.data(), part.payload.size(), offset);
  seen.bytes += part.payload.size();
  if (to == nullptr) return {};
  return to->post(std::move(part.block), part.payload, offset);
}

// `to`: none, payloads are dropped.
sluice::task<sluice::result<void>> move_frames(const frame_service& s, sluice::stream& peer,
                                               sluice::block_writer* to, tally& seen) {
  sluice::frame_receiver frames(*s.engine, peer, protocol());
  while (seen.bytes < seen.length) {
    sluice::result<sluice::frame> part = co_await frames.next();
    if (!part) co_return std::unexpected(part.error());
    if (!*part) co_return sluice::fail(sluice::code::end_of_stream, "frame", "serve");
    while (to != nullptr && !to->has_room()) {
      const sluice::result<void> roomy = co_await to->room();
      if (!roomy) co_return roomy;
    }
    const sluice::result<void> taken = take(s, std::move(*part), to, seen);
    if (!taken) co_return taken;
  }
  seen.receives = frames.stats().receives;
  co_return sluice::result<void>{};
}

sluice::task<sluice::result<void>> store_frames(const frame_service& s, sluice::stream& peer,
                                                std::string name, tally& seen) {
  auto file = co_await s.home->create();
  if (!file) co_return std::unexpected(file.error());
  const sluice::result<void> reserved = co_await file->reserve(seen.length);
  if (!reserved) co_return reserved;
  sluice::block_writer_options options;
  if (!s.direct) options.access = sluice::block_access::page_cache;
  auto writer = co_await sluice::block_writer::open(*file, options);
  if (!writer) co_return std::unexpected(writer.error());
  const sluice::result<void> moved = co_await move_frames(s, peer, &*writer, seen);
  if (!moved) co_return moved;
  const sluice::result<void> stored = co_await writer->flush();
  if (!stored) co_return stored;
  // A row that says O_DIRECT must not be one of the page cache.
  if (s.direct && writer->stats().direct_bytes == 0 && writer->stats().bytes > 0)
    co_return sluice::fail(EOPNOTSUPP, "write", "the filesystem took nothing by O_DIRECT");
  sluice::publish_options how;
  how.wanted = sluice::durability::stored;
  co_return co_await sluice::publish(*file, *s.home, std::move(name), how);
}

}  // namespace

sluice::task<void> receive_frames(const frame_service& s, sluice::stream peer,
                                  unsigned connection) {
  std::array<unsigned char, 8> length{};
  const auto got =
      co_await peer.recv(std::as_writable_bytes(std::span(length)), sluice::recv_mode::full);
  if (!got || *got != length.size()) co_return;
  tally seen;
  seen.length = peer::decode_number(length.data());
  std::string name = fmt::format("obj-{}-0", connection);
  sluice::result<void> done;
  if (s.stores) {
    done = co_await store_frames(s, peer, std::move(name), seen);
  } else {
    done = co_await move_frames(s, peer, nullptr, seen);
  }
  if (!done) fmt::print(stderr, "serve: {}\n", sluice::describe(done.error()));
  std::array<unsigned char, peer::frame_answer_bytes> answer{};
  peer::encode_frame_answer(answer.data(), done.has_value(), seen.receives, seen.sum);
  static_cast<void>(co_await peer.send(std::as_bytes(std::span(answer))));
}

}  // namespace bench
