#include "settings.hpp"

#include <cassert>
#include <charconv>
#include <string>

namespace sluiced {

namespace {

std::string text_of(const sluice::knobs& knobs, const char* name) {
  sluice::result<std::string> value = knobs.get(name);
  assert(value);  // the names below are rows of the knob table
  return value ? *std::move(value) : std::string();
}

std::uint64_t number_of(const sluice::knobs& knobs, const char* name) {
  const std::string text = text_of(knobs, name);
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::chrono::milliseconds time_of(const sluice::knobs& knobs, const char* name) {
  return std::chrono::milliseconds(number_of(knobs, name));
}

}  // namespace

settings settings_from(const sluice::knobs& knobs) {
  settings s;
  s.body_bytes_max = number_of(knobs, "sluice.http.body_max_bytes");
  s.connections_max = number_of(knobs, "sluice.http.connections_max");
  s.head_bytes_max = number_of(knobs, "sluice.memory.head_bytes");
  s.rate_min_bytes = number_of(knobs, "sluice.receive.rate_min_bytes");
  s.head_timeout = time_of(knobs, "sluice.http.head_timeout_ms");
  s.idle_timeout = time_of(knobs, "sluice.http.idle_timeout_ms");
  s.grace = time_of(knobs, "sluice.http.grace_ms");
  s.receive_timeout = time_of(knobs, "sluice.receive.timeout_ms");
  s.backlog = static_cast<int>(number_of(knobs, "sluice.http.backlog"));
  s.preallocate = text_of(knobs, "sluice.storage.preallocate") == "on";
  if (text_of(knobs, "sluice.http.create_parents") == "off")
    s.create_parents = sluice::make_parents::no;
  if (text_of(knobs, "sluice.http.durability") == "stored")
    s.durability = sluice::durability::stored;
  return s;
}

std::uint64_t connections_within(std::uint64_t descriptors) {
  constexpr std::uint64_t own = 32;
  return descriptors > own + 2 ? (descriptors - own) / 2 : 1;
}

}  // namespace sluiced
