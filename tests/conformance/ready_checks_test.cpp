// The checks that come with the library (include/sluice/openssl_check.hpp, xxhash_check.hpp): the
// hashes are the right ones, and a body with a wrong one is neither written whole nor published.
#include <sluice/openssl_check.hpp>
#include <sluice/xxhash_check.hpp>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string hex(std::span<const std::byte> bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += digits[std::to_integer<std::size_t>(b >> 4)];
    text += digits[std::to_integer<std::size_t>(b & std::byte{15})];
  }
  return text;
}

std::string digest_of(const EVP_MD* algorithm, std::string_view body, std::size_t piece) {
  sluice::openssl_check check(algorithm);
  for (std::size_t at = 0; at < body.size(); at += piece)
    REQUIRE(check.update(bytes_of(body.substr(at, piece))).has_value());
  CHECK(check.digest().empty());
  REQUIRE(check.finish().has_value());
  return hex(check.digest());
}

// Publishes `sent` if the check lets it pass; the error otherwise.
int upload_with(world& w, std::span<const std::byte> sent, sluice::body_check& check) {
  stream_pair ends = stream_pair::tcp();
  peer sender(ends.take_theirs(), [sent](int fd) { send_all(fd, sent); });
  upload_request request{w.folder().path(), "body", {}};
  request.body.length = sent.size();
  request.body.check = &check;
  const uploaded u =
      w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
  w.settle();
  if (!u.outcome) return u.outcome.error().code;
  REQUIRE(u.published.has_value());
  return 0;
}

}  // namespace

TEST_CASE("digests are those of FIPS 180 in whatever pieces the body comes") {
  for (const std::size_t piece : {1, 2, 3}) {
    CAPTURE(piece);
    CHECK(digest_of(EVP_sha1(), "abc", piece) == "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK(digest_of(EVP_sha256(), "abc", piece) ==
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  }
  CHECK(digest_of(EVP_sha1(), "", 1) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
}

TEST_CASE("XXH3 of nothing, and of pieces as of the whole") {
  sluice::xxhash_check empty;
  CHECK_FALSE(empty.hash().has_value());
  REQUIRE(empty.finish().has_value());
  CHECK(empty.hash() == 0x2D06800538D394C2);
  const std::vector<std::byte> body = pattern(3, 0, 100'000);
  const std::uint64_t whole = XXH3_64bits(body.data(), body.size());
  for (const std::size_t piece : {std::size_t{1}, std::size_t{777}, body.size()}) {
    sluice::xxhash_check check(whole);
    for (std::size_t at = 0; at < body.size(); at += piece) {
      const std::size_t length = std::min(piece, body.size() - at);
      REQUIRE(check.update(std::span(body).subspan(at, length)).has_value());
    }
    CHECK(check.finish().has_value());
  }
}

TEST_CASE("what is not an algorithm, or not its length, lets nothing pass") {
  sluice::openssl_check none(nullptr);
  CHECK(none.update(bytes_of("x")).error().code == ENOMEM);
  CHECK(none.finish().error().code == ENOMEM);
  sluice::openssl_check shorter(EVP_sha1(), bytes_of("abc"));
  CHECK(shorter.finish().error().code == code::refused_by_check);
}

TEST_CASE("a body with the expected hash is published, another one is refused") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    std::vector<std::byte> sent = pattern(4, 0, 700'001);
    std::array<std::byte, 20> digest{};
    REQUIRE(EVP_Digest(sent.data(), sent.size(), reinterpret_cast<unsigned char*>(digest.data()),
                       nullptr, EVP_sha1(), nullptr) == 1);
    const std::uint64_t hash = XXH3_64bits(sent.data(), sent.size());
    for (const bool damaged : {false, true}) {
      CAPTURE(damaged);
      if (damaged) sent[512'345] ^= std::byte{1};
      sluice::openssl_check by_digest(EVP_sha1(), digest);
      sluice::xxhash_check by_hash(hash);
      for (sluice::body_check* check : {static_cast<sluice::body_check*>(&by_digest),
                                        static_cast<sluice::body_check*>(&by_hash)}) {
        CHECK(upload_with(w, sent, *check) == (damaged ? code::refused_by_check : 0));
        CHECK(w.names().size() == (damaged ? 0 : 1));
        std::filesystem::remove(w.at("body"));
      }
    }
  }
}
