#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "sluice/knobs.hpp"

namespace {

using namespace sluice;
namespace fs = std::filesystem;

// Three directories like /usr/lib, /run and /etc, weakest first, gone at the end.
class conf_tree {
 public:
  conf_tree() {
    std::string pattern = (fs::temp_directory_path() / "sluice-knobs-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
    for (const char* name : {"usr", "run", "etc"}) {
      fs::create_directory(root_ / name);
      directories_.push_back((root_ / name).string());
    }
    views_.assign(directories_.begin(), directories_.end());
  }
  ~conf_tree() { fs::remove_all(root_); }
  conf_tree(const conf_tree&) = delete;
  conf_tree& operator=(const conf_tree&) = delete;

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(root_ / name, std::ios::binary) << text;
    return path(name);
  }
  std::string path(const std::string& name) const { return (root_ / name).string(); }
  std::span<const std::string_view> directories() const { return views_; }

  knobs read() {
    knobs k;
    k.read_directories(directories(), &problems);
    return k;
  }
  std::string value(std::string_view name) { return *read().get(name); }

  std::vector<knob_problem> problems;

 private:
  fs::path root_;
  std::vector<std::string> directories_;
  std::vector<std::string_view> views_;
};

TEST_CASE("files apply by file name, whatever their directory") {
  conf_tree tree;
  tree.write("usr/90-last.conf", "sluice.ring.entries = 90\n");
  tree.write("etc/10-first.conf", "sluice.ring.entries = 10\n");
  tree.write("run/50-middle.conf", "sluice.ring.entries = 50\nsluice.pool.threads = 5\n");
  CHECK(tree.value("sluice.ring.entries") == "90");
  CHECK(tree.value("sluice.pool.threads") == "5");
  CHECK(knob_files(tree.directories()) == std::vector{tree.path("etc/10-first.conf"),
                                                      tree.path("run/50-middle.conf"),
                                                      tree.path("usr/90-last.conf")});
  CHECK(tree.problems.empty());
}

TEST_CASE("a file hides the one of the same name in a weaker directory, all of it") {
  conf_tree tree;
  tree.write("usr/50-a.conf", "sluice.ring.entries = 50\nsluice.pool.threads = 5\n");
  tree.write("run/50-a.conf", "sluice.ring.entries = 60\n");
  CHECK(tree.value("sluice.ring.entries") == "60");
  CHECK(tree.value("sluice.pool.threads") == "16");
  tree.write("etc/50-a.conf", "sluice.ring.entries = 70\n");
  CHECK(tree.value("sluice.ring.entries") == "70");
}

TEST_CASE("a link to /dev/null hides a file and is no file itself") {
  conf_tree tree;
  tree.write("usr/50-a.conf", "sluice.ring.entries = 50\n");
  fs::create_symlink("/dev/null", tree.path("etc/50-a.conf"));
  CHECK(tree.value("sluice.ring.entries") == "256");
  CHECK(knob_files(tree.directories()).empty());
  CHECK(tree.problems.empty());
}

TEST_CASE("a link to another file is followed") {
  conf_tree tree;
  tree.write("usr/real.txt", "sluice.ring.entries = 50\n");
  fs::create_symlink(tree.path("usr/real.txt"), tree.path("etc/50-a.conf"));
  CHECK(tree.value("sluice.ring.entries") == "50");
}

TEST_CASE("only names that end in .conf and do not begin with a dot count") {
  conf_tree tree;
  for (const char* name :
       {"etc/a.conf~", "etc/.a.conf.swp", "etc/.b.conf", "etc/README", "etc/c.CONF"})
    tree.write(name, "sluice.ring.entries = 50\n");
  CHECK(knob_files(tree.directories()).empty());
}

TEST_CASE("a directory that is not there is an empty one") {
  CHECK(knob_files(std::vector<std::string_view>{"/no/such/sluice.d"}).empty());
  CHECK(knob_directories().back() == "/etc/sluice.d");
}

TEST_CASE("blank lines and comments are skipped, spaces around name and value too") {
  conf_tree tree;
  const std::string path = tree.write("etc/a.conf",
                                      "# comment\n; comment\n\n   \t\n  # indented = comment\n"
                                      "\t sluice.ring.entries\t=  64 \t\r\n"
                                      "sluice.capabilities.hidden = a, b = c # d\n"
                                      "sluice.pool.threads=8");  // no newline at the end
  const std::vector<knob_setting> settings = read_knob_file(path, &tree.problems);
  REQUIRE(settings.size() == 3);
  CHECK(settings[0].name == "sluice.ring.entries");
  CHECK(settings[0].value == "64");
  CHECK(settings[0].line == 6);
  CHECK(settings[1].value == "a, b = c # d");
  CHECK(settings[2].value == "8");
  CHECK(tree.problems.empty());
}

TEST_CASE("the later line of a file wins") {
  conf_tree tree;
  tree.write("etc/a.conf", "sluice.ring.entries = 64\nsluice.ring.entries = 128\n");
  CHECK(tree.value("sluice.ring.entries") == "128");
}

TEST_CASE("bad lines are reported with file and line, and the others still apply") {
  conf_tree tree;
  const std::string path = tree.write("etc/a.conf",
                                      "sluice.ring.entries = 4\n"
                                      "no equals sign\n"
                                      "= 5\n"
                                      "sluice.nothing = 1\n"
                                      "sluice.pool.threads = \n"
                                      "sluice.pool.threads = 8\n");
  CHECK(tree.value("sluice.pool.threads") == "8");
  CHECK(tree.value("sluice.ring.entries") == "256");
  tree.problems.clear();
  tree.read();
  std::vector<std::string> said;
  for (const knob_problem& p : tree.problems) said.push_back(describe(p));
  CHECK(said ==
        std::vector{path + ":1: sluice.ring.entries: '4' is out of range: 8 to 32768 entries",
                    path + ":2: expected `name = value`", path + ":3: expected `name = value`",
                    path + ":4: 'sluice.nothing' is no knob",
                    path + ":5: sluice.pool.threads: '' is not a number: 1 to 256 threads"});
}

TEST_CASE("a leading minus hides the errors of its line, and only those") {
  conf_tree tree;
  tree.write(
      "etc/a.conf",
      "-sluice.nothing = 1\n-sluice.ring.entries = 4\n- sluice.pool.threads = 8\n-nonsense\n");
  CHECK(tree.value("sluice.pool.threads") == "8");
  CHECK(tree.value("sluice.ring.entries") == "256");
  for (const knob_problem& p : tree.problems) CHECK(p.line == 4);
}

TEST_CASE("a file that cannot be read is one problem, and the others still apply") {
  conf_tree tree;
  tree.write("etc/90.conf", "sluice.pool.threads = 8\n");
  fs::create_directory(tree.path("etc/10-directory.conf"));
  fs::create_symlink("/no/such/file", tree.path("etc/20-dangling.conf"));
  REQUIRE(mkfifo(tree.path("etc/30-fifo.conf").c_str(), 0600) == 0);
  tree.write("etc/40-huge.conf", std::string((1 << 20) + 1, '#'));
  CHECK(tree.value("sluice.pool.threads") == "8");
  REQUIRE(tree.problems.size() == 4);
  CHECK(tree.problems[0].text == "not a regular file");
  CHECK(tree.problems[1].text == "no such file");
  CHECK(tree.problems[2].text == "not a regular file");
  CHECK(tree.problems[3].text == "larger than 1 MiB");
  CHECK(describe(tree.problems[1]) == tree.path("etc/20-dangling.conf") + ": no such file");
}

TEST_CASE("the environment wins over the files") {
  conf_tree tree;
  tree.write("etc/a.conf", "sluice.ring.entries = 64\nsluice.pool.threads = 8\n");
  knobs k = tree.read();
  setenv("SLUICE_RING_ENTRIES", "128", 1);
  k.read_environment();
  unsetenv("SLUICE_RING_ENTRIES");
  CHECK(*k.get("sluice.ring.entries") == "128");
  CHECK(*k.get("sluice.pool.threads") == "8");
}

TEST_CASE("nobody has to ask for the problems") {
  conf_tree tree;
  const std::string path = tree.write("etc/a.conf", "nonsense\nsluice.ring.entries = 4\n");
  knobs k;
  k.read_file(path);
  CHECK(read_knob_file(tree.path("etc/none.conf")).empty());
  CHECK(*k.get("sluice.ring.entries") == "256");
}

}  // namespace
