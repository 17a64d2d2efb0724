#include "serve.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "serve_frames.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "sluice/knobs.hpp"
#include "sluice/relay.hpp"
#include "sluice/stream.hpp"
#include "sluice/transfer.hpp"

namespace bench {

namespace {

constexpr int status_usage = 2;

struct served {
  sluice::engine* engine = nullptr;
  sluice::directory home;
  std::string mode;
  std::string target;
  bool sync = false;
  unsigned connections = 0;
  sluice::receipt last;  // of the last transfer that ended well
  frame_service frames;  // of the modes discard, store and store_direct
};

std::uint64_t length_in(const std::array<std::byte, 8>& head) {
  std::uint64_t length = 0;
  for (std::size_t i = head.size(); i > 0; --i) {
    length = length << 8 | static_cast<std::uint64_t>(head[i - 1]);
  }
  return length;
}

// One object from the stream into a named file; durable before it returns when that is asked.
// --sync is a sync of the data, as the peers do; the mode durable also syncs the name.
sluice::task<sluice::result<void>> receive_object(served& s, sluice::stream& peer,
                                                  std::uint64_t length, std::string name) {
  auto file = co_await s.home.create();
  if (!file) co_return std::unexpected(file.error());
  sluice::receive_options options;
  options.length = length;
  auto moved = co_await sluice::receive_to_file(peer, *file, options);
  if (!moved) co_return std::unexpected(moved.error());
  s.last = *moved;
  sluice::publish_options how;
  how.wanted = s.mode == "durable" ? sluice::durability::durable : sluice::durability::stored;
  if (s.mode != "durable" && s.sync) {
    if (auto synced = co_await file->commit(); !synced) co_return synced;
  }
  co_return co_await sluice::publish(*file, s.home, std::move(name), how);
}

sluice::task<void> receive_objects(served& s, sluice::stream peer, unsigned connection) {
  std::array<std::byte, 8> head{};
  for (unsigned object = 0;; ++object) {
    const auto got = co_await peer.recv(head, sluice::recv_mode::full);
    if (!got || *got != head.size()) co_return;
    const auto done = co_await receive_object(s, peer, length_in(head),
                                              fmt::format("obj-{}-{}", connection, object));
    if (!done) fmt::print(stderr, "serve: {}\n", sluice::describe(done.error()));
    const std::byte answer{static_cast<unsigned char>(done ? 'k' : 'e')};
    const auto told = co_await peer.send({&answer, 1});
    if (!done || !told) co_return;
  }
}

sluice::task<void> send_objects(served& s, sluice::stream peer) {
  std::array<std::byte, 8> head{};
  auto file = co_await s.home.open_file("source");
  if (!file) {
    fmt::print(stderr, "serve: {}\n", sluice::describe(file.error()));
    co_return;
  }
  while (true) {
    const auto got = co_await peer.recv(head, sluice::recv_mode::full);
    if (!got || *got != head.size()) co_return;
    sluice::send_options options;
    options.length = length_in(head);
    options.content =
        sluice::file_content::unchanging;  // as sluiced's are: replaced, never written
    const auto moved = co_await sluice::send_from_file(peer, *file, options);
    if (!moved) {
      fmt::print(stderr, "serve: {}\n", sluice::describe(moved.error()));
      co_return;
    }
    s.last = *moved;
  }
}

// To a connection of its own to the target, and back.
sluice::task<void> relay_connection(served& s, sluice::stream peer) {
  auto target = co_await sluice::stream::connect(*s.engine, s.target);
  if (!target) {
    fmt::print(stderr, "serve: {}\n", sluice::describe(target.error()));
    co_return;
  }
  const auto done = co_await sluice::relay(peer, *target);
  if (!done) {
    fmt::print(stderr, "serve: {}\n", sluice::describe(done.error()));
    co_return;
  }
  s.last = done->to_second;
}

sluice::task<void> accept_all(served& s, sluice::listener listener) {
  while (true) {
    auto peer = co_await listener.accept();
    if (!peer && peer.error().code == ECANCELED) co_return;
    if (!peer) {
      fmt::print(stderr, "serve: {}\n", sluice::describe(peer.error()));
      co_await s.engine->sleep_for(std::chrono::milliseconds(10));
      continue;
    }
    if (s.mode == "relay") {
      s.engine->spawn(relay_connection(s, std::move(*peer)));
    } else if (s.mode == "send") {
      s.engine->spawn(send_objects(s, std::move(*peer)));
    } else if (s.frames.engine != nullptr) {
      s.engine->spawn(receive_frames(s.frames, std::move(*peer), s.connections++));
    } else {
      s.engine->spawn(receive_objects(s, std::move(*peer), s.connections++));
    }
  }
}

sluice::task<sluice::result<void>> begin(served& s, std::string dir, sluice::listener listener) {
  auto home = co_await sluice::directory::open(*s.engine, std::move(dir));
  if (!home) co_return std::unexpected(home.error());
  s.home = std::move(*home);
  fmt::print("listening on {}\n", listener.address());
  std::fflush(stdout);
  s.engine->spawn(accept_all(s, std::move(listener)));
  co_return sluice::result<void>{};
}

// What the bench reads after SIGTERM.
std::string summary_of(const served& s) {
  nlohmann::ordered_json all;
  all["backend"] = s.engine->backend_name();
  all["path"] = sluice::name(s.last.path);
  all["reason"] = s.last.reason;
  all["copies"] = s.last.copies;
  all["ops"] = s.last.ops;
  all["short_ops"] = s.last.short_ops;
  for (const sluice::counter_value& counter : s.engine->counters()) {
    all["counters"][std::string(counter.name)] = counter.value;
  }
  return all.dump();
}

struct command_line {
  std::string listen = "127.0.0.1:0";
  std::string dir;
  std::string mode;
  std::string target;
  bool sync = false;
  bool check = false;
  std::string block;
  std::string depth;
  std::vector<std::string> settings;
};

// Defaults and the command line only: what the machine's files say must not change a figure.
bool settings_of(const command_line& given, sluice::knobs& knobs) {
  std::vector<std::pair<std::string, std::string>> wanted;
  if (!given.block.empty()) wanted.emplace_back("sluice.memory.block_bytes", given.block);
  const std::string transfer = given.mode == "send" ? "send" : "receive";
  if (!given.depth.empty()) wanted.emplace_back("sluice." + transfer + ".depth", given.depth);
  for (const std::string& setting : given.settings) {
    const std::size_t equals = setting.find('=');
    wanted.emplace_back(setting.substr(0, equals),
                        equals == setting.npos ? "" : setting.substr(equals + 1));
  }
  for (const auto& [name, value] : wanted) {
    if (const auto set = knobs.set(name, value); !set) {
      fmt::print(stderr, "serve: {}\n", sluice::explain_refusal(name, value, set.error()));
      return false;
    }
  }
  return true;
}

int run(served& s, const command_line& given, sluice::engine& engine) {
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  auto listener = sluice::listener::open(engine, given.listen);
  if (!listener) {
    fmt::print(stderr, "serve: {}\n", sluice::describe(listener.error()));
    return 1;
  }
  int status = 0;
  engine.start(begin(s, given.dir, std::move(*listener)), [&](sluice::result<void> begun) {
    if (begun) return;
    fmt::print(stderr, "serve: {}\n", sluice::describe(begun.error()));
    status = 1;
  });
  std::thread([ending, &engine] {
    int number = 0;
    while (sigwait(&ending, &number) != 0) continue;
    engine.post([&engine] { engine.cancel_all(); });
  }).detach();
  engine.run();
  if (status == 0) fmt::print("{}\n", summary_of(s));
  std::fflush(stdout);
  _exit(status);  // the thread above may still wait for its signal
}

}  // namespace

int serve_main(int argc, char** argv) {
  CLI::App app("sluice-bench serve: sluice's transfers behind the wire of the peers");
  command_line given;
  app.add_option("--listen", given.listen, "ADDR:PORT; port 0: the kernel chooses");
  app.add_option("--dir", given.dir, "Where objects go, and where source lies")->required();
  app.add_option("--mode", given.mode,
                 "receive, durable, send or relay; frames: discard, store or store_direct")
      ->required()
      ->check(CLI::IsMember(
          {"receive", "durable", "send", "relay", "discard", "store", "store_direct"}));
  app.add_option("--target", given.target, "relay: ADDR:PORT, connected to for each connection");
  app.add_flag("--check", given.check, "frames: sum every byte up, which costs time");
  app.add_flag("--sync", given.sync, "receive: fdatasync before the answer");
  app.add_option("--block", given.block, "sluice.memory.block_bytes");
  app.add_option("--depth", given.depth, "sluice.receive.depth, or .send.depth in mode send");
  app.add_option("--set", given.settings, "knob=value")->take_all()->allow_extra_args(false);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : status_usage;
  }
  sluice::knobs knobs;
  if (!settings_of(given, knobs)) return status_usage;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  auto engine = sluice::engine::create(knobs);
  if (!engine) {
    fmt::print(stderr, "serve: {}\n", sluice::describe(engine.error()));
    return 1;
  }
  served s;
  s.engine = &*engine;
  s.mode = given.mode;
  s.target = given.target;
  s.sync = given.sync;
  if (given.mode == "discard" || given.mode.starts_with("store")) {
    s.frames = {&*engine, &s.home, given.mode != "discard", given.mode == "store_direct",
                given.check};
  }
  return run(s, given, *engine);
}

}  // namespace bench
