#include "core/closer.hpp"

#include <utility>

#include "backend/loop.hpp"
#include "ops/table.hpp"

namespace sluice {

void closer::close_later(dropped_file dropped) {
  if (spare_.empty()) spare_.emplace_back();
  pending_.splice(pending_.begin(), spare_, spare_.begin());
  job& j = pending_.front();
  j.self = pending_.begin();
  j.owner = this;
  j.left = std::move(dropped);
  j.step.complete = next;
  j.step.context = &j;
  begin_next(j);
}

void closer::next(op& o) noexcept {
  job& j = *static_cast<job*>(o.context);
  // A name that cannot be removed, or an error of close on a file that nobody keeps, leaves nothing
  // to be done.
  if (o.request.kind == op_kind::unlinkat) {
    // Here, though it may wait for a disk: nobody else would ever remove it.
    if (o.outcome() == -code::no_thread) row_of(op_kind::unlinkat).perform(o.request);
    j.left.temporary_name.clear();
  }
  j.owner->begin_next(j);
}

void closer::begin_next(job& j) {
  op_request request;
  if (!j.left.temporary_name.empty()) {
    request.kind = op_kind::unlinkat;
    request.fd = j.left.directory.get();
    request.path = j.left.temporary_name.c_str();
  } else if (j.left.fd || j.left.directory) {
    request.kind = op_kind::close;
    request.fd = j.left.fd ? j.left.fd.release() : j.left.directory.release();
  } else {
    spare_.splice(spare_.begin(), pending_, j.self);
    return;
  }
  j.step.request = request;
  loop_.start(j.step, nullptr);
}

}  // namespace sluice
