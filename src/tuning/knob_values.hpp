// The values of all knobs as plain typed members, made from knobs.def: values.memory.block_bytes.
// A layer is handed its own group (`const memory_knobs&`) by the engine; none reads a global. Live
// knobs change only on the engine's loop thread, through set_live.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sluice/knobs.hpp"

namespace sluice::tuning {

namespace field_type {
using bytes = std::uint64_t;
using bytes_power_of_two = std::uint64_t;
using bytes_per_second = std::uint64_t;
using count = std::uint32_t;
using microseconds = std::uint32_t;
using milliseconds = std::uint32_t;
}  // namespace field_type

// enum class backend_choice { automatic, ring, pool }; and so on.
#define SLUICE_CHOICES(set) enum class set : std::uint8_t {
#define SLUICE_CHOICE(enumerator, text) enumerator,
#define SLUICE_CHOICES_END(set) \
  }                             \
  ;
#include "tuning/knobs.def"

// struct memory_knobs { std::uint64_t arena_bytes = 67108864; ... }; and so on, with the defaults.
#define SLUICE_GROUP(group) struct group##_knobs {
#define SLUICE_NUMBER(group, field, name, type, unit, initial, min, max, when, help) \
  field_type::type field = initial;
#define SLUICE_FLAG(group, field, name, initial, when, help) bool field = initial;
#define SLUICE_WORD(group, field, name, choices, initial, when, help) \
  choices field = choices::initial;
#define SLUICE_TEXT(group, field, name, initial, when, help) std::string field = initial;
#define SLUICE_GROUP_END(group) \
  }                             \
  ;
#include "tuning/knobs.def"

struct knob_values {
#define SLUICE_GROUP(group) group##_knobs group;
#include "tuning/knobs.def"
};

// The values inside a public knobs object, values(const knobs&), are declared in sluice/knobs.hpp.

// Sets one knob of a running engine, on its loop thread. Errors: unknown_name, start_only (the knob
// cannot change in a running engine), out_of_range, EINVAL (not a value of this knob's type); on an
// error the value is unchanged.
result<void> set_live(knob_values& target, std::string_view name, std::string_view value);

}  // namespace sluice::tuning
