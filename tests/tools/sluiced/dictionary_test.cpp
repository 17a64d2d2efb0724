#include "dictionary.hpp"

#include <doctest/doctest.h>

#include <string>

namespace {

using namespace sluiced;

// The members as text: key, kind and value of each.
std::string shown(std::string_view field) {
  const auto members = parse_dictionary(field);
  if (!members) return "malformed";
  std::string text;
  for (const member& m : *members) {
    constexpr std::string_view letters = "idstb?l";
    text.append(m.key).append("=").append(1, letters[static_cast<std::size_t>(m.kind)]);
    text.append(m.value).append(" ");
  }
  return text;
}

TEST_CASE("members are told apart by what they are") {
  CHECK(shown("") == "");
  CHECK(shown("  ") == "");
  CHECK(shown("a=1") == "a=i1 ");
  CHECK(shown("a=-15, b=0.125,c=\"x, y\",\td=tok/en") == "a=i-15 b=d0.125 c=sx, y d=ttok/en ");
  CHECK(shown("sha-256=:YQ==:, x.y_z*-1=::") == "sha-256=bYQ== x.y_z*-1=b ");
  CHECK(shown("a, b=?0, *c=?1") == "a=?1 b=?0 *c=?1 ");
  CHECK(shown("a=\"q\\\"\\\\\"") == "a=sq\\\"\\\\ ");
  CHECK(shown("a=(), b=(1 \"x\";y  tok )") == "a=l b=l1 \"x\";y  tok  ");
  CHECK(shown(" a=1 , b=2  ") == "a=i1 b=i2 ");
}

TEST_CASE("parameters are checked and dropped") {
  CHECK(shown("a=1;x=2;y, b;z=:YQ:;  w=tok") == "a=i1 b=?1 ");
  CHECK(shown("a=(1;q=0.5 2);r") == "a=l1;q=0.5 2 ");
  for (const char* field : {"a=1;", "a=1;X", "a=1;x=", "a=1 ;x", "a=(1;)"}) {
    CAPTURE(field);
    CHECK(shown(field) == "malformed");
  }
}

TEST_CASE("of a key given twice the last value counts, at its place") {
  CHECK(shown("a=1, b=2, a=3") == "b=i2 a=i3 ");
}

TEST_CASE("what is no dictionary is refused") {
  for (const char* field : {"a=",
                            "=1",
                            "A=1",
                            "1=a",
                            "a=1,",
                            "a=1,,b=2",
                            ",a=1",
                            "a =1",
                            "a= 1",
                            "a=1 b=2",
                            "a=:YQ",
                            "a=YQ==:",
                            "a=:Y-:",
                            "a=:Y Q:",
                            "a=\"x",
                            "a=\"\\x\"",
                            "a=\"\x7f\"",
                            "a=?",
                            "a=?2",
                            "a=-",
                            "a=1.",
                            "a=.5",
                            "a=1.2345",
                            "a=1234567890123456",
                            "a=1234567890123.5",
                            "a=(1",
                            "a=(1,2)",
                            "a=(1\"x\")",
                            "a=((1))",
                            "a=@1",
                            "a=$",
                            "a=\xc3\xa9",
                            "\ta=1"}) {
    CAPTURE(field);
    CHECK(shown(field) == "malformed");
  }
  CHECK(shown(std::string("a=\"x\0\"", 6)) == "malformed");
}

TEST_CASE("every prefix of a field is parsed or refused, and never read past") {
  const std::string field =
      "a=(1 \"x\";y tok);p=?1, sha-256=:YQ==:;q, n=-12.5, s=\"\\\\\", t=to/k:en";
  for (std::size_t length = 0; length <= field.size(); ++length) {
    const std::string part = field.substr(0, length);  // of its own: a read past it is seen
    const std::string text = shown(part);
    CHECK((text == "malformed" || text.size() <= 2 * field.size()));
  }
  CHECK(shown(field) != "malformed");
}

}  // namespace
