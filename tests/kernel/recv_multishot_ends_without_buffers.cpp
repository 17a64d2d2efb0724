// A multishot receive answers once per provided buffer, in the order in which they were given, and
// ends with ENOBUFS when none is left; what waits in the socket then stays there. A bundle names
// its first buffer and fills those given after it.
#include <algorithm>
#include <string>
#include <vector>

#include "probe.hpp"

namespace {

constexpr unsigned buffer_count = 4;
constexpr unsigned buffer_bytes = 100;
constexpr unsigned short group = 3;
// Newer than liburing 2.3: IORING_RECVSEND_BUNDLE, IORING_FEAT_RECVSEND_BUNDLE.
constexpr std::uint16_t bundle = 1U << 4;
constexpr std::uint32_t knows_bundles = 1U << 14;

struct provided {
  explicit provided(io_uring* of) : entries(4096), memory(4096) {
    io_uring_buf_reg wanted{};
    wanted.ring_addr = reinterpret_cast<std::uintptr_t>(ring());
    wanted.ring_entries = buffer_count;
    wanted.bgid = group;
    const int refused = ::io_uring_register_buf_ring(of, &wanted, 0);
    if (refused == -EINVAL) probe::skip("no provided buffers: before Linux 5.19");
    probe::expect_equal(refused, 0, "io_uring_register_buf_ring");
    ::io_uring_buf_ring_init(ring());
    for (unsigned short i = 0; i < buffer_count; ++i) give(i);
  }
  io_uring_buf_ring* ring() { return reinterpret_cast<io_uring_buf_ring*>(entries.data()); }
  const char* at(unsigned i) { return memory.data() + i * buffer_bytes; }
  void give(unsigned short i) {
    ::io_uring_buf_ring_add(ring(), memory.data() + i * buffer_bytes, buffer_bytes, i,
                            ::io_uring_buf_ring_mask(buffer_count), 0);
    ::io_uring_buf_ring_advance(ring(), 1);
  }
  probe::pages entries;
  probe::pages memory;
};

void arm(probe::ring& ring, int fd, std::uint16_t with = 0) {
  ring.queue(7, [&](io_uring_sqe* sqe) {
    ::io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    sqe->ioprio |= with;
  });
  ring.submit();
}

unsigned buffer_of(const probe::completion& c) { return c.flags >> IORING_CQE_BUFFER_SHIFT; }
bool goes_on(const probe::completion& c) { return (c.flags & IORING_CQE_F_MORE) != 0; }
bool has_buffer(const probe::completion& c) { return (c.flags & IORING_CQE_F_BUFFER) != 0; }

std::string letters(std::size_t bytes) {
  std::string text(bytes, ' ');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>('a' + i % 23);
  return text;
}

void show_the_end() {
  probe::ring ring(8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  provided buffers(ring.get());
  const auto [near, far] = probe::tcp_pair();
  const std::string sent = letters(buffer_count * buffer_bytes + 50);
  probe::send_all(far.get(), sent);
  arm(ring, near.get());
  for (unsigned i = 0; i < buffer_count; ++i) {
    const probe::completion c = ring.wait();
    probe::expect_equal(c.result, buffer_bytes, "an answer");
    probe::expect(has_buffer(c) && buffer_of(c) == i, "buffers come in the order they were given");
    probe::expect(
        std::equal(buffers.at(i), buffers.at(i) + buffer_bytes, sent.data() + i * buffer_bytes),
        "the bytes come in the order of the stream");
    probe::expect(goes_on(c), "more is to follow while there are buffers");
  }
  const probe::completion end = ring.wait();
  probe::expect_equal(end.result, -ENOBUFS, "the answer without a buffer left");
  probe::expect(!goes_on(end) && !has_buffer(end), "it is the last and brings nothing");
  std::vector<char> rest(100);
  probe::expect_equal(::recv(near.get(), rest.data(), rest.size(), MSG_DONTWAIT), 50,
                      "what was left in the socket");
}

void show_bundles() {
  probe::ring ring(8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if ((ring.get()->features & knows_bundles) == 0) return;
  provided buffers(ring.get());
  const auto [near, far] = probe::tcp_pair();
  arm(ring, near.get(), bundle);
  probe::send_all(far.get(), letters(20));
  probe::completion c = ring.wait();
  probe::expect(c.result == 20 && buffer_of(c) == 0, "a short one uses one buffer up");
  buffers.give(0);
  // How many it fills at a time is the kernel's choice, but it says no more than the first of them.
  const std::string sent = letters(250);
  probe::send_all(far.get(), sent);
  unsigned next = 1;
  int most = 0;
  for (int got = 0; got < 250; got += c.result) {
    c = ring.wait();
    probe::expect(c.result > 0 && buffer_of(c) == next, "it names the one behind the last used");
    probe::expect(std::equal(buffers.at(next), buffers.at(next) + c.result, sent.data() + got),
                  "they are those given one after the other");
    next += (static_cast<unsigned>(c.result) + buffer_bytes - 1) / buffer_bytes;
    most = std::max(most, c.result);
  }
  probe::expect(most > static_cast<int>(buffer_bytes), "one answer for several buffers");
}

void show_a_cancel() {
  probe::ring ring(8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  provided buffers(ring.get());
  const auto [near, far] = probe::tcp_pair();
  arm(ring, near.get());
  probe::send_all(far.get(), "x");
  probe::expect_equal(ring.wait().result, 1, "an answer");
  ring.queue(9, [](io_uring_sqe* sqe) { ::io_uring_prep_cancel64(sqe, 7, 0); });
  ring.submit();
  for (int i = 0; i < 2; ++i) {
    const probe::completion c = ring.wait();
    if (c.user_data != 7) continue;
    probe::expect_equal(c.result, -ECANCELED, "the end of a cancelled one");
    probe::expect(!goes_on(c), "nothing follows it");
  }
}

void show() {
  show_the_end();
  show_bundles();
  show_a_cancel();
}

}  // namespace

int main() { return probe::run(show); }
