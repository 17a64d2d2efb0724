#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "sluice/control.hpp"
#include "support/engine_fixture.hpp"

namespace {

using namespace sluice;

control_functions functions_of(knobs& settings) {
  control_functions f;
  f.settings = [&settings]() -> const knobs& { return settings; };
  f.set = [&settings](std::string_view name, std::string_view value) -> result<void> {
    const result<knob_info> info = settings.find(name);
    if (!info) return std::unexpected(info.error());
    if (info->when != knob_when::live) return fail(code::start_only, "set");
    return settings.set(name, value);
  };
  return f;
}

std::size_t count_lines(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

TEST_CASE("get, set and list answer with name = value and an empty line") {
  knobs settings;
  const control_functions f = functions_of(settings);
  CHECK(control_answer(f, "get sluice.receive.depth") == "sluice.receive.depth = 16\n\n");
  CHECK(control_answer(f, "set sluice.receive.depth 8") == "sluice.receive.depth = 8\n\n");
  CHECK(control_answer(f, "set sluice.receive.rate_min_bytes 1K") ==
        "sluice.receive.rate_min_bytes = 1024\n\n");
  const std::string all = control_answer(f, "list");
  CHECK(count_lines(all) == settings.list().size() + 1);
  CHECK(all.contains("sluice.receive.depth = 8\n"));
  CHECK(all.ends_with("\n\n"));
}

TEST_CASE("a refused request says why in one line and changes nothing") {
  knobs settings;
  const control_functions f = functions_of(settings);
  CHECK(control_answer(f, "get sluice.nothing") == "error: 'sluice.nothing' is no knob\n\n");
  CHECK(control_answer(f, "set sluice.nothing 1") == "error: 'sluice.nothing' is no knob\n\n");
  CHECK(control_answer(f, "set sluice.receive.depth 0") ==
        "error: sluice.receive.depth: '0' is out of range: 1 to 256 blocks\n\n");
  CHECK(control_answer(f, "set sluice.receive.depth many") ==
        "error: sluice.receive.depth: 'many' is not a number: 1 to 256 blocks\n\n");
  CHECK(control_answer(f, "set sluice.ring.entries 512") ==
        "error: sluice.ring.entries: can only be set before the engine starts\n\n");
  CHECK(settings.get("sluice.receive.depth").value() == "16");
  CHECK(settings.get("sluice.ring.entries").value() == "256");
}

TEST_CASE("what is no request is told what is, and never echoed raw") {
  knobs settings;
  const control_functions f = functions_of(settings);
  for (const std::string_view line :
       {"", " ", "get", "get ", "set", "list all", "LIST", "stats now", "probe it", "\x1b[2J",
        "clear-suspects now", "reboot", "getsluice.backend"}) {
    CAPTURE(line);
    const std::string answer = control_answer(f, line);
    CHECK(answer.starts_with("error: expected one of: get NAME"));
    CHECK(count_lines(answer) == 2);
  }
  using namespace std::string_view_literals;
  for (const std::string_view line :
       {"get \x1b[2J"sv, "set a\0b c"sv, "get a b"sv, "set sluice.receive.depth \x01\r"sv}) {
    CAPTURE(line);
    const std::string answer = control_answer(f, line);
    CHECK(answer.starts_with("error: "));
    CHECK(count_lines(answer) == 2);
    CHECK(std::ranges::none_of(answer, [](char c) { return c != '\n' && c >= 0 && c < ' '; }));
  }
  CHECK(control_answer(f, "get " + std::string(100'000, 'x')).size() < 200);
}

TEST_CASE("an empty function is a request that is not offered") {
  const control_functions none;
  for (const std::string_view line :
       {"get a", "set a b", "list", "stats", "probe", "clear-suspects"})
    CHECK(control_answer(none, line).contains("is not offered here"));
}

TEST_CASE("an engine answers for itself, on each backend") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    support::engine_fixture fixture(backend);
    const control_functions f = control_of(*fixture);
    CHECK(control_answer(f, "get sluice.backend") == "sluice.backend = " + backend + "\n\n");
    CHECK(control_answer(f, "set sluice.receive.depth 3") == "sluice.receive.depth = 3\n\n");
    CHECK(fixture->settings().get("sluice.receive.depth").value() == "3");
    CHECK(control_answer(f, "set sluice.backend pool").starts_with("error: sluice.backend: can"));
    CHECK(control_answer(f, "clear-suspects") == "cleared = 0\n\n");
    CHECK(count_lines(control_answer(f, "stats")) == fixture->counters().size() + 1);
    const std::string probed = control_answer(f, "probe");
    CHECK(probed.starts_with("backend = " + backend + ": sluice.backend asks for it\n"));
    CHECK(count_lines(probed) == fixture->capabilities().size() + 2);
  }
}

TEST_CASE("the probe says why there is no ring, and what was hidden") {
  support::engine_fixture fixture("auto", {{"sluice.capabilities.hidden", "io_uring, openat2"}});
  const std::string probed = control_answer(control_of(*fixture), "probe");
  CHECK(probed.starts_with("backend = pool: no io_uring: "));
  CHECK(probed.contains("\nopenat2 = no: hidden by sluice.capabilities.hidden\n"));
}

}  // namespace
