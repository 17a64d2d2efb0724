#include "progress.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

namespace bt {

namespace {

constexpr double mib = 1024.0 * 1024.0;

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
}

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace

double cpu_seconds() {
  rusage used{};
  if (getrusage(RUSAGE_SELF, &used) != 0) return 0;
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

void progress::begin(const session_stats& now) {
  begun_ = shown_ = clock::now();
  cpu_begun_ = cpu_seconds();
  shown_bytes_ = now.received_bytes + now.sent_bytes;
}

std::string progress::line(const session& of) {
  const session_stats& now = of.stats();
  const clock::time_point time = clock::now();
  const std::uint64_t bytes = now.received_bytes + now.sent_bytes;
  const double passed = seconds(time - shown_);
  const double rate = passed > 0 ? static_cast<double>(bytes - shown_bytes_) / mib / passed : 0;
  shown_ = time;
  shown_bytes_ = bytes;
  return fmt::format("{}/{} pieces, {:.1f} MiB in, {:.1f} MiB out, {:.1f} MiB/s, {} peers",
                     of.pieces().have_count(), of.where().pieces(),
                     static_cast<double>(now.received_bytes) / mib,
                     static_cast<double>(now.sent_bytes) / mib, rate, now.peers);
}

std::string progress::last_line(const session& of, const std::string& name, bool fetch) const {
  const session_stats& now = of.stats();
  const std::uint64_t bytes = fetch ? now.received_bytes : now.sent_bytes;
  const double passed = seconds(clock::now() - begun_);
  const double cpu = cpu_seconds() - cpu_begun_;
  std::string text =
      fmt::format("{} {}: {} bytes in {:.3f} s", fetch ? "got" : "sent", name, bytes, passed);
  if (bytes > 0) {
    const double moved = static_cast<double>(bytes) / mib;
    text += fmt::format(", {:.1f} MiB/s, {:.3f} CPU s/GiB", moved / passed, cpu * 1024 / moved);
  }
  if (fetch && now.found_bytes > 0)
    text += fmt::format("; {} bytes were there already", now.found_bytes);
  if (now.rejected_pieces > 0) text += fmt::format("; {} pieces came wrong", now.rejected_pieces);
  return text;
}

}  // namespace bt
