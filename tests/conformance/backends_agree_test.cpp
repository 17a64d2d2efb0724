// A random program of file and socket operations has the same results on both backends, with the
// same seed, whatever capabilities are hidden.
#include <array>

#include "conformance/suite.hpp"

namespace {

using namespace conformance;

// What an operation said: what was done, the error or the number it gave.
using transcript = std::vector<std::string>;

template <class T>
std::string told(const sluice::result<T>& r) {
  if (!r) return sluice::code_name(r.error().code);
  if constexpr (std::is_same_v<T, std::size_t>) {
    return std::to_string(*r);
  } else {
    return "good";
  }
}

std::uint64_t digest(std::span<const std::byte> bytes) {
  std::uint64_t hash = 14'695'981'039'346'656'037U;
  for (const std::byte b : bytes) {
    hash = (hash ^ static_cast<std::uint64_t>(b)) * 1'099'511'628'211U;
  }
  return hash;
}

class program {
 public:
  program(sluice::engine& e, std::uint64_t seed) : engine_(e), random_(seed) {}

  sluice::task<bool> begin(std::filesystem::path folder) {
    sluice::result<sluice::directory> opened =
        co_await sluice::directory::open(engine_, folder.string());
    if (!opened) co_return false;
    root_ = std::move(*opened);
    stream_pair ends = stream_pair::local();
    streams_[0] = *sluice::stream::adopt(engine_, ends.take_ours());
    streams_[1] = *sluice::stream::adopt(engine_, ends.take_theirs());
    co_return true;
  }

  sluice::task<void> step() {
    switch (random_.below(14)) {
      case 0: co_await create(); break;
      case 1:
      case 2: co_await write(); break;
      case 3: co_await gather(); break;
      case 4: co_await read(); break;
      case 5: co_await resize(); break;
      case 6: co_await commit_or_close(); break;
      case 7:
      case 8: co_await publish(); break;
      case 9: co_await open(); break;
      case 10: co_await remove(); break;
      case 11: co_await make_directory(); break;
      case 12: co_await talk(); break;
      default: co_await listen(); break;
    }
  }

  transcript said;

 private:
  void say(std::string_view what, const std::string& answer) {
    said.push_back(std::string(what) + ": " + answer);
  }
  sluice::file& any_file() { return files_[random_.below(files_.size())]; }
  std::string any_name() {
    constexpr std::array<std::string_view, 9> names{"a",     "b",    "sub/a", "sub/b",   "sub",
                                                    "x/y/z", "../a", "",      "sub/../b"};
    return std::string(names[random_.below(names.size())]);
  }
  std::uint64_t any_offset() { return random_.below(random_.one_in(3) ? 600'000 : 5'000); }
  std::vector<std::byte> any_bytes(std::uint64_t most) {
    return pattern(random_.next(), 0, static_cast<std::size_t>(random_.below(most)));
  }

  sluice::task<void> create() {
    sluice::result<sluice::file> made = co_await root_.create();
    say("create", told(made));
    if (made) any_file() = std::move(*made);
  }

  sluice::task<void> write() {
    sluice::file& f = any_file();
    const std::uint64_t offset = any_offset();
    const std::vector<std::byte> bytes = any_bytes(random_.one_in(4) ? 400'000 : 3'000);
    if (!f) co_return;
    sluice::op_await writing = f.write(bytes, offset);
    const sluice::result<std::size_t> written = co_await writing;
    say("write", told(written));
  }

  sluice::task<void> gather() {
    sluice::file& f = any_file();
    const std::uint64_t offset = any_offset();
    std::vector<std::byte> bytes = any_bytes(50'000);
    std::vector<iovec> parts;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t piece = std::min<std::size_t>(random_.below(2'000), bytes.size() - at);
      parts.push_back({bytes.data() + at, piece});
      at += piece;
    }
    if (!f) co_return;
    sluice::op_await writing = f.write(std::span<iovec>(parts), offset);
    const sluice::result<std::size_t> written = co_await writing;
    say("writev", told(written));
  }

  sluice::task<void> read() {
    sluice::file& f = any_file();
    const std::uint64_t offset = any_offset();
    std::vector<std::byte> into(random_.below(100'000));
    if (!f) co_return;
    sluice::op_await reading = f.read(into, offset);
    const sluice::result<std::size_t> got = co_await reading;
    say("read", told(got) + " " + std::to_string(digest(into)));
  }

  sluice::task<void> resize() {
    sluice::file& f = any_file();
    const std::uint64_t bytes = any_offset();
    const bool reserving = random_.one_in(2);
    if (!f) co_return;
    if (reserving) {
      const sluice::result<void> reserved = co_await f.reserve(bytes);
      say("reserve", told(reserved));
    } else {
      sluice::op_await cutting = f.truncate(bytes);
      const sluice::result<std::size_t> cut = co_await cutting;
      say("truncate", told(cut));
    }
    const sluice::result<sluice::file_info> info = f.info();
    say("info", info ? std::to_string(info->bytes) : told(info));
  }

  sluice::task<void> commit_or_close() {
    sluice::file& f = any_file();
    const bool closing = random_.one_in(3);
    if (!f) co_return;
    if (closing) {
      const sluice::result<void> closed = co_await f.close();
      say("close", told(closed));
    } else {
      const sluice::result<void> committed = co_await f.commit();
      say("commit", told(committed));
    }
  }

  sluice::task<void> publish() {
    sluice::file& f = any_file();
    constexpr std::array<std::string_view, 6> names{"a", "b", "sub", "..", "a/b", "c"};
    std::string name(names[random_.below(names.size())]);
    sluice::publish_options options;
    if (random_.one_in(2)) options.existing = sluice::existing_name::keep;
    if (random_.one_in(4)) options.wanted = sluice::durability::stored;
    if (!f) co_return;
    const sluice::result<void> done = co_await sluice::publish(f, root_, name, options);
    say("publish " + name, told(done));
  }

  sluice::task<void> open() {
    const std::string name = any_name();
    sluice::result<sluice::file> opened = co_await root_.open_file(name);
    say("open_file " + name, told(opened));
    if (opened) any_file() = std::move(*opened);
  }

  sluice::task<void> remove() {
    const std::string name = any_name();
    const sluice::result<void> removed = co_await root_.remove(name);
    say("remove " + name, told(removed));
  }

  sluice::task<void> make_directory() {
    const std::string name = any_name();
    const auto make = random_.one_in(2) ? sluice::make_parents::yes : sluice::make_parents::no;
    const sluice::result<sluice::directory> made = co_await root_.open_directory(name, make);
    say("open_directory " + name, told(made));
  }

  sluice::task<void> talk() {
    const std::size_t side = random_.below(2);
    const std::vector<std::byte> bytes = any_bytes(9'000);
    if (pending_[1 - side] + bytes.size() > 60'000) co_return;  // would have to wait
    sluice::op_await sending = streams_[side].send(bytes);
    const sluice::result<std::size_t> sent = co_await sending;
    say("send", told(sent));
    if (sent) pending_[1 - side] += bytes.size();
  }

  sluice::task<void> listen() {
    const std::size_t side = random_.below(2);
    const bool full = random_.one_in(2);
    std::vector<std::byte> into(1 + random_.below(12'000));
    if (pending_[side] == 0 || (full && pending_[side] < into.size())) {
      // Nothing more will come: it has to time out, and keeps what had come.
      sluice::op_await waiting = streams_[side].recv(into, sluice::recv_mode::full, 3ms);
      const sluice::result<std::size_t> got = co_await waiting;
      say("recv in vain", told(got) + " after " + std::to_string(waiting.moved()));
      pending_[side] -= std::min<std::uint64_t>(pending_[side], waiting.moved());
      co_return;
    }
    sluice::op_await receiving =
        streams_[side].recv(into, full ? sluice::recv_mode::full : sluice::recv_mode::some);
    const sluice::result<std::size_t> got = co_await receiving;
    say("recv", told(got) + " " + std::to_string(digest(into)));
    if (got) pending_[side] -= *got;
  }

  sluice::engine& engine_;
  support::seeded_random random_;
  sluice::directory root_;
  std::array<sluice::file, 3> files_;
  std::array<sluice::stream, 2> streams_;
  std::array<std::uint64_t, 2> pending_{};
};

sluice::task<transcript> run_program(sluice::engine& e, std::filesystem::path folder,
                                     std::uint64_t seed, int steps) {
  program p(e, seed);
  const bool begun = co_await p.begin(folder);
  for (int i = 0; begun && i < steps; ++i) co_await p.step();
  co_return std::move(p.said);
}

// Every name below, with its content.
transcript tree_of(const world& w) {
  transcript found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(w.folder().path())) {
    const std::string name = std::filesystem::relative(entry.path(), w.folder().path()).string();
    if (entry.is_regular_file()) {
      found.push_back(name + " " + std::to_string(digest(content_of(entry.path().string()))));
    } else {
      found.push_back(name + "/");
    }
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace

TEST_CASE("both backends, and every fallback, give a random program the same results") {
  constexpr int steps = 120;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    std::optional<transcript> first;
    transcript first_tree;
    std::string first_name;
    for (const setting& on : every_setting_and_fallback()) {
      CAPTURE(on.name);
      CAPTURE(first_name);
      world w(on);
      const transcript said = w.run(run_program(w.engine(), w.folder().path(), seed, steps));
      w.settle();
      const transcript tree = tree_of(w);
      if (!first) {
        REQUIRE(said.size() > steps / 3);
        first = said;
        first_tree = tree;
        first_name = on.name;
        continue;
      }
      const auto [mine, theirs] = std::ranges::mismatch(said, *first);
      const std::string here = mine == said.end() ? "the end" : *mine;
      const std::string there = theirs == first->end() ? "the end" : *theirs;
      CHECK(here == there);
      CHECK(tree == first_tree);
    }
  }
}
