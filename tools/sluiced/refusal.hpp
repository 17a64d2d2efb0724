// Why a request is not carried out: the status and the sentence that the peer is told.
#pragma once

#include <expected>
#include <string>
#include <utility>

namespace sluiced {

struct refusal {
  int status = 400;  // RFC 9110 section 15
  std::string text;  // what happened and what to do; one line, no line end
};

[[nodiscard]] inline std::unexpected<refusal> refuse(int status, std::string text) {
  return std::unexpected(refusal{status, std::move(text)});
}

}  // namespace sluiced
