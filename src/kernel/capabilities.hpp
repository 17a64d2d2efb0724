// The capability table: what was found by trying, each with the reason when it is absent. Never by
// kernel version.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::kernel {

struct capability_row {
  std::string name;
  bool present;
  std::string reason;  // empty when present
};

// Filled while an engine starts, read-only afterwards.
class capability_table {
 public:
  // `hidden` is a comma-separated list of names to report as absent: the tests' mask.
  explicit capability_table(std::string_view hidden = {});

  // Notes what trying showed and returns it, the mask applied.
  bool add(std::string_view name, bool present, std::string_view reason = {});
  [[nodiscard]] bool hidden(std::string_view name) const;
  [[nodiscard]] bool present(std::string_view name) const;  // false for a name never added
  [[nodiscard]] const std::vector<capability_row>& rows() const { return rows_; }

 private:
  std::vector<std::string> hidden_;
  std::vector<capability_row> rows_;
};

// Why io_uring_setup(2) refused, for a person: "EPERM: kernel.io_uring_disabled=2".
[[nodiscard]] std::string ring_refusal_reason(int refusal);

// Whether openat2(2) is there: 0, or the errno of a harmless call (ENOSYS before 5.6, EPERM under a
// filter).
[[nodiscard]] int try_openat2();
// Whether /proc/self/fd can name our descriptors (linkat of an unnamed file needs it): 0 or an
// errno.
[[nodiscard]] int try_proc_self_fd();

}  // namespace sluice::kernel
