// The check that stays in release builds: for what would let the kernel write into memory that is
// somebody else's by then. All other programmer's errors are plain assert(3).
#pragma once

namespace sluice::base {

// Says on standard error which invariant broke, and aborts. Any thread.
[[noreturn]] void broken(const char* what) noexcept;

// `what` completes "sluice: ": it names the rule that was broken, in the caller's words.
inline void require(bool holds, const char* what) noexcept {
  if (!holds) [[unlikely]]
    broken(what);
}

}  // namespace sluice::base
