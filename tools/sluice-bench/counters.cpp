#include "counters.hpp"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#ifdef SLUICE_BENCH_PFM
#include <perfmon/pfmlib_perf_event.h>
#endif

namespace bench {

namespace {

struct named_event {
  const char* figure;
  const char* pfm_name;
  std::uint32_t type;  // where libpfm4 is missing; its encoding of these is the same
  std::uint64_t config;
};

constexpr std::uint64_t last_level_read_misses = PERF_COUNT_HW_CACHE_LL |
                                                 (PERF_COUNT_HW_CACHE_OP_READ << 8) |
                                                 (PERF_COUNT_HW_CACHE_RESULT_MISS << 16);
constexpr std::array events = {
    named_event{"cycles", "perf::CYCLES", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    named_event{"instructions", "perf::INSTRUCTIONS", PERF_TYPE_HARDWARE,
                PERF_COUNT_HW_INSTRUCTIONS},
    named_event{"llc_misses", "perf::LLC-LOAD-MISSES", PERF_TYPE_HW_CACHE, last_level_read_misses},
    named_event{"task_clock", "perf::TASK-CLOCK", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK},
    named_event{"context_switches", "perf::CONTEXT-SWITCHES", PERF_TYPE_SOFTWARE,
                PERF_COUNT_SW_CONTEXT_SWITCHES},
    named_event{"page_faults", "perf::PAGE-FAULTS", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS},
};

perf_event_attr attribute(std::uint32_t type, std::uint64_t config) {
  perf_event_attr wanted{};
  wanted.size = sizeof wanted;
  wanted.type = type;
  wanted.config = config;
  wanted.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  return wanted;
}

perf_event_attr encode(const named_event& event) {
  perf_event_attr wanted = attribute(event.type, event.config);
#ifdef SLUICE_BENCH_PFM
  static const bool ready = pfm_initialize() == PFM_SUCCESS;
  pfm_perf_encode_arg_t how{};
  how.attr = &wanted;
  how.size = sizeof how;
  const perf_event_attr fallback = wanted;
  if (!ready || pfm_get_os_event_encoding(event.pfm_name, PFM_PLM0 | PFM_PLM3, PFM_OS_PERF_EVENT,
                                          &how) != PFM_SUCCESS) {
    wanted = fallback;
  }
  wanted.size = sizeof wanted;
  wanted.read_format = fallback.read_format;
#endif
  return wanted;
}

// Kernel included or not at all: half of the truth would look like a good figure.
int open_event(perf_event_attr wanted, pid_t pid) {
  wanted.inherit = 1;
  wanted.exclude_kernel = 0;
  wanted.exclude_hv = 1;
  return static_cast<int>(syscall(SYS_perf_event_open, &wanted, pid, -1, -1, PERF_FLAG_FD_CLOEXEC));
}

// Root of a tracefs: the mounted one, or one of our own that nobody else sees.
int tracefs() {
  const int mounted = ::open("/sys/kernel/tracing/events", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (mounted >= 0) {
    ::close(mounted);
    return ::open("/sys/kernel/tracing", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  const int context = fsopen("tracefs", FSOPEN_CLOEXEC);
  if (context < 0) return -1;
  int root = -1;
  if (fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0) {
    root = fsmount(context, FSMOUNT_CLOEXEC, 0);
  }
  ::close(context);
  return root;
}

std::optional<std::uint64_t> tracepoint_id(const char* event) {
  const auto text = read_tracefs(std::string("events/") + event + "/id");
  if (!text) return std::nullopt;
  return std::strtoull(text->c_str(), nullptr, 10);
}

void trace(event_group& into, const char* event, pid_t pid) {
  const auto id = tracepoint_id(event);
  if (!id) return;
  std::error_code problem;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, problem)) {
    const auto thread = static_cast<pid_t>(std::atoi(task.path().filename().c_str()));
    const int fd = open_event(attribute(PERF_TYPE_TRACEPOINT, *id), thread);
    if (fd >= 0) into.add(fd);
  }
}

bool can_count(const char* figure) {
  for (const named_event& event : events) {
    if (std::string(figure) != event.figure) continue;
    const int fd = open_event(encode(event), 0);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }
  return false;
}

}  // namespace

event_group::event_group(event_group&& other) noexcept : fds_(std::exchange(other.fds_, {})) {}

event_group& event_group::operator=(event_group&& other) noexcept {
  std::swap(fds_, other.fds_);
  return *this;
}

event_group::~event_group() {
  for (const int fd : fds_) ::close(fd);
}

std::optional<double> event_group::read() const {
  if (fds_.empty()) return std::nullopt;
  double sum = 0;
  bool counted = false;
  for (const int fd : fds_) {
    std::array<std::uint64_t, 3> seen{};  // value, time enabled, time running
    if (::read(fd, seen.data(), sizeof seen) != sizeof seen) return std::nullopt;
    if (seen[2] == 0) continue;  // this thread never ran, or no counter was free
    counted = true;
    sum +=
        static_cast<double>(seen[0]) * static_cast<double>(seen[1]) / static_cast<double>(seen[2]);
  }
  return counted ? std::optional(sum) : std::nullopt;
}

void process_counters::attach(pid_t pid) {
  for (const named_event& event : events) {
    const int fd = open_event(encode(event), pid);
    if (fd >= 0) events_[event.figure].add(fd);
  }
}

std::map<std::string, std::optional<double>> process_counters::read() const {
  std::map<std::string, std::optional<double>> all;
  for (const named_event& event : events) {
    const auto found = events_.find(event.figure);
    all[event.figure] = found == events_.end() ? std::nullopt : found->second.read();
  }
  return all;
}

call_tracer::call_tracer(pid_t pid) {
  trace(system_calls_, "raw_syscalls/sys_enter", pid);
  trace(worker_handoffs_, "io_uring/io_uring_queue_async_work", pid);
}

std::string counters_available() {
  if (can_count("cycles")) return "hardware";
  return can_count("context_switches") ? "software" : "none";
}

std::optional<std::string> read_tracefs(const std::string& path) {
  static const int root = tracefs();
  if (root < 0) return std::nullopt;
  const int fd = ::openat(root, path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::array<char, 4096> text;
  const ssize_t got = ::read(fd, text.data(), text.size());
  ::close(fd);
  if (got <= 0) return std::nullopt;
  return std::string(text.data(), static_cast<std::size_t>(got));
}

}  // namespace bench
