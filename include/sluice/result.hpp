// What every fallible call of sluice returns, and the one error type it carries.
#pragma once

#include <cerrno>
#include <expected>
#include <string>

#include "sluice/api.hpp"

namespace sluice {

// Codes of sluice's own, above every errno value (errno(3): at most 4095 on Linux).
namespace code {
inline constexpr int durability_unknown =
    5001;  // a sync failed: what is on the disk is unknown, for good
inline constexpr int end_of_stream = 5002;     // the peer closed before the promised length
inline constexpr int path_unavailable = 5003;  // a forced path cannot carry this transfer
inline constexpr int too_slow = 5004;          // the peer stayed below the minimum rate
inline constexpr int shutting_down = 5005;     // the engine takes no new work
inline constexpr int out_of_range =
    5006;  // a knob's value outside its range: the value is unchanged
inline constexpr int unknown_name = 5007;  // no knob or counter of that name
inline constexpr int start_only = 5008;    // a start-only knob cannot change in a running engine
inline constexpr int no_thread = 5009;     // no worker thread can be made; nothing was begun
inline constexpr int filesystem_suspect =
    5010;  // a sync failed on this filesystem: nothing is published there until it is cleared
inline constexpr int engine_failed =
    5011;  // a sync failed, and sluice.commit.on_failure=fail_engine: nothing is committed any more
inline constexpr int bad_frame = 5012;         // the peer broke the framing of its protocol
inline constexpr int refused_by_check = 5013;  // the transfer's body_check refused its bytes
inline constexpr int file_changed = 5014;  // a file_content::unchanging one was changed meanwhile
}  // namespace code

// Why a call failed. Trivially copyable; both texts are string literals and live for ever.
struct error {
  int code = 0;            // an errno value, or one of sluice::code
  const char* op = "";     // the operation that failed, by its POSIX or io_uring name: "fdatasync"
  const char* where = "";  // the step it belonged to: "publish: sync of the directory"

  friend bool operator==(const error& a, const error& b) { return a.code == b.code; }
};

template <class T>
using result = std::expected<T, error>;

// The failure side of a result, made in place: `return fail(ENOSPC, "write", "receive_to_file");`
[[nodiscard]] constexpr std::unexpected<error> fail(int error_code, const char* op,
                                                    const char* where = "") {
  return std::unexpected(error{error_code, op, where});
}

// "fdatasync: Input/output error (EIO) in publish: sync of the file", for logs and people. Any
// thread.
[[nodiscard]] SLUICE_API std::string describe(const error& e);

// The symbolic name of an error code: "ENOSPC", "durability_unknown". Any thread, never null.
[[nodiscard]] SLUICE_API const char* code_name(int error_code);

}  // namespace sluice
