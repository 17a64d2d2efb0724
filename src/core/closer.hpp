// Closes descriptors, and removes temporary names, behind the back of whoever dropped them: freeing
// a large unnamed file may take the filesystem long, and a destructor cannot wait.
#pragma once

#include <list>
#include <string>

#include "kernel/fd.hpp"
#include "sluice/op.hpp"

namespace sluice {

class loop;

// What is left of a dropped file.
struct dropped_file {
  kernel::unique_fd fd;
  kernel::unique_fd directory;  // of the temporary name
  std::string temporary_name;   // removed before the close; empty: none
};

// Loop thread only. Runs outside any scope: a cancel does not reach it.
class closer {
 public:
  explicit closer(loop& on) : loop_(on) {}
  closer(const closer&) = delete;
  closer& operator=(const closer&) = delete;

  void close_later(dropped_file dropped);
  [[nodiscard]] std::size_t pending() const { return pending_.size(); }

 private:
  struct job {
    op step;
    dropped_file left;
    closer* owner = nullptr;
    std::list<job>::iterator self;
  };
  static void next(op& o) noexcept;
  void begin_next(job& j);

  loop& loop_;
  std::list<job> pending_;
  std::list<job> spare_;  // kept, so that a steady stream of files allocates nothing
};

}  // namespace sluice
