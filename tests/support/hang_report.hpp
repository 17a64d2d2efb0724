// What a test that hangs leaves behind: where it stands, and what its threads and children wait for
// in the kernel. A hang that comes once in a thousand runs is not seen again with a debugger.
#pragma once

#include <execinfo.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

namespace support {

inline std::string first_line(const std::filesystem::path& of) {
  std::string line;
  std::ifstream file(of);
  std::getline(file, line);
  return line;
}

// stack and wchan need the superuser.
inline void report_process(const std::filesystem::path& process) {
  for (const auto& entry : std::filesystem::directory_iterator(process / "task")) {
    const std::filesystem::path& thread = entry.path();
    std::cout << process.filename().string() << '/' << thread.filename().string() << ' '
              << first_line(thread / "comm") << " waits in " << first_line(thread / "wchan")
              << ", system call " << first_line(thread / "syscall") << '\n';
    std::ifstream stack(thread / "stack");
    std::string line;
    while (std::getline(stack, line)) std::cout << "    " << line << '\n';
    std::string child;
    std::ifstream children(thread / "children");
    while (children >> child) report_process(std::filesystem::path("/proc") / child);
  }
}

// Not one of its calls may be made in a signal handler of a program that goes on. This one is stuck
// already and dies of the signal; at worst the report is cut short by the next alarm.
inline void report_hang(int signal) noexcept {
  ::alarm(5);
  try {
    std::cout << "hangs; addr2line says where:" << std::endl;
    std::array<void*, 64> frames;
    ::backtrace_symbols_fd(frames.data(), ::backtrace(frames.data(), frames.size()), 1);
    report_process(std::filesystem::path("/proc") / std::to_string(::getpid()));
    std::cout.flush();
  } catch (...) {  // what could be said was said
  }
  ::raise(signal);
}

// The test dies of SIGALRM `seconds` from now, with a report.
inline void hang_after(unsigned seconds) {
  struct sigaction action{};
  action.sa_handler = report_hang;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);  // the second one ends it
  ::sigaction(SIGALRM, &action, nullptr);
  ::alarm(seconds);
}

}  // namespace support
