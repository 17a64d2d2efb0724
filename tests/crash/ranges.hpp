// Ranges of few large files: workers write theirs again and again through one block_writer for each
// file, and commit them. Pairs of ranges lie side by side, so that they are merged; those of odd
// lengths share a page with their neighbour, whose promise must survive its being written again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "crash/content.hpp"
#include "crash/journal.hpp"
#include "crash/need.hpp"
#include "sluice/block_writer.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "support/seeded_data.hpp"

namespace crash {

inline constexpr std::uint32_t files_of_ranges = 2;  // for each engine

struct ranged_file {
  std::string name;
  sluice::file file;
  std::optional<sluice::block_writer> writer;
};

struct range {
  ranged_file* in = nullptr;
  std::uint16_t number = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint32_t version = 0;

  [[nodiscard]] std::string name() const {
    return in->name + "@" + std::to_string(offset) + "/n" + std::to_string(number);
  }
};

// Multiples of the unit of a content, so that each unit belongs to one range.
inline std::vector<range> ranges_of(ranged_file& in, std::uint32_t file_number) {
  constexpr std::array<std::uint64_t, 12> lengths{16'384, 16'384, 65'536, 16'384, 10'000, 20'016,
                                                  4'096,  32'768, 112,    4'080,  16'384, 50'000};
  std::vector<range> all;
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::uint64_t begin = i % 2 == 0 ? (end + 4095) / 4096 * 4096 : end;
    const auto number = static_cast<std::uint16_t>(file_number * lengths.size() + i);
    all.push_back({.in = &in, .number = number, .offset = begin, .bytes = lengths[i]});
    end = begin + lengths[i];
  }
  return all;
}

// Published while it is empty, so that its name is durable before anything in it is promised.
inline sluice::task<std::unique_ptr<ranged_file>> make_ranged_file(sluice::directory& in,
                                                                   std::string name) {
  sluice::file made = need(co_await in.create());
  need(co_await sluice::publish(made, in, name));
  // The writer looks at the file for as long as it lives.
  auto all = std::make_unique<ranged_file>();
  all->name = std::move(name);
  all->file = std::move(made);
  all->writer = need(co_await sluice::block_writer::open(all->file));
  co_return all;
}

// Sometimes two versions are posted before one commit: the later one is what it promises.
inline sluice::task<void> write_range(sluice::engine& engine, range& r, std::uint16_t seed,
                                      journal& promises, std::uint32_t versions) {
  for (std::uint32_t i = 0; i < versions; ++i) {
    ++r.version;
    promises.begin(r.name(), r.version, static_cast<std::int64_t>(r.bytes));
    sluice::lease_await leasing = engine.acquire_block();
    sluice::lease block = need(co_await leasing);
    const std::vector<std::byte> bytes = content({seed, r.number, r.version}, r.bytes);
    std::memcpy(block.data(), bytes.data(), bytes.size());
    const auto filled = std::as_bytes(block.bytes()).first(bytes.size());
    need(r.in->writer->post(std::move(block), filled, r.offset));
  }
}

inline sluice::task<void> work_on_ranges(sluice::engine& engine, std::vector<range> owned,
                                         std::uint16_t seed, std::uint64_t chance,
                                         std::uint32_t rounds, journal& promises, bool commits) {
  support::seeded_random random(chance);
  for (std::uint32_t round = 0; round < rounds; ++round) {
    range& r = owned[random.below(owned.size())];
    co_await write_range(engine, r, seed, promises, random.one_in(4) ? 2 : 1);
    if (commits) {
      need(co_await r.in->writer->commit(r.offset, r.bytes));
    } else {
      need(co_await r.in->writer->flush(r.offset, r.bytes));
    }
    promises.acknowledged(r.name(), r.version);
  }
}

}  // namespace crash
