// Copies between plain files by their names, by every way to carry them.
#pragma once

#include <sys/stat.h>

#include <string>
#include <utility>
#include <vector>

#include "conformance/suite.hpp"
#include "sluice/file_copy.hpp"

namespace copy_ways {

using namespace conformance;

struct copied {
  sluice::result<sluice::receipt> outcome = sluice::fail(EINPROGRESS, "copy");
  sluice::receipt progress;
  int told = 0;
  [[nodiscard]] int failure() const { return outcome ? 0 : outcome.error().code; }
  [[nodiscard]] std::string way() const { return sluice::name(progress.path); }
};

inline sluice::file adopt_file(sluice::engine& e, const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(e, fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

inline sluice::task<copied> copy_once(sluice::file from, sluice::file into,
                                      sluice::copy_options options) {
  copied c;
  c.outcome = co_await sluice::copy_file(from, into, options, &c.progress);
  co_return c;
}

// From the file "source" of a world's folder to "target".
inline sluice::task<copied> copy_task(world& w, sluice::copy_options options) {
  return copy_once(adopt_file(w.engine(), w.at("source"), O_RDONLY),
                   adopt_file(w.engine(), w.at("target"), O_RDWR | O_CREAT), options);
}
inline copied copy_range(world& w, sluice::copy_options options) {
  copied c = w.run(copy_task(w, options));
  w.settle();
  return c;
}

// The ways that ext4 and tmpfs have, and what auto is there.
inline const std::vector<std::string>& all() {
  static const std::vector<std::string> ways{"auto", "copy_file_range", "copy"};
  return ways;
}

template <class Check>
void for_each(knob_list more, Check check) {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : all()) {
      CAPTURE(path);
      world w(on, more);
      REQUIRE(w.engine().set_knob("sluice.copy.path", path).has_value());
      check(w, path);
      w.settle();
    }
  }
}

inline void put_at(const std::string& path, std::uint64_t offset,
                   std::span<const std::byte> bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  REQUIRE(fd >= 0);
  REQUIRE(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(bytes.size()));
  ::close(fd);
}

inline void set_size(const std::string& path, std::uint64_t bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  REQUIRE(fd >= 0);
  REQUIRE(::ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  ::close(fd);
}

inline std::vector<std::byte> bytes_at(const std::string& path, std::uint64_t offset,
                                       std::size_t count) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  std::vector<std::byte> got(count);
  const ssize_t read = ::pread(fd, got.data(), count, static_cast<off_t>(offset));
  ::close(fd);
  got.resize(static_cast<std::size_t>(std::max<ssize_t>(read, 0)));
  return got;
}

inline struct stat look_at(const std::string& path) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return info;
}
inline std::uint64_t occupied(const std::string& path) {
  return static_cast<std::uint64_t>(look_at(path).st_blocks) * 512;
}

inline sluice::copy_options range(std::uint64_t length, std::uint64_t source_offset = 0,
                                  std::uint64_t target_offset = 0) {
  return {length, source_offset, target_offset};
}

// Copies random ranges between two files full of holes, against a model in memory.
inline void copy_at_random(world& w, std::uint64_t seed, int rounds, std::uint64_t unit) {
  constexpr std::uint64_t most = 200'000;
  support::seeded_random random(seed);
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    std::filesystem::remove(w.at("source"));
    std::filesystem::remove(w.at("target"));
    std::vector<std::vector<std::byte>> models;
    for (const char* name : {"source", "target"}) {
      std::vector<std::byte> model(1 + random.below(most));
      set_size(w.at(name), model.size());
      for (std::uint64_t pieces = random.below(6); pieces > 0; --pieces) {
        const std::uint64_t at = random.below(model.size());
        const auto bytes = pattern(
            seed + pieces, at, std::min<std::uint64_t>(model.size() - at, random.below(40'000)));
        put_at(w.at(name), at, bytes);
        std::ranges::copy(bytes, model.begin() + static_cast<std::ptrdiff_t>(at));
      }
      models.push_back(std::move(model));
    }
    const std::uint64_t from = random.below(models[0].size()) / unit * unit;
    const std::uint64_t into = random.below(most) / unit * unit;
    const std::uint64_t length = random.below(models[0].size() - from + 1);
    const copied c = copy_range(w, range(length, from, into));
    REQUIRE(c.failure() == 0);
    CHECK(c.outcome->bytes == length);
    if (length > 0) {
      models[1].resize(std::max<std::uint64_t>(models[1].size(), into + length));
      std::copy_n(models[0].begin() + static_cast<std::ptrdiff_t>(from), length,
                  models[1].begin() + static_cast<std::ptrdiff_t>(into));
    }
    CHECK(same_bytes(content_of(w.at("target")), models[1]));
    CHECK(same_bytes(content_of(w.at("source")), models[0]));
  }
}

}  // namespace copy_ways
