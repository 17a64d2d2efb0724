#include "torrent_file.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "support/temp_dir.hpp"

namespace {

constexpr std::uint64_t piece_bytes = 16 << 10;

}  // namespace

TEST_CASE("a file is described with its name and the digests of its pieces") {
  support::temp_dir dir;
  dir.write("data", std::string(40'000, 'x'));
  const auto described = bt::describe_path(dir.at("data"), piece_bytes);
  REQUIRE(described);
  const auto of = bt::parse_metainfo(*described);
  REQUIRE_MESSAGE(of, of.error());
  CHECK(of->name == "data");
  CHECK(of->files[0].bytes == 40'000);
  REQUIRE(of->pieces.size() == 3);
  const std::string first(piece_bytes, 'x');
  CHECK(of->pieces[0] == bt::sha1_of(std::as_bytes(std::span(first))));
  CHECK(of->pieces[2] != of->pieces[1]);
}

TEST_CASE("a directory is described with the files beneath it, in order, empty ones too") {
  support::temp_dir dir;
  std::filesystem::create_directories(dir.at("top/b/c"));
  dir.write("top/b/c/deep", "deep");
  dir.write("top/a", "a");
  dir.write("top/empty", "");
  const auto of = bt::parse_metainfo(bt::describe_path(dir.at("top/"), piece_bytes).value());
  REQUIRE(of);
  REQUIRE(of->files.size() == 3);
  CHECK(of->files[0].path == "top/a");
  CHECK(of->files[1].path == "top/b/c/deep");
  CHECK(of->files[2].path == "top/empty");
}

TEST_CASE("what no torrent can hold is refused by name") {
  support::temp_dir dir;
  CHECK(bt::describe_path(dir.at("none"), piece_bytes).error().contains("none: No such file"));
  std::filesystem::create_directory(dir.at("top"));
  CHECK(bt::describe_path(dir.at("top"), piece_bytes).error().contains("no content"));
  dir.write("top/empty", "");
  CHECK(bt::describe_path(dir.at("top"), piece_bytes).error().contains("no content"));
  dir.write("top/a\nb", "x");
  CHECK(bt::describe_path(dir.at("top"), piece_bytes).error().contains("control character"));
  std::filesystem::remove(dir.at("top/a\nb"));
  REQUIRE(::mkfifo(dir.at("top/fifo").c_str(), 0600) == 0);
  CHECK(bt::describe_path(dir.at("top"), piece_bytes).error().contains("neither a file"));
  CHECK(bt::describe_path(dir.at("top/fifo"), piece_bytes).error().contains("neither a file"));
  std::filesystem::remove(dir.at("top/fifo"));
}

TEST_CASE("pieces so many that get refuses the torrent are refused with a length that is enough") {
  support::temp_dir dir;
  dir.write("vast", "");
  std::filesystem::resize_file(dir.at("vast"), std::uint64_t{100} << 30);  // a hole
  const std::string why = bt::describe_path(dir.at("vast"), piece_bytes).error();
  CHECK(why.contains("longer than the 64 MiB that get takes; use --piece-bytes 32K"));
}

TEST_CASE("a torrent that cannot be read is named with the reason") {
  support::temp_dir dir;
  CHECK(bt::read_torrent(dir.at("none")).error() == dir.at("none") + ": No such file or directory");
  CHECK(bt::read_torrent(dir.path()).error().contains("no regular file"));
  dir.write("bad", "d4:infoi1ee");
  CHECK(bt::read_torrent(dir.at("bad")).error() ==
        dir.at("bad") + ": no usable torrent: it has no info");
}
