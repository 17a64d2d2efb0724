// Dictionaries of structured field values, RFC 8941 section 3.2.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace sluiced {

enum class item_kind : std::uint8_t { integer, decimal, string, token, bytes, boolean, list };

struct member {
  std::string_view key;
  item_kind kind = item_kind::boolean;
  // As it stands in the field, without the marks around it: of `:YQ==:` the base64, of `?1` the 1,
  // which is also the value of a key alone.
  std::string_view value;
};

// The members in their order; of a key given twice the last value, as section 4.2.2 wants it. What
// stands in parameters and inner lists is checked and dropped. Nothing: the field is no dictionary.
// The members lie in `field`.
[[nodiscard]] std::optional<std::vector<member>> parse_dictionary(std::string_view field);

}  // namespace sluiced
