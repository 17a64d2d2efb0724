// One copy of a range of a file into another, while it is under way. Its steps are told in
// copying.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "kernel/clock.hpp"
#include "kernel/file_extents.hpp"
#include "sluice/file_copy.hpp"
#include "sluice/op.hpp"
#include "storage/file_state.hpp"
#include "storage/page_dropper.hpp"
#include "transfer/planner.hpp"

namespace sluice {

// What keeps a copy from going one way: what the receipt says where path auto goes another, and why
// a forced one is refused.
struct copy_obstacle {
  const char* avoided;
  const char* refused;
};

// Loop thread only. Both files and the receipt must outlive it.
class copying {
 public:
  copying(file_state& from, file_state& into, const copy_options& options, receipt& so_far)
      : from_(from), into_(into), options_(options), so_far_(so_far) {}

  void begin(const plan& chosen);
  // Told from now on how far the pages of each are used up. Both must outlive the flow.
  void drop_behind(page_dropper& source_pages, page_dropper& target_pages) {
    source_pages_ = &source_pages;
    target_pages_ = &target_pages;
  }
  task<int> flow();  // 0, or why it ended
  // Why the forced way could not copy these two, when that is why it ended; or null.
  [[nodiscard]] const char* refusal() const { return refusal_; }
  // Whether any page of the two was used: shared blocks need none.
  [[nodiscard]] bool has_used_pages() const { return uses_pages_; }
  [[nodiscard]] std::chrono::nanoseconds elapsed() const {
    return std::chrono::steady_clock::now() - so_far_.begun;
  }

 private:
  enum class step : std::uint8_t {
    sharing,
    appending,
    finding,
    punching,
    ranging,
    leasing,
    reading,
    writing,
    growing,
    ended
  };

  void take_path(path way, const char* reason);
  void go_on();
  void fall_back(const copy_obstacle& met);
  void share_next();
  void find_next();
  void treat_piece();
  [[nodiscard]] std::optional<std::uint64_t> size_of(const file_state& file);
  [[nodiscard]] op_request request();
  [[nodiscard]] op_request transfer_request(op_kind kind, file_state& file, std::uint64_t offset,
                                            std::uint64_t length);
  void answered(const result<std::size_t>& got, std::uint64_t moved);
  void failed(int failure);
  void leased(result<lease> got);
  void was_shared();
  void was_appended();
  void was_found();
  void was_punched();
  void was_ranged(std::uint64_t bytes);
  void was_read(std::uint64_t bytes);
  void was_written(std::uint64_t bytes);
  void count_moved(std::uint64_t bytes);
  void end(int failure) {
    step_ = step::ended;
    failure_ = failure;
  }
  [[nodiscard]] std::uint64_t source() const { return options_.source_offset + so_far_.bytes; }
  [[nodiscard]] std::uint64_t target() const { return options_.target_offset + so_far_.bytes; }
  [[nodiscard]] std::uint64_t left() const { return options_.length - so_far_.bytes; }
  [[nodiscard]] const tuning::copy_knobs& knobs() const { return into_.core.values().copy; }
  [[nodiscard]] tuning::copy_counters& counters() { return into_.core.counters().copy; }

  file_state& from_;
  file_state& into_;
  const copy_options options_;
  receipt& so_far_;
  const bool is_forced_ =
      knobs().path != tuning::file_copy_choice::automatic || options_.cache == cache_policy::direct;
  step step_ = step::ended;
  int failure_ = 0;
  const char* refusal_ = nullptr;
  path way_ = path::copy;        // of what comes next; the receipt's is that of the bulk
  std::uint64_t moved_ = 0;      // bytes that are no holes
  kernel::shared_range shared_;  // sharing
  kernel::appended_range appended_;
  kernel::file_piece piece_;     // what the source has at the cursor, from finding on
  std::uint64_t piece_end_ = 0;  // in the source, or the end of the range
  std::uint64_t punch_bytes_ = 0;
  bool fills_holes_ = false;      // the target's filesystem cannot punch
  bool cannot_allocate_ = false;  // nor take space
  lease block_;
  std::uint64_t in_block_ = 0;  // read, and to be written
  bool uses_pages_ = false;
  page_dropper* source_pages_ = nullptr;
  page_dropper* target_pages_ = nullptr;
};

}  // namespace sluice
