#include "sluice/result.hpp"

#include <cstring>

namespace sluice {

const char* code_name(int error_code) {
  switch (error_code) {
    case code::durability_unknown: return "durability_unknown";
    case code::end_of_stream: return "end_of_stream";
    case code::path_unavailable: return "path_unavailable";
    case code::too_slow: return "too_slow";
    case code::shutting_down: return "shutting_down";
    case code::out_of_range: return "out_of_range";
    case code::unknown_name: return "unknown_name";
    case code::start_only: return "start_only";
    case code::no_thread: return "no_thread";
    case code::filesystem_suspect: return "filesystem_suspect";
    case code::engine_failed: return "engine_failed";
    case code::bad_frame: return "bad_frame";
    case code::refused_by_check: return "refused_by_check";
    case code::file_changed: return "file_changed";
    default: break;
  }
  const char* name = strerrorname_np(error_code);
  return name != nullptr ? name : "unknown error";
}

static const char* code_text(int error_code) {
  switch (error_code) {
    case code::durability_unknown: return "a sync failed, what the disk holds is unknown";
    case code::end_of_stream: return "the peer closed before the promised length";
    case code::path_unavailable: return "the forced path cannot carry this transfer";
    case code::too_slow: return "the peer stayed below the minimum rate";
    case code::shutting_down: return "the engine takes no new work";
    case code::out_of_range: return "value out of range, left unchanged";
    case code::unknown_name: return "no such name";
    case code::start_only: return "can only be set at start";
    case code::no_thread: return "no worker thread can be made, nothing was begun";
    case code::filesystem_suspect:
      return "an earlier sync failed on this filesystem: nothing is published there until cleared";
    case code::engine_failed: return "an earlier sync failed: the engine commits nothing any more";
    case code::bad_frame: return "the peer broke the framing of its protocol";
    case code::refused_by_check: return "the check of the body refused it";
    case code::file_changed: return "a file said to be unchanging was changed while it was sent";
    default: break;
  }
  const char* text = strerrordesc_np(error_code);
  return text != nullptr ? text : "unknown error";
}

std::string describe(const error& e) {
  std::string text;
  if (*e.op != '\0') text.append(e.op).append(": ");
  text.append(code_text(e.code)).append(" (").append(code_name(e.code)).append(")");
  if (*e.where != '\0') text.append(" in ").append(e.where);
  return text;
}

}  // namespace sluice
