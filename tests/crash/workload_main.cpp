// Publishes, replaces and removes names through sluice, or commits ranges of large files, and
// writes down what was promised when.
//
//   crash_workload --root DIR --log BLOCK_LOG --journal FILE [--backend ring|pool]
//     [--grouping WORD] [--manner MANNER] [--seed N] [--names N] [--rounds N] [--workers N]
//     [--engines N] [--solo-max N]
//
// Each name, and each range, belongs to one worker, so that its versions come one after the other;
// the workers run at once, spread over the engines, each of which has a thread. Manners, of which
// all but the first three break the promise and must be caught:
//   durable         all of it by publish
//   in_steps        the same promise by three calls, as a server that holds a lock for the naming
//   ranges          blocks of few files, by commits of their ranges (crash/ranges.hpp)
//   flushed_ranges  blocks that are acknowledged when they were handed to the kernel
//   stored          acknowledges what was only handed to the kernel
//   no_file_sync    syncs the directory, not the file
//   no_name_sync    syncs the file, not the directory
//   in_place        overwrites the published file itself, then syncs it
// Ends with 77 when the backend or the grouping is not to be had.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crash/content.hpp"
#include "crash/journal.hpp"
#include "crash/need.hpp"
#include "crash/ranges.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "sluice/stream.hpp"
#include "sluice/transfer.hpp"
#include "support/seeded_data.hpp"

namespace {

using crash::identity;
using crash::need;

struct cannot_run {
  std::string why;
};

class options {
 public:
  options(int count, char** arguments) {
    for (int i = 1; i + 1 < count; i += 2) values_[arguments[i]] = arguments[i + 1];
  }
  [[nodiscard]] std::string text(const std::string& name, const char* otherwise = nullptr) const {
    const auto found = values_.find(name);
    if (found != values_.end()) return found->second;
    if (otherwise == nullptr) throw std::runtime_error(name + " is missing");
    return otherwise;
  }
  [[nodiscard]] std::uint32_t number(const std::string& name, const char* otherwise) const {
    return static_cast<std::uint32_t>(std::stoul(text(name, otherwise)));
  }

 private:
  std::map<std::string, std::string> values_;
};

sluice::knobs settings(const options& wanted) {
  sluice::knobs k;
  const std::string grouping = wanted.text("--grouping", "");
  if (!grouping.empty()) {
    const sluice::result<void> set = k.set("sluice.commit.grouping", grouping);
    if (!set) throw cannot_run{"sluice.commit.grouping=" + grouping + " is not to be had"};
  }
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, std::string>>{
           {"sluice.backend", wanted.text("--backend", "auto")},
           {"sluice.commit.solo_max", wanted.text("--solo-max", "4")},
           {"sluice.memory.arena_bytes", "16M"},
           {"sluice.memory.block_bytes", "64K"}}) {
    need(k.set(name, value));
  }
  return k;
}

bool keeps_its_promise(const std::string& manner) {
  return manner == "durable" || manner == "in_steps";
}

struct plan {
  sluice::engine& engine;
  sluice::directory& root;
  crash::journal& promises;
  std::string manner;
  std::uint16_t seed;
  std::uint32_t rounds;
};

// A third of the names lie in a directory that their publisher makes.
std::string path_of(std::uint16_t name) {
  const std::string last = "n" + std::to_string(name);
  return name % 3 == 2 ? "d" + std::to_string(name % 4) + "/" + last : last;
}

sluice::task<sluice::directory> parent_of(plan& p, std::uint16_t name) {
  const std::string path = path_of(name);
  const std::size_t slash = path.find('/');
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  co_return need(co_await p.root.open_directory(parent, sluice::make_parents::yes));
}

std::string last_of(std::uint16_t name) { return "n" + std::to_string(name); }

sluice::task<void> send(sluice::stream to, std::vector<std::byte> bytes) {
  sluice::op_await sending = to.send(bytes);
  need(co_await sending);
}

// Through a socket, by either path; or written at once by its owner.
sluice::task<void> fill(plan& p, sluice::file& into, const identity& who,
                        support::seeded_random& random) {
  std::vector<std::byte> bytes = crash::content(who);
  if (random.one_in(4)) {
    sluice::op_await writing = into.write(bytes, 0);
    need(co_await writing);
    co_return;
  }
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::runtime_error("socketpair");
  }
  sluice::stream from = need(sluice::stream::adopt(p.engine, ends[0]));
  sluice::stream to = need(sluice::stream::adopt(p.engine, ends[1]));
  need(p.engine.set_knob("sluice.receive.path", random.one_in(2) ? "direct" : "copy"));
  sluice::receive_options body;
  body.length = bytes.size();
  p.engine.spawn(send(std::move(to), std::move(bytes)));
  need(co_await sluice::receive_to_file(from, into, body));
}

// The promise as it should be, and the ways to break it.
sluice::task<void> publish(plan& p, sluice::file& made, sluice::directory& in, std::string last) {
  sluice::publish_options how;
  if (p.manner == "no_name_sync") need(co_await made.commit());
  if (p.manner == "in_steps") need(co_await made.commit_to_publish(sluice::modified::now));
  if (p.manner != "durable") how.wanted = sluice::durability::stored;
  need(co_await sluice::publish(made, in, std::move(last), how));
  if (p.manner == "no_file_sync" || p.manner == "in_steps") need(co_await in.sync());
}

sluice::task<bool> overwrite_in_place(plan& p, sluice::directory& in, const identity& who) {
  const int fd = ::openat(in.fd(), last_of(who.name_number).c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) co_return false;
  sluice::file there = need(sluice::file::adopt(p.engine, fd));
  const std::vector<std::byte> bytes = crash::content(who);
  sluice::op_await cutting = there.truncate(0);
  need(co_await cutting);
  sluice::op_await writing = there.write(bytes, 0);
  need(co_await writing);
  need(co_await there.commit());
  co_return true;
}

sluice::task<void> make_version(plan& p, const identity& who, support::seeded_random& random) {
  const std::string path = path_of(who.name_number);
  p.promises.begin(path, who.version, static_cast<std::int64_t>(crash::content_bytes(who)));
  sluice::directory in = co_await parent_of(p, who.name_number);
  const bool replaced = p.manner == "in_place" && co_await overwrite_in_place(p, in, who);
  if (!replaced) {
    sluice::successor next = need(co_await in.create_for(last_of(who.name_number)));
    co_await fill(p, next.made, who, random);
    co_await publish(p, next.made, in, last_of(who.name_number));
  }
  p.promises.acknowledged(path, who.version);
}

sluice::task<void> remove_version(plan& p, const identity& who) {
  const std::string path = path_of(who.name_number);
  p.promises.begin(path, who.version, -1);
  need(co_await p.root.remove(path));
  p.promises.acknowledged(path, who.version);
}

struct owned_name {
  std::uint16_t number = 0;
  std::uint32_t version = 0;
  bool present = false;
};

sluice::task<void> work(plan& p, std::vector<owned_name> names, std::uint64_t seed) {
  support::seeded_random random(seed);
  for (std::uint32_t round = 0; round < p.rounds; ++round) {
    owned_name& n = names[random.below(names.size())];
    const identity next{p.seed, n.number, ++n.version};
    const bool removing = n.present && keeps_its_promise(p.manner) && random.one_in(8);
    if (removing) {
      co_await remove_version(p, next);
    } else {
      co_await make_version(p, next, random);
    }
    n.present = !removing;
  }
}

// With grouping=filesystem, what is tried is that grouping, or else the engine has said why not.
void check_grouping(const sluice::engine& engine, const std::string& refusal) {
  if (need(engine.settings().get("sluice.commit.grouping")) != "filesystem") return;
  if (engine.counters().get("sluice.commit.filesystem_syncs").value() > 0) return;
  if (refusal.empty()) throw std::runtime_error("grouping=filesystem, and syncfs was never used");
  std::printf("note: %s\n", refusal.c_str());
}

// The workers of one of the engines.
struct crew {
  std::uint32_t index;
  std::uint32_t engines;
  std::uint32_t workers;  // of all engines

  [[nodiscard]] bool has(std::uint32_t worker) const { return worker % engines == index; }
};

std::uint64_t chance_of(const plan& p, std::uint32_t worker) {
  return std::uint64_t{p.seed} << 16U | worker;
}

void begin_names(plan& p, const crew& own, std::uint32_t names) {
  std::vector<std::vector<owned_name>> owned(own.workers);
  for (std::uint32_t i = 0; i < std::max(names, own.workers); ++i) {
    owned[i % own.workers].push_back({.number = static_cast<std::uint16_t>(i)});
  }
  for (std::uint32_t i = 0; i < own.workers; ++i) {
    if (own.has(i)) p.engine.spawn(work(p, std::move(owned[i]), chance_of(p, i)));
  }
}

using ranged_files = std::vector<std::unique_ptr<crash::ranged_file>>;

sluice::task<void> begin_ranges(plan& p, const crew& own, ranged_files& files) {
  std::vector<crash::range> all;
  for (std::uint32_t i = 0; i < crash::files_of_ranges; ++i) {
    const std::uint32_t number = own.index * crash::files_of_ranges + i;
    std::string name = "r" + std::to_string(number);
    files.push_back(co_await crash::make_ranged_file(p.root, std::move(name)));
    for (crash::range& r : crash::ranges_of(*files.back(), number)) all.push_back(std::move(r));
  }
  // A crew's share of the workers takes turns with the ranges of both files.
  const std::uint32_t workers = (own.workers + own.engines - 1 - own.index) / own.engines;
  for (std::uint32_t i = 0; i < workers; ++i) {
    std::vector<crash::range> owned;
    for (std::size_t n = i; n < all.size(); n += workers) owned.push_back(all[n]);
    p.engine.spawn(crash::work_on_ranges(p.engine, std::move(owned), p.seed, chance_of(p, i),
                                         p.rounds, p.promises, p.manner == "ranges"));
  }
}

void run_crew(const options& wanted, crash::journal& promises, const crew& own) {
  std::string refusal;
  sluice::result<sluice::engine> made = sluice::engine::create(
      settings(wanted), [&refusal](sluice::log_level, std::string_view text) {
        if (text.starts_with("sluice.commit.grouping=filesystem is each here")) refusal = text;
      });
  if (!made) throw cannot_run{sluice::describe(made.error())};
  sluice::engine& engine = *made;
  std::optional<sluice::directory> root;
  engine.start(
      sluice::directory::open(engine, wanted.text("--root")),
      [&root](sluice::result<sluice::directory> opened) { root = need(std::move(opened)); });
  engine.run();
  plan p{engine,
         *root,
         promises,
         wanted.text("--manner", "durable"),
         static_cast<std::uint16_t>(wanted.number("--seed", "1")),
         wanted.number("--rounds", "20")};
  ranged_files files;
  if (p.manner.ends_with("ranges")) {
    engine.spawn(begin_ranges(p, own, files));
  } else {
    begin_names(p, own, wanted.number("--names", "12"));
  }
  engine.run();
  files.clear();
  check_grouping(engine, refusal);
}

void run(const options& wanted) {
  crash::journal promises(wanted.text("--journal"), wanted.text("--log"));
  const std::uint32_t engines = wanted.number("--engines", "1");
  const std::uint32_t workers = wanted.number("--workers", "1");
  promises.start();
  std::vector<std::future<void>> crews;
  for (std::uint32_t i = 0; i < engines; ++i) {
    crews.push_back(std::async(std::launch::async, [&wanted, &promises, i, engines, workers] {
      run_crew(wanted, promises, {.index = i, .engines = engines, .workers = workers});
    }));
  }
  for (std::future<void>& c : crews) c.get();
  promises.end();
}

}  // namespace

int main(int count, char** arguments) {
  // A flow that fails ends the program: tasks report by result, and here nothing may fail.
  std::set_terminate([] {
    try {
      if (const std::exception_ptr thrown = std::current_exception())
        std::rethrow_exception(thrown);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "crash_workload: %s\n", e.what());
    } catch (...) {
    }
    std::_Exit(1);
  });
  try {
    run(options(count, arguments));
  } catch (const cannot_run& reason) {
    std::fprintf(stderr, "skipped: %s\n", reason.why.c_str());
    return 77;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "crash_workload: %s\n", e.what());
    return 1;
  }
  return 0;
}
