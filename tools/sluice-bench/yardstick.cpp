#include "yardstick.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "child.hpp"
#include "measure.hpp"
#include "nginx.hpp"
#include "usage.hpp"

namespace bench {

namespace {

constexpr std::size_t alignment = 4096;
constexpr std::chrono::minutes timeout(5);
constexpr std::chrono::seconds iperf3_timeout(20);

double own_cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct freed {
  void operator()(void* memory) const { std::free(memory); }
};

// Takes blocks in turn until all are written or one fails.
void write_blocks(int fd, const disk_order& wanted, std::atomic<std::uint64_t>& next,
                  std::atomic<bool>& failed) {
  const std::unique_ptr<void, freed> block(std::aligned_alloc(alignment, wanted.block_bytes));
  std::fill_n(static_cast<char*>(block.get()), wanted.block_bytes, 's');
  while (!failed) {
    const std::uint64_t at = next.fetch_add(wanted.block_bytes);
    if (at + wanted.block_bytes > wanted.bytes) return;
    const ssize_t written = ::pwrite(fd, block.get(), wanted.block_bytes, static_cast<off_t>(at));
    if (written != static_cast<ssize_t>(wanted.block_bytes)) failed = true;
  }
}

std::optional<disk_speed> by_threads(const disk_order& wanted) {
  const std::string file = wanted.directory + "/limit";
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0644);
  if (fd < 0) return std::nullopt;
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> failed{::posix_fallocate(fd, 0, static_cast<off_t>(wanted.bytes)) != 0};
  const double cpu = own_cpu_seconds();
  const double start = seconds_now();
  {
    std::vector<std::jthread> writers;
    for (unsigned i = 0; i < wanted.depth; ++i) {
      writers.emplace_back([&] { write_blocks(fd, wanted, next, failed); });
    }
  }
  failed = failed || ::fdatasync(fd) != 0;
  const double seconds = seconds_now() - start;
  const double used = own_cpu_seconds() - cpu;
  ::close(fd);
  ::unlink(file.c_str());
  if (failed) return std::nullopt;
  const auto payload = static_cast<double>(wanted.bytes / wanted.block_bytes * wanted.block_bytes);
  return disk_speed{payload / bytes_per_mib / seconds, used / (payload / bytes_per_gib),
                    fmt::format("{} threads, pwrite O_DIRECT", wanted.depth)};
}

std::optional<disk_speed> by_fio(const std::string& fio, const disk_order& wanted,
                                 const std::string& io_engine) {
  const auto text = output_of(
      {fio, "--name=limit", "--directory=" + wanted.directory, "--rw=write", "--direct=1",
       fmt::format("--bs={}", wanted.block_bytes), fmt::format("--iodepth={}", wanted.depth),
       "--ioengine=" + io_engine, fmt::format("--size={}", wanted.bytes), "--fallocate=posix",
       "--end_fsync=1", "--unlink=1", "--thread", "--output-format=json"},
      timeout);
  if (!text) return std::nullopt;
  const auto all =
      nlohmann::json::parse(text->substr(std::min(text->find('{'), text->size())), nullptr, false);
  if (!all.is_object() || !all.contains("jobs")) return std::nullopt;
  const auto& job = all["jobs"][0];
  const double seconds = job.value("job_runtime", 0.0) / 1000;  // the sync at the end included
  if (seconds <= 0 || job.value("error", 0) != 0) return std::nullopt;
  const double busy = (job.value("usr_cpu", 0.0) + job.value("sys_cpu", 0.0)) / 100 * seconds;
  const auto payload = static_cast<double>(wanted.bytes);
  return disk_speed{payload / bytes_per_mib / seconds, busy / (payload / bytes_per_gib),
                    "fio " + io_engine};
}

}  // namespace

std::optional<disk_speed> measure_disk(const setup& on, const disk_order& wanted) {
  if (const auto fio = on.program("fio")) {
    for (const char* io_engine : {"io_uring", "libaio"}) {
      if (auto speed = by_fio(*fio, wanted, io_engine)) return speed;
    }
  }
  return by_threads(wanted);
}

std::optional<double> measure_iperf3(const setup& on) {
  const auto iperf3 = on.program("iperf3");
  if (!iperf3) return std::nullopt;
  const std::string port = fmt::format("{}", free_port());
  child_options quiet;
  quiet.quiet = true;
  const auto server =
      child::start({*iperf3, "-s", "-1", "-B", "127.0.0.1", "-p", port, "--forceflush"}, quiet);
  // A connection made to see whether it listens would be the one that it serves.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto text = output_of(
      {*iperf3, "-c", "127.0.0.1", "-p", port, "-t", "1", "-l", "256K", "-J"}, iperf3_timeout);
  if (!server || !text) return std::nullopt;
  const auto all = nlohmann::json::parse(*text, nullptr, false);
  const nlohmann::json::json_pointer rate("/end/sum_received/bits_per_second");
  if (!all.is_object() || !all.contains(rate)) return std::nullopt;
  return all[rate].get<double>() / 8 / bytes_per_mib;
}

}  // namespace bench
