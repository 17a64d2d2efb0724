// Digests of pieces as they arrive: blocks are hashed from memory on worker threads, many pieces at
// a time, and nothing of a piece counts before all of it was right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "layout.hpp"
#include "sha1.hpp"
#include "sluice/engine.hpp"
#include "sluice/lease.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"
#include "store.hpp"

namespace bt {

// Loop thread only. What it has begun must have ended before it dies: idle().
class piece_checker {
 public:
  enum class verdict : std::uint8_t { right, wrong };
  using told = std::move_only_function<void(std::uint32_t piece, verdict)>;
  using failed = std::move_only_function<void(const sluice::error&)>;

  // `held_bytes_max`: of blocks that wait in memory to be hashed; beyond, they are read back from
  // the store. All references must outlive it.
  piece_checker(sluice::engine& on, store& from, std::span<const sha1_digest> expected,
                std::uint64_t held_bytes_max);

  // `tell` gets a verdict for each piece whose blocks have all arrived, `fail` why the disk or the
  // engine could not go on. Both are called outside of the calls below, or within arrived().
  void on_verdict(told tell, failed fail);

  // A block that was posted to the store; once for each. `block` is a share of its memory.
  void arrived(std::uint32_t piece, std::uint32_t begin, sluice::lease block,
               std::span<const std::byte> bytes);
  // Nothing arrives at the time: hashes what there is of each piece, however little, and gives back
  // the memory of blocks that wait for others. A small share may keep a whole block of the pool,
  // and who is to bring the next one may be waiting for that.
  void run_ready();
  // What has arrived of it will arrive again.
  void forget(std::uint32_t piece);
  // The digest of each block of a piece that has had its verdict, read back from the store. Nothing
  // of the piece may be posted there meanwhile.
  using digests = sluice::result<std::vector<sha1_digest>>;
  [[nodiscard]] sluice::task<digests> block_digests(std::uint32_t piece);

  [[nodiscard]] std::uint64_t held_bytes() const { return held_bytes_; }
  [[nodiscard]] bool idle() const { return running_ == 0; }

 private:
  struct held_block {
    bool here = false;
    sluice::lease memory;  // none: to be read back
    std::span<const std::byte> bytes;
  };
  struct record {
    std::uint32_t piece = 0;
    std::vector<held_block> blocks;
    std::uint32_t hashed = 0;  // blocks, from the first on
    std::uint32_t in_row = 0;  // blocks that are here, from the first on
    bool running = false;
    bool forgotten = false;
    sha1 hash;
  };
  struct batch;
  struct single_blocks;

  record& record_of(std::uint32_t piece);
  void run_if_due(const std::shared_ptr<record>& of);
  void begin_run(const std::shared_ptr<record>& of);
  sluice::task<void> run(std::shared_ptr<record> of);
  sluice::task<sluice::result<void>> hash_some(record& of);
  sluice::task<sluice::result<void>> hash_stored(record& of);
  sluice::task<sluice::result<void>> hash_blocks(std::uint32_t piece,
                                                 std::vector<sha1_digest>& into);
  void conclude(const std::shared_ptr<record>& of);
  void release(held_block& block);

  sluice::engine& engine_;
  store& store_;
  std::span<const sha1_digest> expected_;
  const std::uint64_t held_bytes_max_;
  told tell_;
  failed fail_;
  std::vector<std::shared_ptr<record>> records_;
  std::uint64_t held_bytes_ = 0;
  std::size_t running_ = 0;
};

}  // namespace bt
