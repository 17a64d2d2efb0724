// Fields of op_request that a kind reads, beside `fd`:
//   accept           flags (SOCK_*)
//   connect          data = sockaddr, length = its bytes
//   recv send        data, length, flags (MSG_*)
//   recv_multishot   flags (MSG_*), buffer_index = group of provided buffers, bundle
//   recvmsg sendmsg  data = msghdr, flags
//   send_zc          as send, buffer_index
//   read write       data, length, offset, flags (RWF_*)
//   readv writev     data = iovec array, length = count, offset, flags (RWF_*)
//   read_fixed write_fixed  as read and write, buffer_index
//   writev_fixed     as writev, buffer_index: every vector lies in that buffer, and none is empty
//   splice           to fd at offset, from fd2 at offset2 (or op_no_offset), length, flags
//                    (SPLICE_F_*)
//   sendfile         to fd, from fd2 at offset2, length
//   copy_file_range  to fd at offset, from fd2 at offset2, length
//   openat2          path, data = open_how
//   close            -
//   fsync            flags (fsync_data_only)
//   fallocate        flags = mode, offset, length
//   ftruncate        length
//   statx            path, flags (AT_*), length = mask, data = statx
//   renameat2        path, fd2, path2, flags
//   linkat           path, fd2, path2, flags
//   unlinkat         path, flags
//   mkdirat          path, length = mode
//   poll             flags = poll(2) events
//   shutdown         flags = how
//   syncfs           data = array of int, length = count: files whose own write-back errors count
//                    as the filesystem's
//   call             function, data
#include "ops/table.hpp"

#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>

#include "kernel/uapi.hpp"
#include "ops/files.hpp"
#include "ops/requests.hpp"

namespace sluice {
namespace {

using namespace ops;

void fill_accept(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_accept(&sqe, r.fd, nullptr, nullptr, flags_of(r));
}
std::int64_t perform_accept(const op_request& r) {
  return answer(::accept4(r.fd, nullptr, nullptr, flags_of(r)));
}

void fill_connect(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_connect(&sqe, r.fd, static_cast<const sockaddr*>(r.data),
                        static_cast<socklen_t>(r.length));
}
// Called again once the socket is writable: then it says how the first call ended (connect(2)).
std::int64_t perform_connect(const op_request& r) {
  if (::connect(r.fd, static_cast<const sockaddr*>(r.data), static_cast<socklen_t>(r.length)) ==
      0) {
    return 0;
  }
  if (errno == EISCONN) return 0;
  return errno == EINPROGRESS || errno == EALREADY ? -EAGAIN : -errno;
}

void fill_recv(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_recv(&sqe, r.fd, r.data, clipped(r.length), flags_of(r));
}
std::int64_t perform_recv(const op_request& r) {
  // Without MSG_WAITALL: the rest is asked for when epoll says so.
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::recv(r.fd, r.data, clipped(r.length), flags));
}

void fill_recv_multishot(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_recv_multishot(&sqe, r.fd, nullptr, 0, flags_of(r));
  sqe.flags |= IOSQE_BUFFER_SELECT;
  sqe.buf_group = r.buffer_index;
  if (r.bundle) sqe.ioprio |= uapi::recvsend_bundle;
}
std::int64_t perform_recv_multishot(const op_request&) { return -EOPNOTSUPP; }

void fill_send(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_send(&sqe, r.fd, r.data, clipped(r.length), flags_of(r));
}
std::int64_t perform_send(const op_request& r) {
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::send(r.fd, r.data, clipped(r.length), flags));
}

void fill_recvmsg(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_recvmsg(&sqe, r.fd, static_cast<msghdr*>(r.data), r.flags);
}
std::int64_t perform_recvmsg(const op_request& r) {
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::recvmsg(r.fd, static_cast<msghdr*>(r.data), flags));
}

void fill_sendmsg(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_sendmsg(&sqe, r.fd, static_cast<const msghdr*>(r.data), r.flags);
}
std::int64_t perform_sendmsg(const op_request& r) {
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::sendmsg(r.fd, static_cast<const msghdr*>(r.data), flags));
}

// From registered memory only: what is not registered is sent plainly. Who has no ring, or an older
// one, sends plainly too, and answers once.
void fill_send_zc(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_send_zc_fixed(&sqe, r.fd, r.data, clipped(r.length), flags_of(r),
                              uapi::send_zc_report_usage, r.buffer_index);
}

void fill_poll(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_poll_add(&sqe, r.fd, r.flags);
}
std::int64_t perform_poll(const op_request& r) {
  if (r.fd < 0) return -EBADF;  // poll(2) skips it
  pollfd wanted{r.fd, static_cast<short>(r.flags), 0};
  const int ready = ::poll(&wanted, 1, 0);
  if (ready == 0) return -EAGAIN;
  if (ready < 0) return -errno;
  return (wanted.revents & POLLNVAL) != 0 ? -EBADF : wanted.revents;  // as the ring says it
}

void fill_shutdown(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_shutdown(&sqe, r.fd, flags_of(r));
}
std::int64_t perform_shutdown(const op_request& r) { return answer(::shutdown(r.fd, flags_of(r))); }

std::int64_t perform_call(const op_request& r) { return r.function(r.data); }

constexpr std::array<op_row, op_kind_count> rows{{
    {op_kind::accept, "accept", IORING_OP_ACCEPT, fill_accept, perform_accept, carrier::readable,
     short_rule::final, retry_rule::again},
    {op_kind::connect, "connect", IORING_OP_CONNECT, fill_connect, perform_connect,
     carrier::writable, short_rule::final, retry_rule::again},
    {op_kind::recv, "recv", IORING_OP_RECV, fill_recv, perform_recv, carrier::readable,
     short_rule::resume_if_all, retry_rule::again},
    {op_kind::recv_multishot, "recv_multishot", IORING_OP_RECV, fill_recv_multishot,
     perform_recv_multishot, carrier::readable, short_rule::final, retry_rule::again},
    {op_kind::send, "send", IORING_OP_SEND, fill_send, perform_send, carrier::writable,
     short_rule::resume, retry_rule::again},
    {op_kind::recvmsg, "recvmsg", IORING_OP_RECVMSG, fill_recvmsg, perform_recvmsg,
     carrier::readable, short_rule::resume_if_all, retry_rule::again},
    {op_kind::sendmsg, "sendmsg", IORING_OP_SENDMSG, fill_sendmsg, perform_sendmsg,
     carrier::writable, short_rule::resume, retry_rule::again},
    {op_kind::send_zc, "send_zc", IORING_OP_SEND_ZC, fill_send_zc, perform_send, carrier::writable,
     short_rule::final, retry_rule::again},
    {op_kind::read, "read", IORING_OP_READ, fill_read, perform_read, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::write, "write", IORING_OP_WRITE, fill_write, perform_write, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::readv, "readv", IORING_OP_READV, fill_readv, perform_readv, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::writev, "writev", IORING_OP_WRITEV, fill_writev, perform_writev, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::read_fixed, "read_fixed", IORING_OP_READ_FIXED, fill_read_fixed, perform_read,
     carrier::worker, short_rule::resume, retry_rule::again},
    {op_kind::write_fixed, "write_fixed", IORING_OP_WRITE_FIXED, fill_write_fixed, perform_write,
     carrier::worker, short_rule::resume, retry_rule::again},
    {op_kind::writev_fixed, "writev_fixed", uapi::op_writev_fixed, fill_writev_fixed,
     perform_writev, carrier::worker, short_rule::resume, retry_rule::again, op_kind::writev},
    {op_kind::splice, "splice", IORING_OP_SPLICE, fill_splice, perform_splice, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::sendfile, "sendfile", -1, nullptr, perform_sendfile, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::copy_file_range, "copy_file_range", -1, nullptr, perform_copy_file_range,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::openat2, "openat2", IORING_OP_OPENAT2, fill_openat2, perform_openat2, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::close, "close", IORING_OP_CLOSE, fill_close, perform_close, carrier::worker,
     short_rule::final, retry_rule::closed},
    {op_kind::fsync, "fsync", IORING_OP_FSYNC, fill_fsync, perform_fsync, carrier::worker,
     short_rule::final, retry_rule::final},
    {op_kind::fallocate, "fallocate", IORING_OP_FALLOCATE, fill_fallocate, perform_fallocate,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::ftruncate, "ftruncate", uapi::op_ftruncate, fill_ftruncate, perform_ftruncate,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::statx, "statx", IORING_OP_STATX, fill_statx, perform_statx, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::renameat2, "renameat2", IORING_OP_RENAMEAT, fill_renameat2, perform_renameat2,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::linkat, "linkat", IORING_OP_LINKAT, fill_linkat, perform_linkat, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::unlinkat, "unlinkat", IORING_OP_UNLINKAT, fill_unlinkat, perform_unlinkat,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::mkdirat, "mkdirat", IORING_OP_MKDIRAT, fill_mkdirat, perform_mkdirat, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::poll, "poll", IORING_OP_POLL_ADD, fill_poll, perform_poll, carrier::polled,
     short_rule::final, retry_rule::again},
    {op_kind::shutdown, "shutdown", IORING_OP_SHUTDOWN, fill_shutdown, perform_shutdown,
     carrier::inline_call, short_rule::final, retry_rule::again},
    {op_kind::syncfs, "syncfs", -1, nullptr, perform_syncfs, carrier::worker, short_rule::final,
     retry_rule::final},
    {op_kind::call, "call", -1, nullptr, perform_call, carrier::worker, short_rule::final,
     retry_rule::again},
    {op_kind::timeout, "timeout", -1, nullptr, nullptr, carrier::loop, short_rule::final,
     retry_rule::again},
    {op_kind::park, "park", -1, nullptr, nullptr, carrier::loop, short_rule::final,
     retry_rule::again},
}};

static_assert(fsync_data_only == IORING_FSYNC_DATASYNC);

constexpr bool rows_match_kinds() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::size_t>(rows[i].kind) != i) return false;
    const op_row& stand_in = rows[static_cast<std::size_t>(rows[i].stand_in)];
    if (stand_in.stand_in != op_kind::park || stand_in.by == carrier::inline_call) return false;
  }
  return true;
}
static_assert(rows_match_kinds(), "a row per kind, in the order of op_kind");

bool counts_vectors(op_kind kind) {
  return kind == op_kind::readv || kind == op_kind::writev || kind == op_kind::writev_fixed;
}
bool is_message(op_kind kind) { return kind == op_kind::recvmsg || kind == op_kind::sendmsg; }

std::uint64_t bytes_in(const iovec* first, std::uint64_t count) {
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 0; i < count; ++i) bytes += first[i].iov_len;
  return bytes;
}

std::uint64_t bytes_wanted(const op_request& r) {
  if (counts_vectors(r.kind)) return bytes_in(vectors(r), r.length);
  if (is_message(r.kind)) {
    const auto* message = static_cast<const msghdr*>(r.data);
    return bytes_in(message->msg_iov, message->msg_iovlen);
  }
  return r.length;
}

// Worked example: vectors of 100 and 200 bytes, 150 moved: the first is dropped (100), 50 bytes are
// cut off the second, which is now {base + 50, 150} and the only one left.
std::uint64_t drop_bytes(iovec*& first, std::uint64_t count, std::uint64_t bytes) {
  while (count > 0 && bytes >= first->iov_len) {
    bytes -= first->iov_len;
    ++first;
    --count;
  }
  if (bytes > 0) {
    first->iov_base = static_cast<std::byte*>(first->iov_base) + bytes;
    first->iov_len -= bytes;
  }
  return count;
}

}  // namespace

const op_row& row_of(op_kind kind) { return rows[static_cast<std::size_t>(kind)]; }

carrier carrier_of(const op_request& request) {
  switch (request.route) {
    case op_route::worker: return carrier::worker;
    case op_route::loop_thread: return carrier::inline_call;
    default: return row_of(request.kind).by;
  }
}

bool moves_much(const op_request& r) {
  constexpr std::uint64_t little_bytes = 64 * 1024;
  return r.kind == op_kind::call || bytes_wanted(r) > little_bytes;
}

bool is_short(const op_request& request, std::uint64_t count) {
  if (request.accept_short) return false;
  const short_rule rule = row_of(request.kind).when_short;
  if (rule == short_rule::final) return false;
  if (rule == short_rule::resume_if_all && (request.flags & MSG_WAITALL) == 0) return false;
  return count < bytes_wanted(request);
}

void advance(op_request& request, std::uint64_t count) {
  if (counts_vectors(request.kind)) {
    auto* first = static_cast<iovec*>(request.data);
    request.length = drop_bytes(first, request.length, count);
    request.data = first;
    request.offset += count;
  } else if (is_message(request.kind)) {
    auto* message = static_cast<msghdr*>(request.data);
    message->msg_iovlen = drop_bytes(message->msg_iov, message->msg_iovlen, count);
  } else {
    request.data = static_cast<std::byte*>(request.data) + count;
    request.length -= count;
    request.offset += count;
  }
}

}  // namespace sluice
