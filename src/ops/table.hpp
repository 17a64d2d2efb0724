// One row per kind of operation: how the ring is told, how a thread performs it, and what a short
// result means.
#pragma once

#include <cstdint>

#include "sluice/op.hpp"

struct io_uring_sqe;

namespace sluice {

// What the loop does with a count below the one asked for.
enum class short_rule : std::uint8_t {
  final,   // it is the result
  resume,  // go on with the rest, until everything has moved, the end of the file, or an error
  resume_if_all  // as resume when MSG_WAITALL is set, else final
};

// What the loop does with EINTR and EAGAIN.
enum class retry_rule : std::uint8_t {
  again,   // try again, a bounded number of times: nothing was done
  final,   // it is the result: something was done, and a second try would hide what
  closed,  // close(2): the number is free whatever it says, and may be somebody else's by now.
           // EINTR, which is what writing back to FUSE and NFS may say, is success
};

// Who performs the op when no ring does.
enum class carrier : std::uint8_t {
  inline_call,  // the loop thread: the call never waits
  readable,     // try on the loop thread, wait for EPOLLIN while it says EAGAIN
  writable,     // the same with EPOLLOUT
  polled,       // the same with the events the op itself asks for
  worker,       // a thread of the worker pool, blocking
  loop,         // no backend sees it
};

struct op_row {
  op_kind kind;
  const char* name;  // the system call's
  int opcode;        // IORING_OP_*, -1 when no ring can do it
  void (*fill_sqe)(const op_request&, io_uring_sqe&);
  // Performs it with system calls: the count or descriptor, or -errno. Socket operations never wait
  // and say -EAGAIN; worker operations may block. The thread must not take the SIGPIPE of one that
  // may_raise_sigpipe.
  std::int64_t (*perform)(const op_request&);
  carrier by;
  short_rule when_short;
  retry_rule when_interrupted;
  // What a ring that lacks the opcode does with the same request, in its place; park: nothing, it
  // goes to whoever `by` names.
  op_kind stand_in = op_kind::park;
};

[[nodiscard]] const op_row& row_of(op_kind kind);

// Whether a thread that performs it may get SIGPIPE: there is no MSG_NOSIGNAL for these
// (kernel-notes/sendfile_raises_sigpipe.md). What the loop calls may make them, and says -EPIPE.
[[nodiscard]] inline bool may_raise_sigpipe(const op_request& r) {
  return r.kind == op_kind::sendfile || r.kind == op_kind::call ||
         (r.kind == op_kind::splice && !r.to_own_pipe);
}

// It waits for a peer, perhaps for ever, and must not keep those from working that end in time.
[[nodiscard]] inline bool only_waits(const op_request& r) {
  return r.kind == op_kind::poll || r.kind == op_kind::recv_multishot;
}

// It may move more than 64 KiB, which others can wait for.
[[nodiscard]] bool moves_much(const op_request& r);

// function(context) on a worker thread, or by the loop where the route says so; its result is what
// it returns: >= 0 or -errno.
[[nodiscard]] inline op_request call_of(std::int64_t (*function)(void*), void* context) {
  op_request request;
  request.kind = op_kind::call;
  request.function = function;
  request.data = context;
  return request;
}

// Who performs this request when no ring does: what its route asks for, else what its row says.
[[nodiscard]] carrier carrier_of(const op_request& request);

// The most that one call may be asked to move: MAX_RW_COUNT, kernel-notes/op_length_limit.md.
inline constexpr std::uint64_t op_bytes_max = 0x7ffff000;

// For op_kind::fsync: fdatasync(2). The value of IORING_FSYNC_DATASYNC.
inline constexpr std::uint32_t fsync_data_only = 1;

// Whether a result of `count` leaves something to be done, and the request with those bytes behind
// it.
[[nodiscard]] bool is_short(const op_request& request, std::uint64_t count);
// Moves the request past `count` bytes. iovec arrays and msghdr of the caller are advanced in
// place.
void advance(op_request& request, std::uint64_t count);

}  // namespace sluice
