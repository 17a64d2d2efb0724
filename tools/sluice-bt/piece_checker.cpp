#include "piece_checker.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace bt {

namespace {
// A call of a worker costs as much as hashing some ten KiB, and takes a CPU from whoever sends.
constexpr std::uint32_t batch_blocks_min = 64;
constexpr std::uint32_t batch_blocks_max = 64;
}  // namespace

// What one call of a worker hashes.
struct piece_checker::batch {
  sha1* hash = nullptr;
  std::array<std::span<const std::byte>, batch_blocks_max> parts;
  std::size_t count = 0;

  static std::int64_t carry_out(void* context) {
    auto& b = *static_cast<batch*>(context);
    for (std::size_t i = 0; i < b.count; ++i) b.hash->update(b.parts[i]);
    return 0;
  }
};

// What one call of a worker hashes block by block.
struct piece_checker::single_blocks {
  std::span<const std::byte> bytes;
  std::vector<sha1_digest>& into;

  static std::int64_t carry_out(void* context) {
    auto& b = *static_cast<single_blocks*>(context);
    while (!b.bytes.empty()) {
      const std::size_t count = std::min<std::size_t>(b.bytes.size(), block_bytes);
      b.into.push_back(sha1_of(b.bytes.first(count)));
      b.bytes = b.bytes.subspan(count);
    }
    return 0;
  }
};

piece_checker::piece_checker(sluice::engine& on, store& from, std::span<const sha1_digest> expected,
                             std::uint64_t held_bytes_max)
    : engine_(on), store_(from), expected_(expected), held_bytes_max_(held_bytes_max) {}

void piece_checker::on_verdict(told tell, failed fail) {
  tell_ = std::move(tell);
  fail_ = std::move(fail);
}

piece_checker::record& piece_checker::record_of(std::uint32_t piece) {
  const auto known = std::ranges::find(records_, piece, [](const auto& r) { return r->piece; });
  if (known != records_.end()) return **known;
  auto made = std::make_shared<record>();
  made->piece = piece;
  made->blocks.resize(store_.where().blocks_of(piece));
  return *records_.emplace_back(std::move(made));
}

void piece_checker::release(held_block& block) {
  if (block.memory) held_bytes_ -= block.bytes.size();
  block.memory.reset();
  block.bytes = {};
}

void piece_checker::arrived(std::uint32_t piece, std::uint32_t begin, sluice::lease block,
                            std::span<const std::byte> bytes) {
  record& of = record_of(piece);
  const std::uint32_t index = begin / block_bytes;
  held_block& place = of.blocks[index];
  if (place.here) return;
  place.here = true;
  // One that waits for others before it must not hold the memory that those need.
  if (index == of.in_row || held_bytes_ < held_bytes_max_) {
    held_bytes_ += bytes.size();
    place.memory = std::move(block);
    place.bytes = bytes;
  }
  while (of.in_row < of.blocks.size() && of.blocks[of.in_row].here) ++of.in_row;
  const auto known = std::ranges::find(records_, &of, [](const auto& r) { return r.get(); });
  run_if_due(*known);
}

void piece_checker::forget(std::uint32_t piece) {
  const auto known = std::ranges::find(records_, piece, [](const auto& r) { return r->piece; });
  if (known == records_.end()) return;
  record& of = **known;
  of.forgotten = true;
  // A worker may be reading what it has begun.
  if (!of.running) {
    for (held_block& block : of.blocks) release(block);
  }
  records_.erase(known);
}

void piece_checker::run_if_due(const std::shared_ptr<record>& of) {
  const std::uint32_t ready = of->in_row - of->hashed;
  const bool all = of->in_row == of->blocks.size();
  if (of->running || ready == 0) return;
  if (!all && ready < batch_blocks_min && held_bytes_ < held_bytes_max_) return;
  begin_run(of);
}

void piece_checker::run_ready() {
  for (const std::shared_ptr<record>& of : records_) {
    for (std::size_t i = of->in_row; i < of->blocks.size(); ++i) release(of->blocks[i]);
    if (!of->running && of->in_row > of->hashed) begin_run(of);
  }
}

void piece_checker::begin_run(const std::shared_ptr<record>& of) {
  of->running = true;
  ++running_;
  engine_.spawn(run(of));
}

sluice::task<void> piece_checker::run(std::shared_ptr<record> of) {
  sluice::result<void> done;
  while (done && !of->forgotten && of->hashed < of->in_row) {
    if (of->blocks[of->hashed].memory) {
      done = co_await hash_some(*of);
    } else {
      done = co_await hash_stored(*of);
    }
  }
  of->running = false;
  --running_;
  if (of->forgotten) {
    for (held_block& block : of->blocks) release(block);
    co_return;
  }
  if (!done) {
    fail_(done.error());
    co_return;
  }
  if (of->hashed == of->blocks.size()) conclude(of);
}

sluice::task<sluice::result<void>> piece_checker::hash_some(record& of) {
  batch work;
  work.hash = &of.hash;
  while (work.count < batch_blocks_max && of.hashed + work.count < of.in_row) {
    const held_block& block = of.blocks[of.hashed + work.count];
    if (!block.memory) break;
    work.parts[work.count++] = block.bytes;
  }
  const sluice::result<std::size_t> hashed =
      co_await engine_.run_on_worker(batch::carry_out, &work);
  if (!hashed) co_return std::unexpected(hashed.error());
  for (std::size_t i = 0; i < work.count; ++i) release(of.blocks[of.hashed++]);
  co_return sluice::result<void>();
}

sluice::task<sluice::result<void>> piece_checker::hash_stored(record& of) {
  const layout& where = store_.where();
  sluice::lease_await leasing = engine_.acquire_block();
  sluice::result<sluice::lease> memory = co_await leasing;
  if (!memory) co_return std::unexpected(memory.error());
  const std::uint64_t begin = std::uint64_t{of.hashed} * block_bytes;
  const std::uint64_t bytes =
      std::min<std::uint64_t>(where.bytes_of(of.piece) - begin, block_bytes);
  const std::span<std::byte> place = memory->bytes().first(bytes);
  const sluice::result<void> read =
      co_await store_.read(place, where.piece_offset(of.piece) + begin);
  if (!read) co_return read;
  batch work;
  work.hash = &of.hash;
  work.parts[work.count++] = place;
  const sluice::result<std::size_t> hashed =
      co_await engine_.run_on_worker(batch::carry_out, &work);
  if (!hashed) co_return std::unexpected(hashed.error());
  ++of.hashed;
  co_return sluice::result<void>();
}

sluice::task<piece_checker::digests> piece_checker::block_digests(std::uint32_t piece) {
  std::vector<sha1_digest> all;
  ++running_;
  const sluice::result<void> done = co_await hash_blocks(piece, all);
  --running_;
  if (!done) co_return std::unexpected(done.error());
  co_return all;
}

// As many at a time as a block of the pool has room for.
sluice::task<sluice::result<void>> piece_checker::hash_blocks(std::uint32_t piece,
                                                              std::vector<sha1_digest>& into) {
  sluice::lease_await leasing = engine_.acquire_block();
  sluice::result<sluice::lease> memory = co_await leasing;
  if (!memory) co_return std::unexpected(memory.error());
  const std::uint64_t room = memory->size() / block_bytes * block_bytes;
  const std::uint64_t total = store_.where().bytes_of(piece);
  for (std::uint64_t begin = 0; begin < total; begin += room) {
    const std::span<std::byte> place = memory->bytes().first(std::min(total - begin, room));
    const sluice::result<void> read =
        co_await store_.read(place, store_.where().piece_offset(piece) + begin);
    if (!read) co_return read;
    single_blocks work{place, into};
    const sluice::result<std::size_t> hashed =
        co_await engine_.run_on_worker(single_blocks::carry_out, &work);
    if (!hashed) co_return std::unexpected(hashed.error());
  }
  co_return sluice::result<void>();
}

void piece_checker::conclude(const std::shared_ptr<record>& of) {
  const bool right = of->hash.finish() == expected_[of->piece];
  std::erase(records_, of);
  tell_(of->piece, right ? verdict::right : verdict::wrong);
}

}  // namespace bt
