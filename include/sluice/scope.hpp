// The cancellation scope of one top-level task: the ops that are under way for it.
#pragma once

#include <boost/intrusive/link_mode.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set_hook.hpp>
#include <cstdint>

#include "sluice/api.hpp"
#include "sluice/op.hpp"

namespace sluice {

class loop;

// Lives in the frame of the top-level task and dies when that task has ended. Loop thread only.
class SLUICE_API scope {
 public:
  scope() = default;
  scope(const scope&) = delete;
  scope& operator=(const scope&) = delete;
  ~scope();  // aborts when an op is under way: everything must have been drained

  // Asks every op under way to end and lets no new one begin: each ends with ECANCELED, so that the
  // task unwinds by its own error handling. Returns at once; the task ends when its last op has.
  void cancel(loop& on);
  [[nodiscard]] bool cancelled() const { return cancelled_; }

  using op_list =
      boost::intrusive::list<op, boost::intrusive::member_hook<op, op::link_hook, &op::scope_link>,
                             boost::intrusive::constant_time_size<false>>;
  op_list ops;           // from start to completion; kept by the loop
  op::timer_hook by_id;  // in the engine's set of top-level tasks
  std::uint64_t id = 0;

 private:
  bool cancelled_ = false;
};

}  // namespace sluice
