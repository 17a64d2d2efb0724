// copy_file: what is refused before anything is done, who has the files meanwhile, and what is said
// at the end. The copy itself is in transfer/copying.
#include "sluice/file_copy.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>

#include "core/this_scope.hpp"
#include "storage/file_state.hpp"
#include "storage/look.hpp"
#include "storage/page_dropper.hpp"
#include "transfer/copying.hpp"
#include "transfer/deadline.hpp"
#include "transfer/planner.hpp"

namespace sluice {
namespace {

constexpr const char* where = "copy_file";

bool is_past_end_of_numbers(std::uint64_t offset, std::uint64_t length) {
  return length > op_no_offset / 2 - std::min(offset, op_no_offset / 2);
}

// What is wrong with the request, before anything is done.
result<void> check(const file_state& from, const file_state& into, const copy_options& o) {
  if (is_past_end_of_numbers(o.source_offset, o.length) ||
      is_past_end_of_numbers(o.target_offset, o.length)) {
    return fail(EINVAL, where, "a range past 2^63");
  }
  if (&from.core != &into.core) return fail(EINVAL, where, "files of two engines");
  if (!kernel::is_writable(into.fd.get())) return fail(EBADF, where, "not for writing");
  return {};
}

// The same, of what the files are. Afterwards the kernel remembers both as they are now, and knows
// what is written to the target from here on.
task<result<void>> look_at(file_state& from, file_state& into, const copy_options& o) {
  look_await looking_at_source(from.core, from.fd.get());
  const result<file_look> source = co_await looking_at_source;
  if (!source) co_return std::unexpected(source.error());
  look_await looking_at_target(into.core, into.fd.get());
  const result<file_look> target = co_await looking_at_target;
  if (!target) co_return std::unexpected(target.error());
  from.lies_on(source->on);
  into.lies_on(target->on);
  const bool meet =
      o.source_offset < o.target_offset + o.length && o.target_offset < o.source_offset + o.length;
  if (meet && source->inode.inode == target->inode.inode &&
      source->inode.device == target->inode.device) {
    co_return fail(EINVAL, where, "the ranges meet in one file");
  }
  co_return result<void>{};
}

const char* name_of_failure(path way) {
  return way == path::reflink           ? "ioctl"
         : way == path::copy_file_range ? "copy_file_range"
                                        : "write";
}

std::unexpected<error> failed(const copying& c, int failure, path way) {
  return fail(failure, name_of_failure(way), c.refusal() != nullptr ? c.refusal() : where);
}

// A write-back that failed has lost pages of the target, nobody knows which: nothing counts as
// copied then. The next sync of the file tells it, too.
task<result<void>> flow_and_drop(copying& c, file_state& from, file_state& into,
                                 const copy_options& options, receipt& so_far) {
  scope* const task_scope = co_await this_scope{};
  page_dropper source_pages(from, options.source_offset, page_state::clean, task_scope);
  page_dropper target_pages(into, options.target_offset, page_state::dirty, task_scope);
  c.drop_behind(source_pages, target_pages);
  const int failure = co_await c.flow();
  const std::uint64_t used = c.has_used_pages() ? so_far.bytes : 0;
  const int lost = co_await target_pages.finished(options.target_offset + used);
  (void)co_await source_pages.finished(options.source_offset + used);
  so_far.ops += target_pages.ops() + source_pages.ops();
  if (lost != 0) {
    so_far.bytes = 0;
    co_return fail(lost, "sync_file_range", where);
  }
  if (failure != 0) co_return failed(c, failure, so_far.path);
  co_return result<void>{};
}

task<result<void>> flow_alone(copying& c, const receipt& so_far) {
  const int failure = co_await c.flow();
  if (failure != 0) co_return failed(c, failure, so_far.path);
  co_return result<void>{};
}

task<result<receipt>> copy_at_all(file& from, file& into, copy_options options, receipt* progress) {
  receipt own;
  receipt& so_far = progress != nullptr ? *progress : own;
  so_far = {.begun = std::chrono::steady_clock::now()};
  if (!from || !into) co_return fail(EBADF, where, "a file is closed");
  file_state& target = into.state();
  const result<void> right = check(from.state(), target, options);
  if (!right) co_return std::unexpected(right.error());
  const transfer_claim written(target, transfer_claim::hold::alone);
  if (!written) co_return fail(EBUSY, where, "another transfer has the target");
  std::optional<transfer_claim> read;
  if (&from.state() != &target) {
    read.emplace(from.state(), transfer_claim::hold::shared);
    if (!*read) co_return fail(EBUSY, where, "another transfer has the source");
  }
  const result<void> apart = co_await look_at(from.state(), target, options);
  if (!apart) co_return std::unexpected(apart.error());
  engine_core& core = target.core;
  const plan chosen = plan_file_copy(options.cache,
                                     {.block_bytes = core.values().memory.block_bytes,
                                      .splice = core.tried().splice,
                                      .copy_file_range = core.tried().copy_file_range},
                                     core.values().copy);
  so_far.path = chosen.chosen;
  so_far.reason = chosen.reason;  // of a refusal too
  if (chosen.refused) co_return fail(code::path_unavailable, where, chosen.reason);
  // Of a descriptor that came with O_DIRECT: what is copied here has any length.
  for (file_state* file : {&from.state(), &target}) {
    [[maybe_unused]] const int refusal = set_direct(*file, false);
  }
  copying c(from.state(), target, options, so_far);
  c.begin(chosen);
  const bool drops = chosen.cache == cache_policy::drop_behind;
  const result<void> done = drops ? co_await flow_and_drop(c, from.state(), target, options, so_far)
                                  : co_await flow_alone(c, so_far);
  so_far.last_byte = so_far.stored = c.elapsed();
  if (!done) co_return std::unexpected(done.error());
  core.counters().copy.transfers.add();
  co_return so_far;
}

}  // namespace

task<result<receipt>> copy_file(file& from, file& into, copy_options options, receipt* progress) {
  task<result<receipt>> whole = copy_at_all(from, into, options, progress);
  if (options.deadline.count() == 0 || !into) return whole;
  return ended_within(into.state().core, options.deadline, std::move(whole));
}

}  // namespace sluice
