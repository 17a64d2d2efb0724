#include "transfer/armed_receive.hpp"

#include <cerrno>
#include <utility>

namespace sluice {

armed_receive::owner armed_receive::make(engine_core& on) { return owner(new armed_receive(on)); }

armed_receive::armed_receive(engine_core& on)
    : core_(on), buffers_(*on.provided()), news_(on.loop()) {
  receive_.context = this;
  receive_.received = [](op& o, std::uint32_t bytes, std::uint16_t first_buffer) noexcept {
    static_cast<armed_receive*>(o.context)->take_note(bytes, first_buffer);
  };
  receive_.complete = [](op& o) noexcept { static_cast<armed_receive*>(o.context)->take_end(); };
}

std::span<std::byte> armed_receive::next() {
  if (std::exchange(reading_, false)) buffers_.give_back_front(came_);
  if (came_.empty()) return {};
  reading_ = true;
  return buffers_.front(came_);
}

std::optional<result<std::size_t>> armed_receive::ended() {
  if (!has_ended_ || !came_.empty()) return std::nullopt;
  has_ended_ = false;
  const std::int64_t outcome = receive_.outcome();
  if (outcome >= 0) return static_cast<std::size_t>(outcome);
  return fail(static_cast<int>(-outcome), "recv", "multishot");
}

int armed_receive::arm(int fd) {
  if (has_ended_ || receive_.state() != op_state::idle) return 0;
  if (!joined_) {
    const int refusal = buffers_.join();
    if (refusal != 0) return refusal;
    joined_ = true;
  }
  receive_.request.kind = op_kind::recv_multishot;
  receive_.request.fd = fd;
  receive_.request.buffer_index = provided_buffers::group;
  receive_.request.bundle = core_.tried().receive_bundles;
  core_.loop().start(receive_, nullptr);
  return 0;
}

// Asks no more of a stream whose user is busy with other things and has a share of the buffers to
// look at already: the others need some, too.
void armed_receive::take_note(std::uint32_t bytes, std::uint16_t first_buffer) {
  buffers_.append(came_, first_buffer, bytes);
  if (dropped_) {
    buffers_.give_back(came_);
    return;
  }
  if (!hungry_ && came_.count() >= buffers_.fair_share()) {
    core_.loop().cancel(receive_, ECANCELED);
  }
  news_.notify();
}

void armed_receive::take_end() {
  has_ended_ = true;
  if (dropped_) {
    buffers_.leave_now();
    delete this;
    return;
  }
  news_.notify();
}

void armed_receive::drop() {
  dropped_ = true;
  buffers_.give_back(came_);
  if (receive_.state() != op_state::idle) {
    buffers_.leave_soon();
    core_.loop().cancel(receive_, ECANCELED);
    return;
  }
  if (joined_) buffers_.leave();
  delete this;
}

}  // namespace sluice
