// Whether the filesystem beneath the root keeps what is answered as durable.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluiced {

// Of an ext4 without a journal a sentence that says so, else nothing; nothing either where it
// cannot be asked. See publish in sluice/file.hpp.
[[nodiscard]] std::optional<std::string> durability_doubt(const std::string& root);

// Of the options of a mounted ext4, one on a line (/proc/fs/ext4/DEVICE/options): with a journal it
// says how data is ordered with it.
[[nodiscard]] bool has_journal(std::string_view options);

}  // namespace sluiced
