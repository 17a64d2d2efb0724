// The requests of the control socket and their answers, as text: no I/O.
#include <algorithm>
#include <array>

#include "core/engine_core.hpp"
#include "sluice/control.hpp"
#include "storage/committer.hpp"

namespace sluice {
namespace {

constexpr std::string_view usage =
    "expected one of: get NAME, set NAME VALUE, list, stats, probe, clear-suspects";

void add_line(std::string& answer, std::string_view name, std::string_view value) {
  answer.append(name).append(" = ").append(value).append("\n");
}

std::string refused(std::string_view why) { return "error: " + std::string(why) + "\n\n"; }

std::string_view next_word(std::string_view& rest) {
  const std::string_view word = rest.substr(0, rest.find(' '));
  rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  return word;
}

std::string get(const control_functions& functions, std::string_view name) {
  const result<std::string> value = functions.settings().get(name);
  if (!value) return refused(explain_refusal(name, "", value.error()));
  std::string answer;
  add_line(answer, name, *value);
  return answer + "\n";
}

// The rest of the line is the value: a text may be empty, or have spaces.
std::string set(const control_functions& functions, std::string_view rest) {
  const std::string_view name = next_word(rest);
  const result<void> done = functions.set(name, rest);
  if (!done) return refused(explain_refusal(name, rest, done.error()));
  return get(functions, name);
}

std::string list(const control_functions& functions, std::string_view) {
  std::string answer;
  for (const knob_info& knob : functions.settings().list()) add_line(answer, knob.name, knob.value);
  return answer + "\n";
}

std::string stats(const control_functions& functions, std::string_view) {
  std::string answer;
  for (const counter_value& counter : functions.counters())
    add_line(answer, counter.name, std::to_string(counter.value));
  return answer + "\n";
}

// Why this backend: the knob asked for it, or what trying showed.
std::string why_backend(std::string_view backend, const knobs& settings,
                        const std::vector<capability>& found) {
  const std::string asked = settings.get("sluice.backend").value_or("");
  if (asked == backend) return "sluice.backend asks for it";
  if (backend == "ring") return "io_uring works here";
  const auto ring = std::ranges::find(found, "io_uring", &capability::name);
  if (ring != found.end() && !ring->present) return "no io_uring: " + ring->reason;
  // A ring is given up at the first op it lacks that nothing else can carry: the last one tried.
  for (auto row = found.rbegin(); row != found.rend(); ++row)
    if (!row->present && row->name.starts_with("ring.op.")) return "the ring lacks " + row->name;
  return "no io_uring";
}

std::string probe(const control_functions& functions, std::string_view) {
  const std::vector<capability> found = functions.capabilities();
  const std::string backend(functions.backend());
  std::string answer;
  add_line(answer, "backend", backend + ": " + why_backend(backend, functions.settings(), found));
  for (const capability& row : found)
    add_line(answer, row.name, row.present ? "yes" : "no: " + row.reason);
  return answer + "\n";
}

std::string clear_suspects(const control_functions& functions, std::string_view) {
  std::string answer;
  add_line(answer, "cleared", std::to_string(functions.clear_suspects()));
  return answer + "\n";
}

bool offers_settings(const control_functions& f) { return static_cast<bool>(f.settings); }
bool offers_set(const control_functions& f) { return f.settings && f.set; }
bool offers_counters(const control_functions& f) { return static_cast<bool>(f.counters); }
bool offers_capabilities(const control_functions& f) {
  return f.capabilities && f.backend && f.settings;
}

bool offers_clearing(const control_functions& f) { return static_cast<bool>(f.clear_suspects); }

struct request_row {
  std::string_view word;
  bool takes_words;
  bool (*offered)(const control_functions&);
  std::string (*answer)(const control_functions&, std::string_view rest);
};

constexpr std::array<request_row, 6> rows{{
    {"get", true, offers_settings, get},
    {"set", true, offers_set, set},
    {"list", false, offers_settings, list},
    {"stats", false, offers_counters, stats},
    {"probe", false, offers_capabilities, probe},
    {"clear-suspects", false, offers_clearing, clear_suspects},
}};

}  // namespace

std::string control_answer(const control_functions& functions, std::string_view request) {
  std::string_view rest = request;
  const std::string_view word = next_word(rest);
  const auto row = std::ranges::find(rows, word, &request_row::word);
  if (row == rows.end() || row->takes_words == rest.empty()) return refused(usage);
  if (!row->offered(functions)) return refused(std::string(word) + " is not offered here");
  return row->answer(functions, rest);
}

control_functions control_of(engine& on) {
  engine_core* core = &on.core();  // stays where it is when the engine is moved
  return {
      .settings = [core]() -> const knobs& { return core->settings(); },
      .set = [core](std::string_view name,
                    std::string_view value) { return core->set_live(name, value); },
      .counters =
          [core] {
            const counter_snapshot all = tuning::snapshot(core->counters());
            return std::vector<counter_value>(all.begin(), all.end());
          },
      .capabilities =
          [core] {
            std::vector<capability> rows_found;
            for (const kernel::capability_row& row : core->capabilities().rows())
              rows_found.push_back({row.name, row.present, row.reason});
            return rows_found;
          },
      .backend = [core] { return core->carrier().name(); },
      .clear_suspects = [core] { return committer_of(*core).clear_suspects(); },
  };
}

}  // namespace sluice
