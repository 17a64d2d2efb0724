// 5 GiB by every path, every byte looked at: what is counted in 32 bits somewhere slips there. And
// every size up to three pages.
#include <cstdio>

#include "conformance/every_size.hpp"

namespace {

using namespace every_path;

// Not whole pages.
constexpr content big{.seed = 81, .length = (std::uint64_t{5} << 30) + 321};

// A file and its copy, for two of these tests at a time.
bool has_space() {
  const std::uintmax_t free = std::filesystem::space(std::filesystem::current_path()).available;
  if (free > 5 * big.length) return true;
  std::printf("skip: 5 GiB by every path need 25 GiB on the filesystem of the build\n");
  return false;
}

// With the source made once for all worlds, where the moves need one.
void move_all(move kind) {
  if (!has_space()) return;
  const std::unique_ptr<support::temp_dir> shared =
      temp_dir_in(std::filesystem::current_path().string());
  const bool from_file = kind == move::send || kind == move::copy;
  if (from_file) make_source(shared->at("source"), big);
  // A thread that splices is told the same, whoever it belongs to.
  const auto wanted = [kind](const route& by) {
    return by.kind == kind && is_path(by) && !by.name.ends_with("via pool");
  };
  for_each(on_disk(), {}, wanted, [&](world& w, const route& by) {
    if (from_file) std::filesystem::create_hard_link(shared->at("source"), w.at("source"));
    const auto begun = std::chrono::steady_clock::now();
    transfer t(w, by, big, transfer::tcp());
    t.finish(1200s);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    t.check_whole();
    CHECK(std::string_view(name(t.outcome().progress.path)) == by.path);
    std::printf("%s, %s: %.1f s\n", w.engine().backend_name().data(), by.name.c_str(),
                took.count());
    std::fflush(stdout);
  });
}

}  // namespace

TEST_CASE("5 GiB are received whole by every path") { move_all(move::receive); }
TEST_CASE("5 GiB are sent whole by every path") { move_all(move::send); }
TEST_CASE("5 GiB are relayed whole by every path") { move_all(move::relay); }
TEST_CASE("5 GiB are copied whole by every path") { move_all(move::copy); }

TEST_CASE("every size up to three pages and a byte comes out right by every path") {
  pieces p{.seed = 82, .lengths = {}};
  for (std::uint64_t length = 0; length <= 12'289; ++length) p.lengths.push_back(length);
  move_each(on_disk(), p, is_path);
}
