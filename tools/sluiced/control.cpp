#include "control.hpp"

#include <string>
#include <vector>

namespace sluiced {

namespace {

// What one shard takes all take: they began with the same knobs, and whether a value is refused
// depends on nothing else. The others hold it from their next turn on.
sluice::result<void> set_everywhere(shard& home, std::string_view name, std::string_view value) {
  const sluice::result<void> set = home.set_knob(name, value);
  if (!set) return set;
  for (const auto& one : home.all()) {
    if (one.get() == &home) continue;
    one->engine().post([&other = *one, n = std::string(name), v = std::string(value)] {
      static_cast<void>(other.set_knob(n, v));
    });
  }
  return set;
}

std::vector<sluice::counter_value> add_up(const fleet& all) {
  sluice::counter_snapshot sum;
  for (const auto& one : all) sum += one->engine().counters();
  std::vector<sluice::counter_value> values(sum.begin(), sum.end());
  for (sluice::counter_value& counter : values) {
    // What the server counts itself the library has rows for, but no values.
    for (const auto& one : all) counter.value += one->counts().find(counter.name).value_or(0);
  }
  return values;
}

// The other shards are told, and clear theirs in their next turn. Each shard learns of a disk by
// its own syncs, so the number is of all shards together.
std::size_t clear_everywhere(shard& home) {
  std::size_t cleared = 0;
  for (const auto& one : home.all()) {
    const auto suspects = one->engine().counters().get("sluice.commit.suspects");
    cleared += suspects.value_or(0);
    if (one.get() != &home)
      one->engine().post([&other = *one] { other.engine().clear_suspects(); });
  }
  home.engine().clear_suspects();
  return cleared;
}

}  // namespace

sluice::control_functions control_of(shard& home) {
  sluice::control_functions functions = sluice::control_of(home.engine());
  functions.set = [&home](std::string_view name, std::string_view value) {
    return set_everywhere(home, name, value);
  };
  functions.counters = [&home] { return add_up(home.all()); };
  functions.clear_suspects = [&home] { return clear_everywhere(home); };
  return functions;
}

}  // namespace sluiced
