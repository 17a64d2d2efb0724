#include "sluice/knobs.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <set>

#include "tuning/knob_values.hpp"

namespace {

using namespace sluice;

// One environment variable for the length of a test.
class variable {
 public:
  variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~variable() { unsetenv(name_); }
  variable(const variable&) = delete;
  variable& operator=(const variable&) = delete;

 private:
  const char* name_;
};

std::string refusal_text(std::string_view name, std::string_view value) {
  knobs k;
  const result<void> done = k.set(name, value);
  REQUIRE_FALSE(done);
  return explain_refusal(name, value, done.error());
}

TEST_CASE("a new knobs object holds the defaults") {
  const knobs k;
  CHECK(*k.get("sluice.backend") == "auto");
  CHECK(*k.get("sluice.memory.block_bytes") == "524288");
  CHECK(tuning::values(k).memory.block_bytes == 524288);
  for (const knob_info& info : k.list()) CHECK(info.value == info.initial);
}

TEST_CASE("what is set is what the engine's values hold") {
  knobs k;
  REQUIRE(k.set("sluice.backend", "pool"));
  REQUIRE(k.set("sluice.memory.register", "off"));
  REQUIRE(k.set("sluice.http.body_max_bytes", "1M"));
  CHECK(tuning::values(k).engine.backend == tuning::backend_choice::pool);
  CHECK_FALSE(tuning::values(k).memory.register_buffers);
  CHECK(tuning::values(k).http.body_max_bytes == 1 << 20);
}

TEST_CASE("a refused value leaves the one before") {
  knobs k;
  REQUIRE(k.set("sluice.ring.entries", "512"));
  CHECK(k.set("sluice.ring.entries", "7").error().code == code::out_of_range);
  CHECK(k.set("sluice.ring.entries", "many").error().code == EINVAL);
  CHECK(*k.get("sluice.ring.entries") == "512");
}

TEST_CASE("a name nobody knows is an error of its own") {
  knobs k;
  for (const std::string_view name : {"", "sluice", "sluice.", "ring.entries", "SLUICE.BACKEND",
                                      "sluice.backend ", "sluice.ring.entries.x"}) {
    CAPTURE(name);
    CHECK(k.set(name, "1").error().code == code::unknown_name);
    CHECK(k.get(name).error().code == code::unknown_name);
    CHECK(k.find(name).error().code == code::unknown_name);
  }
}

TEST_CASE("copies are independent, and what was moved from still has values") {
  knobs first;
  REQUIRE(first.set("sluice.pool.threads", "3"));
  knobs second = first;
  REQUIRE(second.set("sluice.pool.threads", "4"));
  CHECK(*first.get("sluice.pool.threads") == "3");
  first = second;
  first = *&first;
  CHECK(*first.get("sluice.pool.threads") == "4");
  const knobs third = std::move(first);
  CHECK(*third.get("sluice.pool.threads") == "4");
  CHECK(first.get("sluice.pool.threads"));  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("list and find describe a knob with its range and its time") {
  const knobs k;
  const knob_info entries = *k.find("sluice.ring.entries");
  CHECK(entries.min == "8");
  CHECK(entries.max == "32768");
  CHECK(entries.unit == "entries");
  CHECK(entries.when == knob_when::start);
  const knob_info path = *k.find("sluice.receive.path");
  CHECK(path.choices == "auto|direct|copy|splice|mapped");
  CHECK(path.min.empty());
  CHECK(path.when == knob_when::live);
  CHECK(k.list().size() > 30);
}

TEST_CASE("the environment sets knobs by their name in capitals") {
  const variable path("SLUICE_RECEIVE_PATH", "direct");
  const variable arena("SLUICE_MEMORY_ARENA_BYTES", "1G");
  knobs k;
  std::vector<knob_problem> problems;
  k.read_environment(&problems);
  CHECK(*k.get("sluice.receive.path") == "direct");
  CHECK(*k.get("sluice.memory.arena_bytes") == "1073741824");
  CHECK(problems.empty());
}

TEST_CASE("a bad value in the environment is reported and changes nothing") {
  const variable bad("SLUICE_RING_ENTRIES", "1");
  const variable foreign("SLUICE_NO_SUCH_KNOB", "1");
  std::vector<knob_problem> problems;
  const knobs k = knobs::from_files(&problems);
  REQUIRE(!problems.empty());
  CHECK(describe(problems.back()) ==
        "environment: SLUICE_RING_ENTRIES: sluice.ring.entries: '1' is out of range: "
        "8 to 32768 entries");
  CHECK(tuning::values(k).ring.entries != 1);
}

TEST_CASE("no two knobs share a name in the environment") {
  std::set<std::string> names;
  const knobs k;
  for (const knob_info& info : k.list()) {
    std::string name(info.name);
    for (char& c : name)
      if (c == '.') c = '_';
    CHECK(names.insert(name).second);
  }
}

TEST_CASE("a refusal is explained with the range") {
  CHECK(refusal_text("sluice.ring.entries", "4") ==
        "sluice.ring.entries: '4' is out of range: 8 to 32768 entries");
  CHECK(refusal_text("sluice.memory.head_bytes", "5000") ==
        "sluice.memory.head_bytes: '5000' is out of range: 4096 to 65536 bytes, a power of two");
  CHECK(refusal_text("sluice.backend", "uring") ==
        "sluice.backend: 'uring' is not one of auto|ring|pool");
  CHECK(refusal_text("sluice.memory.register", "perhaps") ==
        "sluice.memory.register: 'perhaps' is not a flag: on or off");
  CHECK(refusal_text("sluice.pool.threads", "few") ==
        "sluice.pool.threads: 'few' is not a number: 1 to 256 threads");
  CHECK(refusal_text("sluice.capabilities.hidden", "\t") ==
        "sluice.capabilities.hidden: '?' has control characters");
  CHECK(refusal_text("sluice.nothing", "1") == "'sluice.nothing' is no knob");
  CHECK(explain_refusal("sluice.backend", "ring", error{code::start_only, "set", ""}) ==
        "sluice.backend: can only be set before the engine starts");
}

TEST_CASE("a refusal shows outside text shortened and without control characters") {
  const std::string text = refusal_text("sluice.backend", "\x1b[2J" + std::string(5000, 'x'));
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.size() < 200);
}

TEST_CASE("the defaults do not contradict each other") { CHECK(knobs().conflicts().empty()); }

TEST_CASE("knobs that contradict each other are named") {
  knobs queues;
  REQUIRE(queues.set("sluice.ring.completion_entries", "16"));
  REQUIRE(queues.conflicts().size() == 1);
  CHECK(queues.conflicts()[0].find("completion_entries") != std::string::npos);

  knobs heads;
  REQUIRE(heads.set("sluice.memory.block_bytes", "4K"));
  CHECK(heads.conflicts().size() == 1);

  knobs arena;
  REQUIRE(arena.set("sluice.memory.head_blocks", "1048576"));
  CHECK(arena.conflicts().size() == 1);
}

}  // namespace
