#include "chunk_decoder.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace {

using namespace sluiced;

// A copy, because the decoder moves small pieces together.
class coded {
 public:
  explicit coded(std::string text) : text_(std::move(text)) {}
  std::span<std::byte> part(std::size_t from, std::size_t to) {
    return std::as_writable_bytes(std::span(text_)).subspan(from, to - from);
  }
  std::size_t size() const { return text_.size(); }

 private:
  std::string text_;
};

std::string joined(const std::vector<iovec>& places) {
  std::string all;
  for (const iovec& place : places)
    all.append(static_cast<const char*>(place.iov_base), place.iov_len);
  return all;
}

bool is_malformed(std::string text) {
  coded in(std::move(text));
  chunk_decoder decoder;
  std::vector<iovec> places;
  decoder.feed(in.part(0, in.size()), places);
  return decoder.malformed();
}

TEST_CASE("chunks, extensions and trailers are read, wherever they are split") {
  const std::string text =
      "5\r\nhello\r\n00A;name=value\r\n, chunked!\r\n1 ; x=\"y\"\r\n?\r\n0;last\r\nDigest: "
      "x\r\nEtag: y\r\n\r\nGET /";
  const std::size_t coding_bytes = text.size() - 5;
  for (std::size_t split = 0; split <= text.size(); ++split) {
    CAPTURE(split);
    coded in(text);
    chunk_decoder decoder;
    std::vector<iovec> places;
    std::size_t read = decoder.feed(in.part(0, split), places);
    if (!decoder.ended()) read += decoder.feed(in.part(split, text.size()), places);
    CHECK(decoder.ended());
    CHECK(read == coding_bytes);
    CHECK(joined(places) == "hello, chunked!?");
    CHECK(decoder.body_bytes() == 16);
  }
}

TEST_CASE("a coding that comes byte by byte is the same coding") {
  const std::string text = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
  coded in(text);
  chunk_decoder decoder;
  std::vector<iovec> places;
  for (std::size_t i = 0; i < text.size(); ++i) {
    REQUIRE_FALSE(decoder.ended());
    CHECK(decoder.feed(in.part(i, i + 1), places) == 1);
  }
  CHECK(decoder.ended());
  CHECK(joined(places) == "abcde");
}

TEST_CASE("an empty body is one last chunk") {
  coded in("0\r\n\r\n");
  chunk_decoder decoder;
  std::vector<iovec> places;
  CHECK(decoder.feed(in.part(0, 5), places) == 5);
  CHECK(decoder.ended());
  CHECK(places.empty());
}

TEST_CASE("many small chunks become one place, large ones stay where they lie") {
  std::string text;
  std::string body;
  for (int i = 0; i < 5000; ++i) {
    text += "1\r\n";
    text.push_back(static_cast<char>('a' + i % 26));
    text += "\r\n";
    body.push_back(static_cast<char>('a' + i % 26));
  }
  const std::string large(8192, 'L');
  text += "2000\r\n" + large + "\r\n0\r\n\r\n";
  coded in(text);
  chunk_decoder decoder;
  std::vector<iovec> places;
  decoder.feed(in.part(0, in.size()), places);
  CHECK(decoder.ended());
  CHECK(places.size() == 2);
  CHECK(joined(places) == body + large);
}

TEST_CASE("what is not chunked coding is malformed") {
  for (const char* text : {"\r\n", "g\r\n", "-1\r\n", "0x5\r\n", "5\n", "5\rx", "5\r\nhelloX",
                           "5\r\nhello\n", "5 \r\n", "5 x\r\n", "5;a\nb", "0\r\n\n", "0\r\nA: b\n",
                           "0\r\n\rX", "11111111111111111\r\n", "5\r\nhello\r\n\r\n"}) {
    CAPTURE(text);
    CHECK(is_malformed(text));
  }
  CHECK_FALSE(is_malformed("fffffffffffffff\r\n"));
}

TEST_CASE("chunk heads and trailers have an end") {
  CHECK(is_malformed("1;" + std::string(2000, 'x')));
  CHECK(is_malformed(std::string(2000, '0')));
  std::string trailers = "0\r\n";
  for (int i = 0; i < 1000; ++i) trailers += "Field: value\r\n";
  CHECK(is_malformed(trailers));
}

}  // namespace
