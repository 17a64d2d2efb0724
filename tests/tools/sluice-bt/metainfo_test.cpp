#include "metainfo.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "bencode.hpp"

namespace {

std::string coded(std::string_view text) {
  std::string to;
  bt::append_text(to, text);
  return to;
}

std::string digests(std::size_t count) { return coded(std::string(20 * count, 'h')); }

std::string with_info(const std::string& info) { return "d4:infod" + info + "ee"; }

std::string one_file(const std::string& length, std::size_t pieces,
                     const std::string& piece_length = "i100e", const std::string& name = "name") {
  return with_info("6:length" + length + "4:name" + coded(name) + "12:piece length" + piece_length +
                   "6:pieces" + digests(pieces));
}

// Of 100 bytes each.
std::string many_files(const std::vector<std::string>& paths, std::size_t pieces) {
  std::string list;
  for (const std::string& path : paths) list += "d6:lengthi100e4:path" + path + "e";
  return with_info("5:filesl" + list + "e4:name1:t12:piece lengthi100e6:pieces" + digests(pieces));
}

std::string refusal(const std::string& input) {
  const auto parsed = bt::parse_metainfo(input);
  return parsed ? "" : parsed.error();
}

}  // namespace

TEST_CASE("a torrent of one file says its name, lengths and digests") {
  const auto of = bt::parse_metainfo(one_file("i250e", 3));
  REQUIRE(of);
  CHECK(of->name == "name");
  REQUIRE(of->files.size() == 1);
  CHECK(of->files[0].path == "name");
  CHECK(of->files[0].bytes == 250);
  CHECK(of->piece_bytes == 100);
  REQUIRE(of->pieces.size() == 3);
  CHECK(of->pieces[2][19] == std::byte{'h'});
  CHECK(of->layout().pieces() == 3);
}

TEST_CASE("the info hash is that of the info as it stands there") {
  const std::string input = one_file("i250e", 3);
  const std::string_view info = std::string_view(input).substr(7, input.size() - 8);
  CHECK(bt::parse_metainfo(input)->info_hash == bt::sha1_of(std::as_bytes(std::span(info))));
  // Other keys around it do not matter, others in it do.
  std::string around = input;
  around.insert(1, "8:announce3:url");
  CHECK(bt::parse_metainfo(around)->info_hash == bt::parse_metainfo(input)->info_hash);
}

TEST_CASE("a torrent of several files puts them beneath its name") {
  const auto of = bt::parse_metainfo(many_files({"l1:a1:be", "l1:ce"}, 2));
  REQUIRE(of);
  REQUIRE(of->files.size() == 2);
  CHECK(of->files[0].path == "t/a/b");
  CHECK(of->files[1].path == "t/c");
}

TEST_CASE("pad files have a length and no path, so that they may be named alike") {
  std::string input = many_files({"l1:ae", "l1:pe", "l1:pe", "l1:be"}, 4);
  for (std::size_t at = 0; (at = input.find("d6:lengthi100e4:pathl1:p", at)) != input.npos; ++at)
    input.insert(at + 1, "4:attr1:p");
  const auto of = bt::parse_metainfo(input);
  REQUIRE(of);
  REQUIRE(of->files.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(of->files[i].bytes == 100);
    CHECK(of->files[i].pad == (i == 1 || i == 2));
    CHECK(of->files[i].path.empty() == of->files[i].pad);
  }
}

TEST_CASE("paths that lead out are refused") {
  CHECK(refusal(many_files({"l2:..1:ae"}, 1)) == "a file's name leads out of its place");
  CHECK(refusal(many_files({"l1:.e"}, 1)) == "a file's name leads out of its place");
  CHECK(refusal(many_files({"l0:1:ae"}, 1)) == "a file's name is empty");
  CHECK(refusal(many_files({"l4:/etce"}, 1)) == "a file's name has a '/' in it");
  CHECK(refusal(many_files({"l3:a/be"}, 1)) == "a file's name has a '/' in it");
  CHECK(refusal(many_files({"l2:a\ne"}, 1)) == "a file's name has a control character in it");
  CHECK(refusal(many_files({"l2:a" + std::string(1, '\0') + "e"}, 1)) ==
        "a file's name has a control character in it");
  CHECK(refusal(many_files({"le"}, 1)) == "a file has no path");
  CHECK(refusal(many_files({"li1ee"}, 1)) == "a file's path is not text");
  CHECK(refusal(many_files({"l" + coded(std::string(256, 'x')) + "e"}, 1)) ==
        "a file's name is too long");
  std::string deep;
  for (int i = 0; i < 20; ++i) deep += coded(std::string(255, 'x'));
  CHECK(refusal(many_files({"l" + deep + "e"}, 1)) == "a file's path is too long");
  CHECK(refusal(one_file("i250e", 3, "i100e", "..")) == "a file's name leads out of its place");
  CHECK(refusal(one_file("i250e", 3, "i100e", "a/b")) == "a file's name has a '/' in it");
}

TEST_CASE("files that need the same path are refused") {
  const std::string met = "two of its files have the same path";
  CHECK(refusal(many_files({"l1:ae", "l1:ae"}, 2)) == met);
  CHECK(refusal(many_files({"l1:ae", "l1:a1:be"}, 2)) == met);
  CHECK(refusal(many_files({"l1:a1:be", "l2:a-e", "l1:ae"}, 3)) == met);
  CHECK(refusal(many_files({"l1:ae", "l2:abe", "l2:a-1:be"}, 3)).empty());
}

TEST_CASE("the count of digests must be that of the pieces") {
  CHECK(refusal(one_file("i250e", 2)) == "it has 40 bytes of digests for 3 pieces");
  CHECK(refusal(one_file("i250e", 4)) == "it has 80 bytes of digests for 3 pieces");
  CHECK(refusal(one_file("i300e", 3)).empty());
  CHECK(refusal(with_info("6:lengthi250e4:name1:n12:piece lengthi100e6:pieces59:" +
                          std::string(59, 'h'))) == "it has 59 bytes of digests for 3 pieces");
}

TEST_CASE("lengths that cannot be are refused") {
  CHECK(refusal(one_file("i-1e", 0)) == "it has neither a length nor files");
  CHECK(refusal(one_file("i0e", 0)) == "it has no content");
  CHECK(refusal(one_file("i9223372036854775807e", 3)) == "its files are too long");
  CHECK(refusal(one_file("i250e", 3, "i0e")) == "it has no piece length");
  CHECK(refusal(one_file("i250e", 3, "i-5e")) == "it has no piece length");
  CHECK(refusal(one_file("i250e", 1, "i268435457e")) == "its pieces are longer than 256 MiB");
}

TEST_CASE("what is missing or of the wrong kind is named") {
  CHECK(refusal("le") == "it has no info");
  CHECK(refusal("d4:infolee") == "it has no info");
  CHECK(refusal(with_info("6:lengthi1e")) == "it has no name");
  CHECK(refusal(with_info("4:name1:n")) == "it has neither a length nor files");
  CHECK(refusal(with_info("5:filesle6:lengthi1e4:name1:n")) == "it has both a length and files");
  CHECK(refusal(with_info("5:filesle4:name1:n")) == "it has no files");
  CHECK(refusal(with_info("5:filesi1e4:name1:n")) == "its files are no list");
  CHECK(refusal(with_info("5:filesl1:xe4:name1:n")) == "a file has no length");
  CHECK(refusal(with_info("9:file treede6:lengthi1e4:name1:n12:piece lengthi100e")) ==
        "it is of version 2 only, which sluice-bt cannot read");
  CHECK(refusal("d4:info") == "no bencode: ends in the middle at byte 7");
  std::string link = many_files({"l1:ae"}, 1);
  link.replace(link.find("d6:length"), 1, "d4:attr1:l");
  CHECK(refusal(link) == "it has a symbolic link, which sluice-bt does not make");
}

TEST_CASE("what is written is read again, for one file and for several") {
  for (const std::string& input : {one_file("i250e", 3), many_files({"l1:a1:be", "l1:ce"}, 2)}) {
    const auto of = bt::parse_metainfo(input);
    REQUIRE(of);
    const std::string written = bt::write_metainfo(*of, of->files.size() == 1);
    const auto again = bt::parse_metainfo(written);
    REQUIRE(again);
    CHECK(again->info_hash == of->info_hash);
  }
}
