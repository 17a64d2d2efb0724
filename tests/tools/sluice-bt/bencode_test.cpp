#include "bencode.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace {

std::string refusal(std::string_view input) {
  const auto parsed = bt::bencode::parse(input);
  return parsed ? "" : parsed.error().what;
}

}  // namespace

TEST_CASE("values are views of the input, with their coded form") {
  const std::string input = "d3:cowi-42e4:spaml1:a0:ld1:xi0eeeee";
  const auto parsed = bt::bencode::parse(input);
  REQUIRE(parsed);
  const bt::bencode_value root = parsed->root();
  CHECK(root.kind() == bt::bencode_kind::dictionary);
  CHECK(root.raw() == input);
  REQUIRE(root.find("cow"));
  CHECK(root.find("cow")->integer() == -42);
  CHECK(root.find("cow")->raw() == "i-42e");
  CHECK_FALSE(root.find("cow")->text());
  CHECK_FALSE(root.find("co"));
  const auto list = root.find("spam");
  REQUIRE(list);
  CHECK(list->raw() == "l1:a0:ld1:xi0eeee");
  const auto first = list->first();
  REQUIRE(first);
  CHECK(first->text() == "a");
  CHECK(first->text()->data() == input.data() + 20);
  const auto second = bt::bencode_value::next(*first, *list);
  REQUIRE(second);
  CHECK(second->text() == "");
  const auto third = bt::bencode_value::next(*second, *list);
  REQUIRE(third);
  CHECK(third->kind() == bt::bencode_kind::list);
  CHECK_FALSE(bt::bencode_value::next(*third, *list));
  CHECK(third->first()->find("x")->integer() == 0);
}

TEST_CASE("empty lists, dictionaries and texts are values") {
  for (const std::string_view input : {"le", "de", "0:"}) {
    const auto parsed = bt::bencode::parse(input);
    REQUIRE(parsed);
    CHECK_FALSE(parsed->root().first());
    CHECK(parsed->root().raw() == input);
  }
}

TEST_CASE("the ends of the 64 bits are numbers, and what is beyond is none") {
  const auto least = bt::bencode::parse("i-9223372036854775808e");
  REQUIRE(least);
  CHECK(least->root().integer() == INT64_MIN);
  CHECK(bt::bencode::parse("i9223372036854775807e")->root().integer() == INT64_MAX);
  CHECK(refusal("i9223372036854775808e") == "a number beyond 64 bits");
  CHECK(refusal("99999999999999999999:") == "a number beyond 64 bits");
}

TEST_CASE("what has a second spelling is refused") {
  CHECK(refusal("i-0e") == "a negative zero");
  CHECK(refusal("i-01e") == "a negative zero");
  CHECK(refusal("i00e") == "a leading zero");
  CHECK(refusal("i07e") == "a leading zero");
  CHECK(refusal("01:a") == "a leading zero");
  CHECK(refusal("i+1e") == "a number is missing");
  CHECK(refusal("d1:bi0e1:ai0ee") == "keys out of order");
  CHECK(refusal("d1:ai0e1:ai0ee") == "keys out of order");
  CHECK(refusal("d0:i0e0:i0ee") == "keys out of order");
}

TEST_CASE("what is no bencode is refused, with its place") {
  CHECK(refusal("") == "ends in the middle");
  CHECK(refusal("i") == "a number is missing");
  CHECK(refusal("i1") == "ends in the middle");
  CHECK(refusal("i1x") == "a number with something else in it");
  CHECK(refusal("ie") == "a number is missing");
  CHECK(refusal("5:abcd") == "text longer than the input");
  CHECK(refusal("l") == "ends in the middle");
  CHECK(refusal("e") == "no value begins like this");
  CHECK(refusal("x") == "no value begins like this");
  CHECK(refusal("di1ei2ee") == "a key must be text");
  CHECK(refusal("d1:ae") == "a key without value");
  CHECK(refusal("i1ei2e") == "bytes behind the end");
  const auto parsed = bt::bencode::parse("l3:abcx");
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().at == 6);
}

TEST_CASE("the depth is bounded, however long the input") {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, 'l') + std::string(depth, 'e');
  };
  CHECK(bt::bencode::parse(nested(bt::bencode::depth_max)));
  CHECK(refusal(nested(bt::bencode::depth_max + 1)) == "too deep");
  CHECK(refusal(std::string(1 << 20, 'l')) == "too deep");
  CHECK(refusal(std::string(1 << 20, 'd')) == "a key must be text");
}

TEST_CASE("the count of values is bounded") {
  std::string many = "l";
  for (std::size_t i = 0; i < bt::bencode::values_max; ++i) many.append("0:");
  CHECK(refusal(many + "e") == "too many values");
}

TEST_CASE("what is written is read again") {
  std::string coded;
  bt::append_text(coded, std::string_view("a\0b", 3));
  CHECK(bt::bencode::parse(coded)->root().text() == std::string_view("a\0b", 3));
  coded.clear();
  bt::append_integer(coded, -7);
  CHECK(bt::bencode::parse(coded)->root().integer() == -7);
}
