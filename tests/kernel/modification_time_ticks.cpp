// Changes more than a tick apart have different modification times, and every kind of change has
// one: also the same bytes written once more, and a cut that is grown over. How finely two changes
// in one tick are told apart depends on kernel and filesystem.
#include <sys/stat.h>

#include <array>
#include <ctime>

#include "probe.hpp"

namespace {

std::int64_t modified_ns(int file) {
  struct stat info{};
  probe::must(::fstat(file, &info), "fstat");
  return std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

void wait_for_a_tick() {
  timespec tick{};
  probe::must(::clock_getres(CLOCK_REALTIME_COARSE, &tick), "clock_getres");
  const timespec two{0, 2 * tick.tv_nsec};
  probe::must(::nanosleep(&two, nullptr), "nanosleep");
}

template <class Change>
void expect_another_time(int file, Change change, const char* what) {
  wait_for_a_tick();
  const std::int64_t before = modified_ns(file);
  change();
  probe::expect(modified_ns(file) > before, what);
}

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const auto write_one = [&] {
    probe::expect_equal(probe::result_of(::pwrite(file.get(), "a", 1, 0)), 1, "pwrite");
  };
  write_one();
  expect_another_time(file.get(), write_one, "the same byte written again has another time");
  expect_another_time(
      file.get(),
      [&] {
        probe::must(::ftruncate(file.get(), 0), "ftruncate");
        probe::must(::ftruncate(file.get(), 1), "ftruncate");
      },
      "a file cut and grown again has another time");
  wait_for_a_tick();
  const std::int64_t before = modified_ns(file.get());
  wait_for_a_tick();
  probe::expect_equal(modified_ns(file.get()), before, "the time of a file that nobody changes");
}

}  // namespace

int main() { return probe::run(show); }
