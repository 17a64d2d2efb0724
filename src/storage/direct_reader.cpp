#include "sluice/direct_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "ops/table.hpp"
#include "storage/file_state.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t offset_max = std::numeric_limits<std::int64_t>::max();
constexpr const char* where = "direct_reader";
constexpr int idle_max = 3;

// What a worker finds out: opening and asking may wait for a network filesystem, and so may closing
// what is held meanwhile.
struct reopening {
  reopening(engine_core& on, int fd) : core(on), held(::fcntl(fd, F_DUPFD_CLOEXEC, 0)) {}
  reopening(const reopening&) = delete;
  reopening& operator=(const reopening&) = delete;
  ~reopening() {
    for (kernel::unique_fd* fd : {&held, &opened}) {
      if (*fd) core.closer().close_later({std::move(*fd), {}, {}});
    }
  }

  engine_core& core;
  kernel::unique_fd held;  // stays while the worker has it, whatever becomes of the file
  kernel::unique_fd opened;
  kernel::reopened found;

  static std::int64_t carry_out(void* data) {
    auto& r = *static_cast<reopening*>(data);
    const int opened = kernel::reopen_direct(r.held.get(), O_RDONLY, r.found);
    if (opened < 0) return opened;
    r.opened.reset(opened);
    return 0;
  }
};

}  // namespace

struct direct_reader::state {
  explicit state(reopening& done)
      : core(done.core),
        fd(std::move(done.opened)),
        alignment(done.found.alignment),
        route(direct_route_of(done.found.on)) {}
  state(const state&) = delete;
  state& operator=(const state&) = delete;
  ~state() { core.closer().close_later({std::move(fd), {}, {}}); }

  engine_core& core;
  kernel::unique_fd fd;
  const kernel::direct_alignment alignment;
  const op_route route;
};

task<result<direct_reader>> direct_reader::open(const file& of) {
  if (!of) co_return fail(EBADF, "open", where);
  engine_core& core = of.state().core;
  // Opened again it might be readable all the same.
  if (!kernel::is_readable(of.fd())) co_return fail(EBADF, "open", where);
  if (!core.tried().proc_self_fd) co_return fail(EOPNOTSUPP, "open", where);
  reopening again(core, of.fd());
  if (!again.held) co_return fail(errno, "fcntl", where);
  op_await opening(core.loop(), call_of(reopening::carry_out, &again));
  const result<std::size_t> opened = co_await opening;
  if (!opened) co_return fail(opened.error().code, "open", where);
  co_return direct_reader(std::make_unique<state>(again));
}

direct_reader::direct_reader(std::unique_ptr<state> made) : state_(std::move(made)) {}
direct_reader::direct_reader(direct_reader&&) noexcept = default;
direct_reader& direct_reader::operator=(direct_reader&&) noexcept = default;
direct_reader::~direct_reader() = default;

std::uint32_t direct_reader::alignment_bytes() const { return state_->alignment.offset_bytes; }

std::uint64_t direct_reader::room_bytes(std::uint64_t offset, std::uint64_t bytes) const {
  const std::uint64_t unit = alignment_bytes();
  return (offset % unit + bytes + unit - 1) / unit * unit;
}

task<result<std::uint64_t>> direct_reader::size_now() const {
  struct statx info{};
  op_request request;
  request.kind = op_kind::statx;
  request.fd = state_->fd.get();
  request.path = "";
  request.flags = AT_EMPTY_PATH;
  request.length = STATX_SIZE;
  request.data = &info;
  op_await asking(state_->core.loop(), request);
  const result<std::size_t> asked = co_await asking;
  if (!asked) co_return fail(asked.error().code, "statx", where);
  co_return info.stx_size;
}

// Worked example: alignment 512, a file of 70,001 bytes, 300 bytes wanted from 69,900 on. 1,024 are
// read from 69,632 on; 369 come, an odd count, and the file is no longer. 268 of them lie before
// the range: 101 are left of it.
task<result<std::span<std::byte>>> direct_reader::read(const lease& into, std::uint64_t offset,
                                                       std::uint64_t bytes) {
  const state& s = *state_;
  const std::uint64_t unit = alignment_bytes();
  if (offset > offset_max || bytes > offset_max - offset || room_bytes(offset, bytes) > into.size())
    co_return fail(EINVAL, "read", "direct_reader: a range larger than the memory");
  if (reinterpret_cast<std::uintptr_t>(into.data()) % std::max(s.alignment.memory_bytes, 1U) != 0)
    co_return fail(EINVAL, "read", "direct_reader: memory that is not aligned");
  const std::uint64_t skip = offset % unit;
  const std::uint64_t whole = room_bytes(offset, bytes);
  std::uint64_t done = 0;
  int idle = 0;  // reads in a row that brought no whole unit
  while (done < skip + bytes) {
    const std::uint64_t from = done / unit * unit;  // an odd rest is read again
    op_request request;
    request.kind = op_kind::read;
    if (into.buffer_index() >= 0) {
      request.kind = op_kind::read_fixed;
      request.buffer_index = static_cast<std::uint16_t>(into.buffer_index());
    }
    request.fd = s.fd.get();
    request.route = s.route;
    request.data = into.data() + from;
    request.length = whole - from;
    request.offset = offset - skip + from;
    request.accept_short = true;  // it could not be continued at the odd offset it stopped at
    op_await reading(s.core.loop(), request);
    const result<std::size_t> got = co_await reading;
    if (!got) co_return std::unexpected(got.error());
    done = from + *got;
    idle = *got < unit ? idle + 1 : 0;
    if (done >= skip + bytes || (idle == 0 && *got % unit == 0)) continue;
    // Nothing, or an odd count: the end of the file, or a daemon that stopped inside it (read(2)).
    const result<std::uint64_t> size = co_await size_now();
    if (!size) co_return std::unexpected(size.error());
    if (request.offset + *got >= *size) break;
    if (idle > idle_max) co_return fail(EIO, "read", "direct_reader: less than a sector comes");
  }
  const std::uint64_t had = std::min(done, skip + bytes);
  co_return into.bytes().subspan(skip, had > skip ? had - skip : 0);
}

}  // namespace sluice
