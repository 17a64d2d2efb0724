// sluice-bt: fetches the files of a torrent from peers named on the command line, and gives them
// out.
//
//   main              the command line; transfer: get and seed; make
//   bencode, metainfo, layout: what a .torrent file says (no I/O); torrent_file: on the disk
//   wire, bitfield    messages (no I/O)
//   picker, pace      which block from whom, how many at a time (no I/O)
//   session           one torrent in transfer; peer, upload: one connection of it
//   patience, blame   when it is given up; who is talked to no more (no I/O)
//   piece_checker     digests of pieces as they arrive; disk_check, sha1: as they lie there
//   disk_survey       what is there at the start
//   store             the files; staging: blocks that are not aligned in theirs
//   progress          what is shown
#include <CLI/CLI.hpp>
#include <string>

#include "commands.hpp"

namespace {

constexpr int status_usage = 2;

void describe_knobs(CLI::App& command, bt::command_line& given) {
  command.add_option("--set", given.settings, "knob=value; `sluicectl -a` lists the knobs")
      ->take_all()
      ->allow_extra_args(false);
}

void describe_cache(CLI::App& command, bt::command_line& given) {
  command
      .add_option("--cache", given.cache,
                  "What is given out is read through the page cache (cached), or around it by "
                  "O_DIRECT where the filesystem can (direct)")
      ->check(CLI::IsMember({"cached", "direct"}))
      ->capture_default_str();
}

void describe_get(CLI::App& app, bt::command_line& given) {
  CLI::App* get = app.add_subcommand("get", "Fetches the torrent's files");
  get->add_option("FILE", given.torrent, "The .torrent file")->required();
  get->add_option("--peer", given.peers, "HOST:PORT of a peer; as many as there are")
      ->required()
      ->type_name("HOST:PORT");
  get->add_option("--out", given.directory,
                  "Where the files come to stand; continues what is there")
      ->required()
      ->type_name("DIR");
  get->add_option("--listen", given.listen, "ADDR:PORT to be connected to meanwhile");
  get->add_option("--give-up", given.give_up_seconds,
                  "Seconds to wait while no peer sends anything")
      ->check(CLI::Range(1U, 86'400U))
      ->capture_default_str();
  get->add_option("--answer", given.answer_seconds,
                  "Seconds after which a peer is dropped that sends none of what it was asked for; "
                  "one that takes nothing of what it has asked for has twice as long")
      ->check(CLI::Range(1U, 86'400U))
      ->capture_default_str();
  get->add_option(
         "--keep-alive", given.keep_alive_seconds,
         "Seconds without a word of ours after which a peer is told that we are still here")
      ->check(CLI::Range(1U, 120U))
      ->capture_default_str();
  describe_cache(*get, given);
  describe_knobs(*get, given);
}

void describe_seed(CLI::App& app, bt::command_line& given) {
  CLI::App* seed = app.add_subcommand("seed", "Gives the torrent's files to whoever connects");
  seed->add_option("FILE", given.torrent, "The .torrent file")->required();
  seed->add_option("--data", given.directory, "Where the files are")->required()->type_name("DIR");
  seed->add_option("--listen", given.listen, "ADDR:PORT; port 0: the kernel chooses")->required();
  describe_cache(*seed, given);
  describe_knobs(*seed, given);
}

void describe_make(CLI::App& app, bt::command_line& given) {
  CLI::App* make = app.add_subcommand("make", "Makes a .torrent file");
  make->add_option("FILE", given.torrent, "The .torrent file to be written")->required();
  make->add_option("PATH", given.path, "A file, or a directory with all beneath it")->required();
  make->add_option("--piece-bytes", given.piece_bytes, "A power of two, 16K to 64M")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "sluice-bt: a BitTorrent peer over TCP. It connects to the peers it is told of and to no "
      "others: no trackers, no DHT, no peer exchange, no encryption, no version 2.");
  bt::command_line given;
  describe_get(app, given);
  describe_seed(app, given);
  describe_make(app, given);
  app.require_subcommand(1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : status_usage;
  }
  if (app.got_subcommand("make")) return bt::make_torrent(given);
  return bt::transfer(given, app.got_subcommand("get"));
}
