// Which pieces are on the disk when the program starts: several workers hash what lies there.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "sha1.hpp"
#include "sluice/engine.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"
#include "store.hpp"

namespace bt {

// Loop thread only. All it refers to must outlive it, and it must live until it has ended.
class disk_survey {
 public:
  enum class purpose : std::uint8_t {
    resume,  // the disk itself is asked, and what was never written is passed over
    seed,    // what the page cache has is as good
  };
  using found = std::move_only_function<void(std::uint32_t piece)>;
  using ended = std::move_only_function<void(const sluice::result<void>&)>;

  disk_survey(sluice::engine& on, const store& of, std::span<const sha1_digest> expected,
              purpose why)
      : engine_(on), store_(of), expected_(expected), purpose_(why) {}

  // `tell` gets each piece that is right, in no order; then `end` the first error, or none.
  void start(found tell, ended end);
  // It ends soon, and the rest of the pieces is not looked at.
  void stop() { next_ = store_.where().pieces(); }

 private:
  struct job;

  sluice::task<void> run();
  sluice::task<void> look();
  void note(const sluice::result<std::size_t>& done);

  sluice::engine& engine_;
  const store& store_;
  std::span<const sha1_digest> expected_;
  const purpose purpose_;
  found tell_;
  ended end_;
  std::uint32_t next_ = 0;  // piece
  unsigned running_ = 0;
  sluice::result<void> outcome_;
};

}  // namespace bt
