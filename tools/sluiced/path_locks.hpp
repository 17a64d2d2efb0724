// One change at a time of what a path names, over all engines of the process: what the conditions
// of a request were compared with is then what it replaces or removes.
#pragma once

#include <boost/intrusive/list.hpp>
#include <coroutine>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "sluice/engine.hpp"

namespace sluiced {

// Any thread. Must outlive every hold and every waiting task.
class path_locks {
 public:
  // Nobody else holds the path while this lives. Move-only.
  class hold {
   public:
    hold(path_locks& from, std::string path) : from_(&from), path_(std::move(path)) {}
    hold(hold&& other) noexcept
        : from_(std::exchange(other.from_, nullptr)), path_(std::move(other.path_)) {}
    hold& operator=(hold&&) = delete;
    ~hold() {
      if (from_ != nullptr) from_->release(path_);
    }

   private:
    path_locks* from_;
    std::string path_;
  };

  // Named and awaited once, by a task of `home` and on its thread; yields the hold. First come,
  // first served. No deadline, and a cancelled task waits too: who holds the path names and removes
  // files and syncs small ones and directories, and lets go when that has ended.
  class [[nodiscard]] turn : public boost::intrusive::list_base_hook<> {
   public:
    turn(path_locks& of, sluice::engine& home, std::string path)
        : of_(of), home_(home), path_(std::move(path)) {}
    turn(const turn&) = delete;
    turn& operator=(const turn&) = delete;
    ~turn() = default;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiting) {
      frame_ = waiting;
      return !of_.take_or_queue(*this);
    }
    [[nodiscard]] hold await_resume() { return {of_, std::move(path_)}; }

   private:
    friend class path_locks;
    path_locks& of_;
    sluice::engine& home_;
    std::string path_;
    std::coroutine_handle<> frame_;
  };

  // The hold when nobody has the path, nothing otherwise; does not wait.
  [[nodiscard]] std::optional<hold> try_hold(std::string path);

 private:
  using queue = boost::intrusive::list<turn>;

  bool take_or_queue(turn& wanted);  // false: it waits in the queue of its path
  void release(const std::string& path);

  std::mutex guard_;
  std::map<std::string, queue> held_;  // and who waits for it, in turn
};

}  // namespace sluiced
