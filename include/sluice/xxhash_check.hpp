// A body_check by XXH3 with 64 bits: against damage, not against malice, at the speed of memory.
// Not part of the library: who includes this needs the headers of xxHash (0.8 or newer) and links
// it.
#pragma once

#include <xxhash.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "sluice/body_check.hpp"

namespace sluice {

// Hashes a body; refuses it (code::refused_by_check) when the hash is not the expected one. ENOMEM
// when there is no memory for the state. One object judges one body.
class xxhash_check final : public body_check {
 public:
  // Without an expected hash every body passes, and hash() tells what it was.
  explicit xxhash_check(std::optional<std::uint64_t> expected = {})
      : expected_(expected), state_(XXH3_createState()) {
    if (state_ && XXH3_64bits_reset(state_.get()) != XXH_OK) state_.reset();
  }

  [[nodiscard]] result<void> update(std::span<const std::byte> bytes) noexcept override {
    if (!state_ || XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()) != XXH_OK)
      return fail(ENOMEM, "XXH3_64bits_update", "xxhash_check");
    return {};
  }

  [[nodiscard]] result<void> finish() noexcept override {
    if (!state_) return fail(ENOMEM, "XXH3_createState", "xxhash_check");
    hash_ = XXH3_64bits_digest(state_.get());
    if (expected_ && *expected_ != *hash_)
      return fail(code::refused_by_check, "hash", "not the expected one");
    return {};
  }

  // Of the whole body, also of a refused one; nothing before its end.
  [[nodiscard]] std::optional<std::uint64_t> hash() const { return hash_; }

 private:
  struct state_free {
    void operator()(XXH3_state_t* s) const { XXH3_freeState(s); }
  };
  std::optional<std::uint64_t> expected_;
  std::unique_ptr<XXH3_state_t, state_free> state_;
  std::optional<std::uint64_t> hash_;
};

}  // namespace sluice
