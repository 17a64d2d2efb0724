// A task that waits for something that a pool lends, and keeps it until it is dropped here.
#pragma once

#include <utility>

#include "backend/loop.hpp"
#include "sluice/scope.hpp"
#include "sluice/task.hpp"

namespace support {

template <class Lease>
class taker {
 public:
  taker(sluice::loop& on, sluice::task<sluice::result<Lease>> taking) : on_(on) {
    sluice::detail::root_task root =
        sluice::detail::carry(std::move(taking), [this](sluice::result<Lease> got) {
          ended = true;
          if (got) {
            held = std::move(*got);
          } else {
            error = got.error().code;
          }
        });
    scope_ = &root.handle.promise().task_scope_;
    root.handle.resume();
  }
  void cancel() {
    if (!ended) scope_->cancel(on_);
  }

  bool ended = false;
  Lease held;
  int error = 0;

 private:
  sluice::loop& on_;
  sluice::scope* scope_;
};

}  // namespace support
