// Bencode (BEP 3), read strictly: what has two spellings is refused, so that the digest of a part
// means the same to everybody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bt {

enum class bencode_kind : std::uint8_t { integer, text, list, dictionary };

// Why some bytes are no bencode, and where.
struct bencode_failure {
  std::size_t at = 0;
  const char* what = "";  // a string literal
};

class bencode_value;

// A parsed document. The values and all their views are of the input, which must outlive it.
class bencode {
 public:
  static constexpr std::size_t depth_max = 32;        // lists and dictionaries within each other
  static constexpr std::size_t values_max = 1 << 22;  // of a document

  // Exactly one value and nothing behind it. Refused: numbers with leading zeros or "-0" or beyond
  // 64 bits, keys that are not in ascending order or come twice, more than the limits above.
  [[nodiscard]] static std::expected<bencode, bencode_failure> parse(std::string_view input);

  [[nodiscard]] bencode_value root() const;

 private:
  friend class bencode_value;
  friend class bencode_parser;
  struct node {
    bencode_kind kind = bencode_kind::integer;
    std::uint32_t past = 0;  // index behind its last descendant
    std::int64_t integer = 0;
    std::string_view text;
    std::string_view raw;  // all of its coded form
  };
  std::vector<node> nodes_;  // in the order of the input: a key stands before its value
};

// One value of a document, which must stay where it is.
class bencode_value {
 public:
  [[nodiscard]] bencode_kind kind() const { return self().kind; }
  [[nodiscard]] std::string_view raw() const { return self().raw; }
  [[nodiscard]] std::optional<std::int64_t> integer() const;
  [[nodiscard]] std::optional<std::string_view> text() const;
  // The members of a list, or keys and values of a dictionary in turn. Begin with the first.
  [[nodiscard]] std::optional<bencode_value> first() const;
  [[nodiscard]] static std::optional<bencode_value> next(const bencode_value& of,
                                                         const bencode_value& parent);
  // Of a dictionary; nothing when it is none or has no such key.
  [[nodiscard]] std::optional<bencode_value> find(std::string_view key) const;

 private:
  friend class bencode;
  bencode_value(const bencode& document, std::uint32_t index)
      : document_(&document), index_(index) {}
  [[nodiscard]] const bencode::node& self() const { return document_->nodes_[index_]; }
  const bencode* document_;
  std::uint32_t index_;
};

// Coded forms, appended to `to`. Whoever writes a dictionary gives its keys in ascending order.
void append_text(std::string& to, std::string_view text);
void append_integer(std::string& to, std::int64_t number);

}  // namespace bt
