#include "media_type.hpp"

#include <doctest/doctest.h>

namespace {

using sluiced::media_type_of;

TEST_CASE("the media type follows from the extension, whatever its case") {
  CHECK(media_type_of("a/b.html") == "text/html; charset=utf-8");
  CHECK(media_type_of("b.JPG") == "image/jpeg");
  CHECK(media_type_of("b.tar.gz") == "application/gzip");
}

TEST_CASE("what is not in the table is bytes") {
  for (const char* path : {"a", "a.unknown", "a.", "html", "dir.html/a", ""}) {
    CAPTURE(path);
    CHECK(media_type_of(path) == "application/octet-stream");
  }
}

}  // namespace
