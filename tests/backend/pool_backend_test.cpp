#include "backend/pool_backend.hpp"

#include "backend/suite.hpp"

namespace suite {

std::unique_ptr<backend> make_backend(const settings& wanted, tuning::counters& counters) {
  tuning::pool_knobs knobs;
  knobs.threads = wanted.threads;
  result<std::unique_ptr<pool_backend>> made = pool_backend::make(knobs, counters);
  REQUIRE(made.has_value());
  return std::move(*made);
}

TEST_CASE("the pool wants its sockets non-blocking") {
  bench b;
  CHECK(b.carrier().name() == "pool");
  CHECK(b.carrier().socket_mode() == kernel::socket_mode::non_blocking);
}

TEST_CASE("a fixed write of the pool needs no registered buffer") {
  bench b;
  const temp_dir dir;
  const kernel::unique_fd file(dir.open("file"));
  std::vector<std::byte> bytes = pattern(30, 0, 4096);
  op_request r = request_of(op_kind::write_fixed, file.get(), bytes.data(), 4096, 0);
  r.buffer_index = 9;
  CHECK(b.run(r) == 4096);
  std::vector<std::byte> back(4096);
  r = request_of(op_kind::read_fixed, file.get(), back.data(), 4096, 0);
  r.buffer_index = 9;
  CHECK(b.run(r) == 4096);
  CHECK(back == bytes);
  std::array<iovec, 2> parts{iovec{bytes.data() + 1000, 3096}, iovec{bytes.data(), 1000}};
  r = request_of(op_kind::writev_fixed, file.get(), parts.data(), 2, 0);
  r.buffer_index = 9;
  CHECK(b.run(r) == 4096);
  CHECK(b.run(request_of(op_kind::read, file.get(), back.data(), 4096, 0)) == 4096);
  CHECK(support::is_pattern(std::span(back).first(3096), 30, 1000));
  CHECK(support::is_pattern(std::span(back).subspan(3096), 30, 0));
}

}  // namespace suite
