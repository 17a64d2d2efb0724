// A torrent of several files with content that a seed fixes, and a store of it.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "metainfo.hpp"
#include "store.hpp"
#include "support/engine_fixture.hpp"
#include "support/seeded_data.hpp"
#include "support/temp_dir.hpp"

namespace bt_test {

struct world {
  explicit world(const std::string& backend) : engine(backend) {
    info.name = "t";
    info.piece_bytes = 64 << 10;
    info.files = {{"t/a", 70'001}, {"t/empty", 0}, {"t/sub/b", 90'000}, {"t/sub/c", 3}};
    const bt::layout where = info.layout();
    content = support::pattern(11, 0, where.total_bytes());
    for (std::uint32_t piece = 0; piece < where.pieces(); ++piece)
      info.pieces.push_back(bt::sha1_of(piece_of(piece)));
  }
  ~world() {
    store.reset();
    engine->run();
  }

  [[nodiscard]] std::span<const std::byte> piece_of(std::uint32_t piece) const {
    const bt::layout where = info.layout();
    return std::span(content).subspan(where.piece_offset(piece), where.bytes_of(piece));
  }
  bool open() {
    store.reset();
    bt::store::opened made = engine.run(bt::store::open_to_write(*engine, info, out));
    if (!made) problem = made.error();
    if (made) store = std::move(*made);
    return store != nullptr;
  }

  // Posts that range of the content from a block of its own, and gives `share` a part of it.
  sluice::task<bool> post(std::uint64_t offset, std::uint64_t bytes,
                          sluice::lease* share = nullptr) {
    sluice::lease_await leasing = engine->acquire_block();
    sluice::result<sluice::lease> leased = co_await leasing;
    if (!leased) co_return false;
    const std::span<std::byte> place = leased->bytes().first(bytes);
    std::ranges::copy(std::span(content).subspan(offset, bytes), place.begin());
    if (share != nullptr) *share = leased->part(0, static_cast<std::uint32_t>(bytes));
    const sluice::result<bool> tried = store->try_write(*leased, place, offset);
    if (!tried || *tried) co_return tried.has_value();
    const sluice::result<void> written = co_await store->write(std::move(*leased), place, offset);
    co_return written.has_value();
  }

  [[nodiscard]] bool files_hold_the_content() const {
    std::string all;
    for (const bt::metainfo_file& file : info.files) {
      std::ifstream in(out + "/" + file.path, std::ios::binary);
      if (!in) return false;
      all.append(std::istreambuf_iterator<char>(in), {});
    }
    return support::same_bytes(std::as_bytes(std::span(all)), content);
  }

  support::temp_dir dir;
  std::string out = dir.at("out");
  support::engine_fixture engine;
  bt::metainfo info;
  std::vector<std::byte> content;
  std::unique_ptr<bt::store> store;
  std::string problem;
};

}  // namespace bt_test
