#include "control.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
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

constexpr std::string_view suspects = "sluice.commit.suspects";

// Every shard has been told of the same filesystems, so they are not to be added up.
std::uint64_t count_suspects(const fleet& all) {
  std::uint64_t most = 0;
  for (const auto& one : all)
    most = std::max(most, one->engine().counters().get(suspects).value_or(0));
  return most;
}

std::vector<sluice::counter_value> add_up(const fleet& all) {
  sluice::counter_snapshot sum;
  for (const auto& one : all) sum += one->engine().counters();
  std::vector<sluice::counter_value> values(sum.begin(), sum.end());
  for (sluice::counter_value& counter : values) {
    if (counter.name == suspects) counter.value = count_suspects(all);
    // What the server counts itself the library has rows for, but no values.
    for (const auto& one : all) counter.value += one->counts().find(counter.name).value_or(0);
  }
  return values;
}

// The other shards clear theirs in their next turn.
std::size_t clear_everywhere(shard& home) {
  const std::uint64_t cleared = count_suspects(home.all());
  for (const auto& one : home.all()) {
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
