#include <sys/stat.h>

#include <filesystem>
#include <utility>
#include <vector>

#include "conformance/suite.hpp"

namespace {

using namespace conformance;

struct found {
  int code = 0;
  std::size_t names_meanwhile = 0;  // in the folder, while the file has none of its own
  std::optional<sluice::file_info> current;
};

std::size_t names_in_folder(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

// Looks at `path`, and gives what was created the name "made" after five bytes.
sluice::task<found> create_for(sluice::engine& e, std::filesystem::path root, std::string path) {
  const std::string whole = root.string();
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, whole);
  sluice::result<sluice::successor> next = co_await in->create_for(path);
  if (!next) co_return found{next.error().code, 0, {}};
  const std::size_t names_meanwhile = names_in_folder(root);
  const std::vector<std::byte> bytes = pattern(9, 0, 5);
  const sluice::result<std::size_t> written = co_await next->made.write(bytes, 0);
  if (!written) co_return found{written.error().code, 0, {}};
  const std::string made = "made";
  const sluice::result<void> named = co_await sluice::publish(next->made, *in, made);
  co_return found{named ? 0 : named.error().code, names_meanwhile, next->current};
}

}  // namespace

TEST_CASE("a successor is created with a look at what it will replace, or not at all") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    const bool temporary_name = on.hidden.find("unnamed_files") != std::string::npos;
    world w(on);
    std::filesystem::create_directories(w.at("in/sub"));
    make_file(w.at("in/sub/file"), pattern(2, 0, 7));
    make_file(w.at("outside"), pattern(3, 0, 5));
    std::filesystem::create_symlink("sub/file", w.at("in/link"));
    REQUIRE(::mkfifo(w.at("in/fifo").c_str(), 0600) == 0);
    for (const auto& [path, refusal] :
         std::initializer_list<std::pair<std::string, int>>{{"sub/file", 0},
                                                            {"missing", 0},
                                                            {"sub", EISDIR},
                                                            {"fifo", EINVAL},
                                                            {"link", ELOOP},
                                                            {"sub/file/below", ENOTDIR},
                                                            {"../outside", EXDEV},
                                                            {w.at("outside"), EXDEV}}) {
      CAPTURE(path);
      const found f = w.run(create_for(w.engine(), w.at("in"), path));
      CHECK(f.code == refusal);
      CHECK(f.current.has_value() == (path == "sub/file"));
      if (f.current) CHECK(f.current->bytes == 7);
      if (refusal == 0) {
        CHECK(content_of(w.at("in/made")) == pattern(9, 0, 5));
        CHECK(f.names_meanwhile == (temporary_name ? 4 : 3));
      }
      std::filesystem::remove(w.at("in/made"));
      w.settle();
      CHECK(names_in_folder(w.at("in")) == 3);  // sub, link and fifo: nothing temporary stays
    }
  }
}
