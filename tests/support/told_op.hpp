// An op that keeps what it was told, for tests that speak to a loop directly.
#pragma once

#include <cstdint>
#include <functional>

#include "sluice/op.hpp"

namespace support {

class told_op : public sluice::op {
 public:
  told_op() { set_up(); }
  explicit told_op(const sluice::op_request& wanted) : op(wanted) { set_up(); }

  int times_told = 0;
  std::int64_t told = 0;       // the last result
  std::function<void()> then;  // run in the completion, after the above

 private:
  void set_up() {
    context = this;
    complete = [](sluice::op& o) noexcept {
      auto& self = *static_cast<told_op*>(o.context);
      ++self.times_told;
      self.told = o.outcome();
      if (self.then) self.then();
    };
  }
};

inline sluice::op_request request_of(sluice::op_kind kind, int fd = -1) {
  sluice::op_request r;
  r.kind = kind;
  r.fd = fd;
  return r;
}

inline sluice::op_request request_of(sluice::op_kind kind, int fd, void* data, std::uint64_t length,
                                     std::uint64_t offset = 0, std::uint32_t flags = 0) {
  sluice::op_request r = request_of(kind, fd);
  r.data = data;
  r.length = length;
  r.offset = offset;
  r.flags = flags;
  return r;
}

}  // namespace support
