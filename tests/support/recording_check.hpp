// A check that keeps what it saw, and refuses where it is told to.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "sluice/body_check.hpp"

namespace support {

class recording_check final : public sluice::body_check {
 public:
  static constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
  struct orders {
    std::uint64_t refused_byte = never;  // the update that shows it is refused
    int refusal = sluice::code::refused_by_check;
    bool refuses_end = false;
    std::function<void(std::uint64_t at)> before{};  // each update, on its thread
  };

  recording_check() = default;
  explicit recording_check(orders given) : orders_(std::move(given)) {}

  sluice::result<void> update(std::span<const std::byte> bytes) noexcept override {
    if (inside_.exchange(true) || bytes.empty() || refused_ || finished_ > 0) sound_ = false;
    if (orders_.before) orders_.before(seen_.size());
    refused_ = orders_.refused_byte - seen_.size() < bytes.size();
    if (!refused_) seen_.insert(seen_.end(), bytes.begin(), bytes.end());
    inside_ = false;
    if (refused_) return sluice::fail(orders_.refusal, "update", "recording_check");
    return {};
  }
  sluice::result<void> finish() noexcept override {
    if (inside_ || refused_) sound_ = false;
    ++finished_;
    if (orders_.refuses_end)
      return sluice::fail(sluice::code::refused_by_check, "finish", "recording_check");
    return {};
  }

  // Once the transfer has ended.
  [[nodiscard]] const std::vector<std::byte>& seen() const { return seen_; }  // and passed
  [[nodiscard]] int finished() const { return finished_; }
  // No two calls at a time, none without bytes, none after the end or a refusal.
  [[nodiscard]] bool sound() const { return sound_; }

 private:
  orders orders_;
  std::vector<std::byte> seen_;
  int finished_ = 0;
  bool refused_ = false;
  std::atomic<bool> inside_{false};
  std::atomic<bool> sound_{true};
};

}  // namespace support
