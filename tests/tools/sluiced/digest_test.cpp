#include "digest.hpp"

#include <doctest/doctest.h>

#include <string>

namespace {

using namespace sluiced;

// Computed by sha256sum and sha512sum.
const std::string of_nothing = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
const std::string of_hello = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
const std::string of_hello_512 =
    "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7"
    "AQw==:";

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

request promising(std::optional<std::string> content, std::optional<std::string> repr) {
  request asked;
  asked.content_digest = std::move(content);
  asked.repr_digest = std::move(repr);
  return asked;
}

std::vector<digest_promise> promised(const std::string& repr) {
  auto promises = promises_of(promising({}, repr));
  REQUIRE(promises.has_value());
  return std::move(*promises);
}

TEST_CASE("a digest is read and written the same, with its padding or without") {
  for (const std::string& text : {of_nothing, of_hello, of_hello_512}) {
    const auto parsed = parse_digests(text);
    REQUIRE(parsed.has_value());
    CHECK(format_digests(*parsed) == text);
    std::string bare = text;
    std::erase(bare, '=');
    bare.insert(7, "=");
    CHECK(parse_digests(bare) == parsed);
  }
  CHECK(format_digests(*parse_digests(of_hello_512 + ", " + of_hello)) ==
        of_hello_512 + ", " + of_hello);
}

TEST_CASE("unknown algorithms are ignored, whatever their values are") {
  CHECK(parse_digests("")->empty());
  CHECK(parse_digests("md5=:YQ==:, unixsum=30637, x=(1 2);y, sha-1=\"z\"")->empty());
  CHECK(format_digests(*parse_digests("md5=:YQ==:, " + of_hello)) == of_hello);
}

TEST_CASE("a digest that cannot be one is malformed") {
  for (const std::string& field :
       {std::string("sha-256"), std::string("sha-256=1"), std::string("sha-256=::"),
        std::string("sha-256=:YQ==:"), std::string("sha-256=\"x\""), of_hello + ",",
        of_hello.substr(0, of_hello.size() - 1), std::string("sha-512") + of_hello.substr(7),
        std::string("SHA-256") + of_hello.substr(7),
        // one '=' too many, one within, and a length that no bytes have
        std::string("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ==:"),
        std::string("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0=ecwQzYpOLmCQ=:"),
        std::string("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQaa:")}) {
    CAPTURE(field);
    CHECK_FALSE(parse_digests(field).has_value());
  }
}

TEST_CASE("wishes are ranked, and what is none is left out") {
  using enum digest_algorithm;
  using list = std::vector<digest_algorithm>;
  CHECK(parse_wanted("sha-256=5") == list{sha_256});
  CHECK(parse_wanted("sha-256=5, sha-512=10") == list{sha_512, sha_256});
  CHECK(parse_wanted("sha-512=3, sha-256=3") == list{sha_512, sha_256});
  CHECK(parse_wanted("sha-256=0, sha-512=1, md5=10") == list{sha_512});
  for (const char* field : {"", "sha-256", "sha-256=11", "sha-256=-1", "sha-256=0.5", "sha-256=5,",
                            "sha-256=:YQ==:", "sha-256=999999999999999", "nonsense nonsense"}) {
    CAPTURE(field);
    CHECK(parse_wanted(field).empty());
  }
}

TEST_CASE("what is told is what is both wanted and known") {
  using enum digest_algorithm;
  const std::vector<digest> known = *parse_digests(of_hello + ", " + of_hello_512);
  CHECK(format_repr_digest(std::vector{sha_512, sha_256}, known) ==
        "Repr-Digest: " + of_hello_512 + ", " + of_hello + "\r\n");
  CHECK(format_repr_digest(std::vector{sha_256}, known) == "Repr-Digest: " + of_hello + "\r\n");
  CHECK(format_repr_digest({}, known) == "");
  CHECK(format_repr_digest(std::vector{sha_512}, std::span(known).first(1)) == "");
}

TEST_CASE("both fields promise, a field that is malformed is refused by its name") {
  const auto both = promises_of(promising(of_hello, of_hello_512));
  REQUIRE(both.has_value());
  REQUIRE(both->size() == 2);
  CHECK(both->at(0).field == "Content-Digest");
  CHECK(both->at(1).field == "Repr-Digest");
  CHECK(promises_of(request())->empty());
  CHECK(promises_of(promising("", "md5=:YQ==:"))->empty());
  const auto broken = promises_of(promising(of_hello, "sha-256=hello"));
  REQUIRE_FALSE(broken.has_value());
  CHECK(broken.error().status == 400);
  CHECK(broken.error().text.starts_with("Repr-Digest is malformed"));
}

TEST_CASE("a body that is what was promised passes, in pieces too") {
  digest_check check(promised(of_hello + ", " + of_hello_512));
  REQUIRE(check.if_promised() == &check);
  for (const char* piece : {"h", "ell", "o"}) CHECK(check.update(bytes_of(piece)).has_value());
  CHECK(check.verified().empty());
  CHECK(check.finish().has_value());
  CHECK(format_digests(check.verified()) == of_hello + ", " + of_hello_512);

  digest_check empty(promised(of_nothing));
  CHECK(empty.finish().has_value());
  CHECK(format_digests(empty.verified()) == of_nothing);
}

TEST_CASE("a body that is not is refused at its end, and what was promised and came is told") {
  digest_check check(promised(of_hello));
  CHECK(check.update(bytes_of("")).has_value());
  const auto judged = check.finish();
  REQUIRE_FALSE(judged.has_value());
  CHECK(judged.error().code == sluice::code::refused_by_check);
  CHECK(check.verified().empty());
  CHECK(check.explain_mismatch().status == 400);
  CHECK(check.explain_mismatch().text == "the body is not what Repr-Digest promised: " + of_hello +
                                             " was promised, " + of_nothing +
                                             " is what came; nothing of this upload was kept");
}

TEST_CASE("one broken promise of several is enough, also of two for one algorithm") {
  auto promises = promises_of(promising(of_hello, of_nothing));
  digest_check check(std::move(*promises));
  CHECK(check.update(bytes_of("hello")).has_value());
  CHECK_FALSE(check.finish().has_value());
  CHECK(check.explain_mismatch().text.starts_with("the body is not what Repr-Digest promised"));
}

TEST_CASE("nothing promised, nothing checked") {
  digest_check check({});
  CHECK(check.if_promised() == nullptr);
  CHECK(check.verified().empty());
}

}  // namespace
