#include "disk_survey.hpp"

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>
#include <vector>

#include "disk_check.hpp"

namespace bt {

using sluice::result;
using sluice::task;

namespace {

constexpr unsigned flows_max = 8;
constexpr std::uint64_t call_bytes = 4 << 20;  // of one call of a worker

// A worker's: it may wait for the disk.
std::int64_t forget_pages(void* context) {
  forget_cached(*static_cast<std::span<const int>*>(context));
  return 0;
}

}  // namespace

// Some pieces in a row, for one call of a worker.
struct disk_survey::job {
  disk_reader reader;
  std::span<const sha1_digest> expected;
  bool skip_holes = false;
  std::uint32_t first = 0;
  std::uint32_t past = 0;
  std::vector<bool> right;

  static std::int64_t carry_out(void* context) {
    auto& of = *static_cast<job*>(context);
    for (std::uint32_t piece = of.first; piece < of.past; ++piece) {
      if (of.skip_holes && of.reader.is_hole(piece)) {
        // Most often not yet fetched, but a piece of zeroes is all there.
        of.right[piece - of.first] = of.reader.digest_of_hole(piece) == of.expected[piece];
        continue;
      }
      const auto digest = of.reader.digest_of(piece);
      if (!digest && digest.error() != ENODATA) return -digest.error();
      of.right[piece - of.first] = digest && *digest == of.expected[piece];
    }
    return 0;
  }
};

void disk_survey::start(found tell, ended end) {
  tell_ = std::move(tell);
  end_ = std::move(end);
  running_ = 1;
  engine_.spawn(run());
}

task<void> disk_survey::run() {
  if (purpose_ == purpose::resume) {
    std::span<const int> files = store_.descriptors();
    const result<std::size_t> done = co_await engine_.run_on_worker(forget_pages, &files);
    note(done);
  }
  const unsigned flows = std::clamp(std::thread::hardware_concurrency(), 1U, flows_max);
  for (unsigned i = 1; i < flows; ++i) {
    ++running_;
    engine_.spawn(look());
  }
  co_await look();
}

task<void> disk_survey::look() {
  const layout& where = store_.where();
  job work{
      disk_reader(where, store_.descriptors()), expected_, purpose_ == purpose::resume, 0, 0, {}};
  const auto each = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(call_bytes / where.piece_bytes(), 1, where.pieces()));
  work.right.resize(each);
  while (next_ < where.pieces()) {
    work.first = next_;
    work.past = next_ = std::min(next_ + each, where.pieces());
    const result<std::size_t> done = co_await engine_.run_on_worker(job::carry_out, &work);
    note(done);
    if (!done) break;
    for (std::uint32_t piece = work.first; piece < work.past; ++piece) {
      if (work.right[piece - work.first]) tell_(piece);
    }
  }
  if (--running_ == 0) end_(outcome_);
}

void disk_survey::note(const result<std::size_t>& done) {
  if (done) return;
  if (outcome_) outcome_ = std::unexpected(done.error());
  stop();
}

}  // namespace bt
