// The files of a torrent on the disk: written out of order, readable meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "layout.hpp"
#include "metainfo.hpp"
#include "sluice/block_writer.hpp"
#include "sluice/direct_reader.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "sluice/lease.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"
#include "staging.hpp"

namespace bt {

// Loop thread only. Offsets are of the torrent; ranges must lie within it.
class store {
 public:
  using opened = std::expected<std::unique_ptr<store>, std::string>;
  // Makes what is missing beneath `directory`, durably the directory itself and those above it,
  // whoever made them, and reserves its space. The error is a sentence: a full disk, a file longer
  // than the torrent says, a path that leads out. `of` must outlive the store, `directory` the
  // call.
  [[nodiscard]] static sluice::task<opened> open_to_write(sluice::engine& on, const metainfo& of,
                                                          const std::string& directory);
  // Every file must be there with its length.
  [[nodiscard]] static sluice::task<opened> open_to_read(sluice::engine& on, const metainfo& of,
                                                         const std::string& directory);

  [[nodiscard]] const layout& where() const { return layout_; }
  // For reading what nobody writes at the time; by file of the torrent, no_descriptor for a pad.
  [[nodiscard]] std::span<const int> descriptors() const { return fds_; }
  // Whether any file had content when it was opened.
  [[nodiscard]] bool found_content() const { return found_content_; }

  // Whether any of the range is a pad file's.
  [[nodiscard]] bool has_pad(std::uint64_t offset, std::uint64_t bytes) const;
  // What came for the pads in the range becomes zeroes: that is how they are hashed, read and given
  // out, whatever a peer sends for them.
  void clear_pads(std::span<std::byte> bytes, std::uint64_t offset) const;

  // Takes `bytes` that begin with the block, without waiting. False: it would have to wait, and has
  // taken nothing; use write().
  [[nodiscard]] sluice::result<bool> try_write(sluice::lease& block,
                                               std::span<const std::byte> bytes,
                                               std::uint64_t offset);
  // As try_write, and waits until there is room.
  [[nodiscard]] sluice::task<sluice::result<void>> write(sluice::lease block,
                                                         std::span<const std::byte> bytes,
                                                         std::uint64_t offset);
  // All of it, posted or stored. code::end_of_stream for a file that has become shorter.
  [[nodiscard]] sluice::task<sluice::result<void>> read(std::span<std::byte> into,
                                                        std::uint64_t offset);

  // From here on read_block goes around the page cache. Empty, or a sentence that says which files
  // it cannot be for, and why: those are read as before.
  [[nodiscard]] sluice::task<std::string> open_direct();
  // Beside the bytes themselves, what read_block needs of memory to go around the page cache; 0: it
  // never does.
  [[nodiscard]] std::uint64_t spare_bytes() const { return spare_bytes_; }
  // As read, into a block or a part of one that begins on a page, and yields where in it the bytes
  // are. With less than spare_bytes() of room beside them they come from the page cache.
  using found_bytes = sluice::result<std::span<std::byte>>;
  [[nodiscard]] sluice::task<found_bytes> read_block(const sluice::lease& into,
                                                     std::uint64_t offset, std::uint64_t bytes);
  // Everything posted is durable, and the names of the files are. Where that fails for one of them
  // the others are durable all the same; the first error.
  [[nodiscard]] sluice::task<sluice::result<void>> commit();

 private:
  struct entry {
    sluice::file file;
    std::optional<sluice::block_writer> writer;
    std::optional<sluice::direct_reader> direct;
    bool staged = false;  // its blocks are not aligned in it
  };
  store(sluice::engine& on, const metainfo& of);
  void add_pad();
  [[nodiscard]] staging::target target_of(std::size_t file);
  [[nodiscard]] segment first_of(std::uint64_t offset, std::uint64_t bytes) const;
  [[nodiscard]] sluice::task<sluice::result<void>> read_cached(std::span<std::byte> into,
                                                               segment from);
  [[nodiscard]] sluice::task<found_bytes> read_direct(const sluice::lease& into, segment from);
  [[nodiscard]] sluice::task<sluice::result<void>> unstage(std::size_t file, std::uint64_t offset,
                                                           std::uint64_t bytes);
  [[nodiscard]] sluice::task<std::expected<void, std::string>> open_one(sluice::engine& on,
                                                                        const metainfo_file& of,
                                                                        sluice::directory& in,
                                                                        const std::string& name);
  [[nodiscard]] sluice::task<std::expected<void, std::string>> make_all(
      sluice::engine& on, const metainfo& of, const std::string& directory);
  [[nodiscard]] sluice::task<std::expected<void, std::string>> find_all(
      sluice::engine& on, const metainfo& of, const std::string& directory);

  const layout layout_;
  std::vector<entry> entries_;
  staging staging_;
  std::vector<int> fds_;
  std::vector<sluice::directory> directories_;  // with names of ours
  bool found_content_ = false;
  bool has_pads_ = false;
  std::uint64_t spare_bytes_ = 0;
};

}  // namespace bt
