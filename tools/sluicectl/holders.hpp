// Where knobs are read and set: in the configuration of an engine to be, or in a live process.
#pragma once

#include <deque>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "control_client.hpp"
#include "sluice/knobs.hpp"

namespace sluicectl {

class knob_holder {
 public:
  virtual ~knob_holder() = default;
  virtual std::vector<sluice::knob_info> list() = 0;
  // The value as it then holds, or why it was refused.
  virtual std::expected<std::string, std::string> set(const std::string& name,
                                                      const std::string& value) = 0;
  [[nodiscard]] bool knows(std::string_view name);
};

// The knobs of an engine that is not started yet.
class future_knobs : public knob_holder {
 public:
  explicit future_knobs(sluice::knobs& held) : held_(held) {}
  std::vector<sluice::knob_info> list() override { return held_.list(); }
  std::expected<std::string, std::string> set(const std::string& name,
                                              const std::string& value) override;

 private:
  sluice::knobs& held_;
};

// The knobs of a live process. Throws std::runtime_error when the connection breaks.
class live_knobs : public knob_holder {
 public:
  explicit live_knobs(control_client& process) : process_(process) {}
  // Ranges and help are of this program's own table; a knob that only the process has is a text.
  std::vector<sluice::knob_info> list() override;
  std::expected<std::string, std::string> set(const std::string& name,
                                              const std::string& value) override;

 private:
  std::string_view keep(std::string_view name);

  control_client& process_;
  std::deque<std::string> names_;  // of knobs that our table does not have
};

}  // namespace sluicectl
