// Content-Type by the end of a name.
#pragma once

#include <string_view>

namespace sluiced {

// application/octet-stream for an extension that is not in the table.
[[nodiscard]] std::string_view media_type_of(std::string_view path);

}  // namespace sluiced
