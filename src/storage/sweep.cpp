// Sweeping up temporary names, a directory at a time, so that a cancel is heard in between.
#include <fcntl.h>

#include <string>
#include <utility>
#include <vector>

#include "ops/table.hpp"
#include "sluice/file.hpp"
#include "storage/beneath.hpp"
#include "storage/file_state.hpp"
#include "storage/temporary_name.hpp"

namespace sluice {
namespace {

struct sweeping {
  int directory_fd;
  swept_directory found;
};

std::int64_t sweep_on_worker(void* context) {
  auto* s = static_cast<sweeping*>(context);
  return -sweep_directory(s->directory_fd, s->found);
}

// Sweeps one directory and adds those in it to `left`.
task<result<void>> sweep_one(engine_core& core, int root_fd, const std::string& path,
                             std::vector<std::string>& left, sweep_report& report) {
  const result<kernel::unique_fd> opened =
      co_await open_beneath(core, root_fd, path, O_RDONLY | O_DIRECTORY);
  if (!opened) co_return std::unexpected(opened.error());
  sweeping job{opened->get(), {}};
  op_await working(core.loop(), call_of(sweep_on_worker, &job));
  const result<std::size_t> swept = co_await working;
  report.removed += job.found.removed;
  core.counters().publish.swept.add(job.found.removed);
  if (!swept) co_return fail(swept.error().code, "readdir", "sweep");
  ++report.directories;
  for (const std::string& name : job.found.directories) left.push_back(path + "/" + name);
  co_return result<void>{};
}

}  // namespace

task<result<sweep_report>> sweep_temporaries(directory& root) {
  sweep_report report;
  std::vector<std::string> left{"."};  // the last comes next: a tree, not a level, is kept in mind
  while (!left.empty()) {
    const std::string path = std::move(left.back());
    left.pop_back();
    const result<void> swept = co_await sweep_one(root.core(), root.fd(), path, left, report);
    if (!swept && swept.error().code == ECANCELED) co_return std::unexpected(swept.error());
  }
  co_return report;
}

}  // namespace sluice
