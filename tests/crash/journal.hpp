// What the workload promised, and when: one line per event, on a filesystem that does not crash.
//
//   start POSITION
//   begin POSITION NAME VERSION BYTES      may be found from now on; BYTES -1: a removal
//   acknowledged POSITION NAME VERSION     must be found from now on
//   end POSITION
//
// POSITION is the size of the block log: every write and flush below it had happened. NAME is the
// path of a file, or FILE@OFFSET/nN: range number N, at that offset of that file (ranges.hpp).
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace crash {

// Any thread.
class journal {
 public:
  journal(const std::string& path, const std::string& block_log)
      : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600)),
        log_(::open(block_log.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (file_ < 0) throw std::runtime_error("cannot write " + path);
    if (log_ < 0) throw std::runtime_error("cannot read " + block_log);
  }
  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;
  ~journal() {
    ::close(file_);
    ::close(log_);
  }

  void start() { put("start", ""); }
  void begin(const std::string& name, std::uint32_t version, std::int64_t bytes) {
    put("begin", " " + name + " " + std::to_string(version) + " " + std::to_string(bytes));
  }
  void acknowledged(const std::string& name, std::uint32_t version) {
    put("acknowledged", " " + name + " " + std::to_string(version));
  }
  void end() { put("end", ""); }

 private:
  void put(const char* event, const std::string& rest) {
    struct stat log{};
    if (::fstat(log_, &log) != 0) throw std::runtime_error("fstat of the block log");
    const std::string line = std::string(event) + " " + std::to_string(log.st_size) + rest + "\n";
    if (::write(file_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      throw std::runtime_error("write to the journal");
    }
  }
  int file_;
  int log_;
};

}  // namespace crash
