// Speaks to a control socket (sluice/control.hpp), blocking: the client's end of a tool.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sluice/knobs.hpp"

namespace sluicectl {

class control_client {
 public:
  // Throws std::runtime_error with one clear sentence when nobody answers there.
  explicit control_client(std::string path);
  control_client(const control_client&) = delete;
  control_client& operator=(const control_client&) = delete;
  ~control_client();

  // The lines of the answer, or why the process refused. Throws when the connection breaks.
  std::expected<std::vector<std::string>, std::string> ask(std::string_view request);
  // As ask, for what a process refuses only when it does not offer it; throws then.
  std::vector<std::string> need(std::string_view request);

 private:
  void send(std::string_view text);
  std::string receive_line();
  [[noreturn]] void give_up(std::string_view what) const;

  const std::string path_;
  int fd_ = -1;
  std::string received_;
};

// "a = b" as its two sides.
[[nodiscard]] std::pair<std::string_view, std::string_view> split_line(std::string_view line);

}  // namespace sluicectl
