// The modes of receiving frames that a backend has.
#pragma once

#include <string_view>
#include <vector>

#include "sluice/frames.hpp"

namespace support {

inline std::vector<sluice::frame_mode> frame_modes(std::string_view backend) {
  using enum sluice::frame_mode;
  std::vector<sluice::frame_mode> all{scatter, contiguous, two_step, automatic};
  if (backend == "ring") all.push_back(multishot);
  return all;
}

}  // namespace support
