#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "core/this_scope.hpp"
#include "sluice/transfer.hpp"
#include "storage/file_state.hpp"
#include "storage/write_window.hpp"
#include "transfer/planner.hpp"

namespace sluice {

struct span_writer::state {
  state(file_state* into, body_check* by) : file(into), check(by) {
    so_far.begun = std::chrono::steady_clock::now();
    refusal = take_file();
  }
  file_state* const file;  // null: it is closed
  body_check* const check;
  std::optional<transfer_claim> claim;
  error refusal;                         // code 0: nothing is in the way
  std::unique_ptr<write_window> window;  // made with the first write, which knows its task
  receipt so_far;
  bool ended = false;  // the last part was given

  [[nodiscard]] std::chrono::nanoseconds elapsed() const {
    return std::chrono::steady_clock::now() - so_far.begun;
  }

 private:
  error take_file() {
    if (file == nullptr) return {EBADF, "span_writer", "the file is closed"};
    claim.emplace(*file, transfer_claim::hold::alone);
    if (!*claim) return {EBUSY, "span_writer", "another transfer has the file"};
    const plan chosen = plan_pieces(file->core.values().receive);
    so_far.path = chosen.chosen;
    so_far.reason = chosen.reason;  // of a refusal too
    if (chosen.refused) return {code::path_unavailable, "span_writer", chosen.reason};
    so_far.copies = 2;
    // It may have come with O_DIRECT: pieces lie anywhere, and have any length.
    [[maybe_unused]] const int still_direct = set_direct(*file, false);
    return {};
  }
};

namespace {

std::uint64_t bytes_of(std::span<const iovec> spans) {
  std::uint64_t bytes = 0;
  for (const iovec& span : spans) bytes += span.iov_len;
  return bytes;
}

}  // namespace

span_writer::span_writer(engine&, file& into, body_check* check)
    : state_(std::make_unique<state>(into ? &into.state() : nullptr, check)) {}

span_writer::~span_writer() = default;

task<result<void>> span_writer::write(lease block, std::span<const iovec> spans, body_part part) {
  state& s = *state_;
  if (s.refusal.code != 0) co_return std::unexpected(s.refusal);
  if (s.ended) co_return fail(EINVAL, "span_writer", "a write after the last part");
  if (!s.window) {
    const std::size_t depth = write_depth(*s.file, s.file->core.values().receive.depth);
    s.window = std::make_unique<write_window>(*s.file, depth, co_await this_scope{}, s.check);
    s.so_far.first_byte = s.elapsed();
  }
  if (!s.window->has_room() && !co_await s.window->room())
    co_return fail(ECANCELED, "writev", "span_writer");
  if (s.window->failure() != 0) co_return fail(s.window->failure(), "writev", "span_writer");
  s.ended = part == body_part::last;
  s.window->write(std::move(block), spans, {.offset = s.so_far.bytes, .ends_body = s.ended});
  s.so_far.bytes += bytes_of(spans);
  co_return result<void>{};
}

task<result<receipt>> span_writer::finish(receipt* progress) {
  state& s = *state_;
  if (s.refusal.code != 0) {
    s.claim.reset();
    if (progress != nullptr) *progress = s.so_far;
    co_return std::unexpected(s.refusal);
  }
  s.so_far.last_byte = s.elapsed();
  result<void> written;
  if (s.window) {
    written = co_await s.window->drained();
    s.so_far.ops = s.window->ops();
    s.so_far.short_ops = s.window->short_ops();
    s.so_far.stored = s.elapsed();
    s.file->core.counters().receive.bytes.add(s.so_far.bytes);
  }
  s.claim.reset();
  if (progress != nullptr) *progress = s.so_far;
  if (!written) co_return std::unexpected(written.error());
  if (s.check != nullptr && !s.ended)
    co_return fail(EINVAL, "span_writer", "finish before the last part");
  s.file->core.counters().receive.transfers_copy.add();
  co_return s.so_far;
}

}  // namespace sluice
