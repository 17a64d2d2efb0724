// A copy between files as it is asked for: what is refused, and who has the files meanwhile.
#include "transfer/copy_ways.hpp"

namespace {

using namespace copy_ways;
namespace code = sluice::code;

constexpr std::uint64_t mib = 1 << 20;

sluice::task<int> copy_between(sluice::file& from, sluice::file& into,
                               sluice::copy_options options) {
  const sluice::result<sluice::receipt> r = co_await sluice::copy_file(from, into, options);
  co_return r ? 0 : r.error().code;
}

}  // namespace

TEST_CASE("a copy of nothing leaves the target alone, wherever it is to go") {
  for_each({}, [](world& w, const std::string&) {
    make_file(w.at("source"), pattern(2, 0, 5000));
    make_file(w.at("target"), pattern(3, 0, 100));
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{100}, 5 * mib}) {
      const copied c = copy_range(w, range(0, 10, offset));
      CHECK(c.failure() == 0);
      CHECK(c.progress.bytes == 0);
      CHECK(same_bytes(content_of(w.at("target")), pattern(3, 0, 100)));
    }
  });
}

TEST_CASE("within one file ranges that do not meet are copied, and others refused") {
  for_each({}, [](world& w, const std::string&) {
    const std::vector<std::byte> content = pattern(5, 0, 100'000);
    make_file(w.at("source"), content);
    sluice::file one = adopt_file(w.engine(), w.at("source"), O_RDWR);
    sluice::file again = adopt_file(w.engine(), w.at("source"), O_RDWR);
    CHECK(w.run(copy_between(one, one, range(50'000, 0, 50'000))) == 0);
    CHECK(w.run(copy_between(one, again, range(50'000, 0, 100'000))) == 0);
    const std::vector<std::byte> now = content_of(w.at("source"));
    REQUIRE(now.size() == 150'000);
    for (const std::size_t at : {0U, 50'000U, 100'000U}) {
      CHECK(same_bytes(std::span(now).subspan(at, 50'000), std::span(content).first(50'000)));
    }
    for (sluice::file* into : {&one, &again}) {
      CHECK(w.run(copy_between(one, *into, range(50'000, 0, 49'999))) == EINVAL);
      CHECK(w.run(copy_between(one, *into, range(50'000, 10, 10))) == EINVAL);
      CHECK(w.run(copy_between(one, *into, range(50'000, 50'000, 1))) == EINVAL);
    }
  });
}

TEST_CASE("ranges past 2^63, closed files and a target that is only for reading are refused") {
  for_each({}, [](world& w, const std::string&) {
    make_file(w.at("source"), pattern(6, 0, 10));
    make_file(w.at("target"), pattern(7, 0, 10));
    sluice::file from = adopt_file(w.engine(), w.at("source"), O_RDONLY);
    sluice::file into = adopt_file(w.engine(), w.at("target"), O_RDWR);
    sluice::file unwritable = adopt_file(w.engine(), w.at("target"), O_RDONLY);
    sluice::file closed;
    constexpr std::uint64_t last = ~std::uint64_t{0} / 2;
    CHECK(w.run(copy_between(from, into, range(10, last - 5))) == EINVAL);
    CHECK(w.run(copy_between(from, into, range(10, 0, last - 5))) == EINVAL);
    CHECK(w.run(copy_between(from, into, range(~std::uint64_t{0}))) == EINVAL);
    CHECK(w.run(copy_between(from, unwritable, range(10))) == EBADF);
    CHECK(w.run(copy_between(closed, into, range(10))) == EBADF);
    CHECK(w.run(copy_between(from, closed, range(10))) == EBADF);
    CHECK(same_bytes(content_of(w.at("target")), pattern(7, 0, 10)));
  });
}

TEST_CASE("a FIFO, a device and a file that only grows are no files to copy") {
  for (const std::string& backend : support::backends()) {
    world w({backend, backend, std::filesystem::current_path().string(), false, ""});
    REQUIRE(::mkfifo(w.at("fifo").c_str(), 0600) == 0);
    make_file(w.at("log"), pattern(8, 0, 10));
    for (const auto& [path, flags] :
         {std::pair{w.at("fifo"), O_RDWR}, std::pair{std::string("/dev/zero"), O_RDONLY},
          std::pair{w.at("log"), O_WRONLY | O_APPEND}}) {
      CAPTURE(path);
      const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK);
      REQUIRE(fd >= 0);
      const sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
      CHECK((!made && made.error().code == EINVAL));
      ::close(fd);
    }
  }
}

TEST_CASE("descriptors that came with O_DIRECT are copied like others") {
  for_each({}, [](world& w, const std::string&) {
    const std::vector<std::byte> content = pattern(11, 0, 100'001);
    make_file(w.at("source"), content);
    const int flag = takes_direct(w.folder().path().string()) ? O_DIRECT : 0;
    sluice::file from = adopt_file(w.engine(), w.at("source"), O_RDONLY | flag);
    sluice::file into = adopt_file(w.engine(), w.at("target"), O_RDWR | O_CREAT | flag);
    CHECK(w.run(copy_between(from, into, range(99'999, 1, 3))) == 0);
    CHECK(same_bytes(bytes_at(w.at("target"), 3, 99'999), std::span(content).subspan(1, 99'999)));
  });
}

TEST_CASE("while one copy has the target another is refused, and sources are shared") {
  for_each({{"sluice.copy.chunk_bytes", "4K"}}, [](world& w, const std::string&) {
    make_file(w.at("source"), pattern(9, 0, 200'000));
    sluice::file from = adopt_file(w.engine(), w.at("source"), O_RDONLY);
    sluice::file into = adopt_file(w.engine(), w.at("target"), O_RDWR | O_CREAT);
    sluice::file other = adopt_file(w.engine(), w.at("other"), O_RDWR | O_CREAT);
    std::vector<int> told;
    const auto start = [&](sluice::file& target) {
      w.engine().start(copy_between(from, target, range(200'000)),
                       [&told](int failure) { told.push_back(failure); });
    };
    start(into);
    start(into);
    CHECK(told == std::vector<int>{EBUSY});
    start(other);
    w.until([&told] { return told.size() == 3; });
    CHECK(told == std::vector<int>{EBUSY, 0, 0});
    CHECK(same_bytes(content_of(w.at("target")), content_of(w.at("other"))));
  });
}

TEST_CASE("what is not allowed here is gone round by path auto, and refused when forced") {
  for (setting on : every_setting()) {
    CAPTURE(on.name);
    on.hidden = "copy_file_range";
    world w(on);
    const std::vector<std::byte> content = pattern(10, 0, 1'000'001);
    make_file(w.at("source"), content);
    const copied c = copy_range(w, range(content.size()));
    REQUIRE(c.failure() == 0);
    CHECK(c.way() == "copy");
    CHECK(std::string(c.outcome->reason) == "copy_file_range is not allowed here");
    CHECK(same_bytes(content_of(w.at("target")), content));
    std::filesystem::remove(w.at("target"));
    for (const char* path : {"copy_file_range", "reflink"}) {
      REQUIRE(w.engine().set_knob("sluice.copy.path", path).has_value());
      const copied refused = copy_range(w, range(content.size()));
      REQUIRE(refused.failure() == code::path_unavailable);
      CHECK(refused.way() == path);
      CHECK(std::string(refused.progress.reason) == refused.outcome.error().where);
      CHECK(std::string(refused.outcome.error().where) ==
            (path == std::string_view("reflink") ? "the blocks cannot be shared"
                                                 : "copy_file_range is not allowed here"));
      CHECK(refused.progress.bytes == 0);
      CHECK(std::filesystem::file_size(w.at("target")) == 0);
    }
  }
}
