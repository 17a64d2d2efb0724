// Sweeping a tree by an engine; what a single directory shows is in temporary_name_test.cpp.
#include <signal.h>
#include <sys/wait.h>

#include "conformance/suite.hpp"
#include "storage/temporary_name.hpp"

namespace {

using namespace conformance;

struct swept {
  int code = 0;
  sluice::sweep_report report;
};

sluice::task<swept> sweep(sluice::engine& e, std::filesystem::path folder) {
  sluice::result<sluice::directory> root = co_await sluice::directory::open(e, folder.string());
  if (!root) co_return swept{root.error().code, {}};
  const sluice::result<sluice::sweep_report> done = co_await sluice::sweep_temporaries(*root);
  co_return done ? swept{0, *done} : swept{done.error().code, {}};
}

std::string temporary(const std::string& folder) {
  return folder + "/" + sluice::make_temporary_name();
}

}  // namespace

TEST_CASE("a whole tree is swept, and nothing else in it touched") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> content = pattern(1, 0, 1000);
    std::string deep = w.folder().path().string();
    for (int level = 0; level < 40; ++level) {
      deep += "/level";
      std::filesystem::create_directory(deep);
      make_file(temporary(deep), content);
      make_file(deep + "/kept", content);
    }
    for (int i = 0; i < 60; ++i) {
      const std::string beside = w.at("beside" + std::to_string(i));
      std::filesystem::create_directory(beside);
      make_file(temporary(beside), {});
    }
    std::filesystem::create_directory_symlink("/", w.at("link"));
    const swept first = w.run(sweep(w.engine(), w.folder().path()));
    CHECK(first.code == 0);
    CHECK(first.report.removed == 100);
    CHECK(first.report.directories == 101);
    CHECK(w.counter("sluice.publish.swept") == 100);
    CHECK(same_bytes(content_of(deep + "/kept"), content));
    CHECK(w.run(sweep(w.engine(), w.folder().path())).report.removed == 0);
  }
}

TEST_CASE("what an engine creates and replaces while it is swept is published all the same") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const auto replace = [](sluice::engine& e, std::filesystem::path folder,
                            int rounds) -> sluice::task<int> {
      sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
      for (int i = 0; i < rounds; ++i) {
        sluice::result<sluice::file> made = co_await in->create();
        if (!made) co_return made.error().code;
        const sluice::result<void> done = co_await sluice::publish(
            *made, *in, "name",
            {.existing = sluice::existing_name::replace, .wanted = sluice::durability::stored});
        if (!done) co_return done.error().code;
      }
      co_return 0;
    };
    const auto sweep_on = [](sluice::engine& e, std::filesystem::path folder, const int& left,
                             bool named) -> sluice::task<int> {
      while (left > 0) {
        const swept once = co_await sweep(e, folder);
        if (once.code != 0) co_return once.code;
        // Only a file that is made under a name can be found before it is held; it is made again.
        if (once.report.removed != 0 && !named) co_return -1;
      }
      co_return 0;
    };
    constexpr int tasks = 4;
    int left = tasks;
    std::vector<int> codes;
    for (int i = 0; i < tasks; ++i) {
      w.engine().start(replace(w.engine(), w.folder().path(), 50), [&](int c) {
        codes.push_back(c);
        --left;
      });
    }
    const bool named = on.hidden.find("unnamed_files") != std::string::npos;
    CHECK(w.run(sweep_on(w.engine(), w.folder().path(), left, named)) == 0);
    CHECK(codes == std::vector<int>(tasks, 0));
    w.settle();
    CHECK(w.names() == std::vector<std::string>{"name"});
  }
}

TEST_CASE("a process killed in the middle of an upload leaves a name that the next one sweeps") {
  for (const char* backend : {"ring", "pool"}) {
    const setting on{backend, backend, std::filesystem::current_path().string(), true,
                     "unnamed_files"};
    const std::unique_ptr<support::temp_dir> folder = temp_dir_in(on.folder);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      // Says when its upload has begun, then holds it.
      sluice::engine e = support::make_engine(knobs_for(on, {}));
      std::optional<sluice::file> made;
      e.spawn([](sluice::engine& in_engine, std::string path,
                 std::optional<sluice::file>& file) -> sluice::task<void> {
        auto in = co_await sluice::directory::open(in_engine, path);
        auto created = co_await in->create();
        if (created) file = std::move(*created);
      }(e, folder->path().string(), made));
      e.run();
      const char done = made ? 'y' : 'n';
      [[maybe_unused]] const auto told = ::write(ends[1], &done, 1);
      ::pause();
      ::_exit(1);
    }
    char began = 'n';
    CHECK(::read(ends[0], &began, 1) == 1);
    CHECK(began == 'y');
    ::close(ends[0]);
    ::close(ends[1]);
    REQUIRE(folder->entry_count() == 1);
    {
      world w(on);
      CHECK(w.run(sweep(w.engine(), folder->path())).report.removed == 0);
      CHECK(folder->entry_count() == 1);
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
      CHECK(w.run(sweep(w.engine(), folder->path())).report.removed == 1);
    }
    CHECK(folder->entry_count() == 0);
  }
}

TEST_CASE("a cancelled sweep ends") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (int i = 0; i < 50; ++i) std::filesystem::create_directory(w.at(std::to_string(i)));
    for (int turns = 0; turns < 20; turns += 3) {
      std::optional<swept> told;
      const sluice::task_handle handle = w.engine().start(sweep(w.engine(), w.folder().path()),
                                                          [&told](const swept& s) { told = s; });
      for (int i = 0; i < turns && !told; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told.has_value(); });
      CHECK((told->code == ECANCELED || told->report.directories == 51));
    }
  }
}
