// Block writers on a disk that fails, takes less than it was given, or hangs.
#include "sluice/block_writer.hpp"

#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using namespace std::chrono_literals;
using sluice::block_access;
using sluice::block_writer;
using support::request_kind;

constexpr std::uint64_t blocks = 8;
constexpr std::uint64_t bytes_in_all = blocks * block_bytes;
constexpr std::array errors{EIO, ENOSPC};

// One way to carry the writes.
struct carriage {
  std::string backend;
  block_access access;
};

std::string name(const carriage& c) {
  return c.backend + (c.access == block_access::automatic ? ", direct" : ", page cache");
}

std::vector<carriage> every_carriage() {
  std::vector<carriage> all;
  for (const std::string& backend : support::backends()) {
    all.push_back({backend, block_access::page_cache});
    all.push_back({backend, block_access::automatic});
  }
  return all;
}

// An engine with a writer whose every block is a write, so that the k-th request is the k-th of
// them or near.
class writing_world : public conformance::world {
 public:
  writing_world(support::fault_fs& disk, const carriage& c)
      : world(conformance::setting{name(c), c.backend, disk.mount_point(), true, ""},
              {{"sluice.memory.block_bytes", "64K"},
               {"sluice.write.depth", "2"},
               {"sluice.write.delay_us", "10000000"}}),
        access_(c.access) {}

  sluice::file create(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    sluice::result<sluice::file> made = sluice::file::adopt(engine(), fd);
    REQUIRE(made.has_value());
    return std::move(*made);
  }
  sluice::result<block_writer> open(sluice::file& into, std::uint64_t merge_bytes = block_bytes) {
    const sluice::block_writer_options options{.merge_bytes = merge_bytes, .access = access_};
    const auto opening =
        [](sluice::file& f,
           sluice::block_writer_options o) -> sluice::task<sluice::result<block_writer>> {
      co_return co_await block_writer::open(f, o);
    };
    return run(opening(into, options));
  }
  block_writer writer_of(sluice::file& into, std::uint64_t merge_bytes = block_bytes) {
    sluice::result<block_writer> made = open(into, merge_bytes);
    REQUIRE(made.has_value());
    return std::move(*made);
  }
  // 0, or what post says.
  int post(block_writer& to, std::uint64_t offset) {
    sluice::lease block = engine().core().blocks().try_take();
    REQUIRE(block);
    support::fill_pattern(block.bytes(), 1, offset);
    const auto bytes = std::as_bytes(block.bytes());
    const sluice::result<void> posted = to.post(std::move(block), bytes, offset);
    return posted ? 0 : posted.error().code;
  }
  // Posts the blocks, the odd ones first.
  void post_all(block_writer& to) {
    for (const std::uint64_t first : {1U, 0U}) {
      for (std::uint64_t i = first; i < blocks; i += 2) CHECK(post(to, i * block_bytes) == 0);
    }
  }
  static sluice::task<int> flushed(block_writer& w, std::uint64_t offset, std::uint64_t length) {
    const sluice::result<void> done = co_await w.flush(offset, length);
    co_return done ? 0 : done.error().code;
  }
  int flush(block_writer& w) { return run(flushed(w, 0, sluice::op_no_offset)); }
  static sluice::task<int> committed(block_writer& w) {
    const sluice::result<void> done = co_await w.commit();
    co_return done ? 0 : done.error().code;
  }

 private:
  block_access access_;
};

template <class Body>
void in_every_carriage(support::fault_fs_options options, Body body) {
  on_fault_fs(options, [&](support::fault_fs& disk) {
    for (const carriage& c : every_carriage()) {
      CAPTURE(name(c));
      writing_world w(disk, c);
      body(disk, w, c);
    }
  });
}

// Of a write, at every border of a page, a byte before it and a byte behind; 1 and all but 1.
std::vector<std::uint32_t> sizes_around_pages(std::uint64_t write_bytes) {
  std::vector<std::uint32_t> all{1, 511, 512, 513};
  const auto end = static_cast<std::uint32_t>(write_bytes);
  for (std::uint32_t page = 4096; page < end; page += 4096) {
    for (const std::uint32_t size : {page - 1, page, page + 1}) all.push_back(size);
  }
  all.push_back(end - 1);
  return all;
}

bool is_whole(const std::string& path) {
  const std::vector<std::byte> content = conformance::content_of(path);
  return content.size() == bytes_in_all && support::is_pattern(content, 1, 0);
}

}  // namespace

TEST_CASE("whichever write fails, its error is the writer's end, and a new writer begins afresh") {
  in_every_carriage({}, [](support::fault_fs& disk, writing_world& w, const carriage&) {
    sluice::file into = w.create(w.at("file"));
    for (std::uint64_t round = 0; round < blocks * errors.size(); ++round) {
      const std::uint64_t k = round % blocks + 1;
      const int error = errors[round / blocks];
      CAPTURE(k);
      CAPTURE(error);
      disk.orders().reset();
      disk.orders().fail(request_kind::write, k, error);
      {
        block_writer writer = w.writer_of(into);
        w.post_all(writer);
        CHECK(w.flush(writer) == error);
        CHECK(w.flush(writer) == error);
        CHECK(w.post(writer, 0) == error);
      }
      w.settle();  // every block is back
      block_writer again = w.writer_of(into);
      w.post_all(again);
      CHECK(w.flush(again) == 0);
      CHECK(is_whole(w.at("file")));
    }
  });
}

TEST_CASE("what a failed writer has dropped is not published while that writer is there") {
  const auto publish = [](sluice::engine& e, sluice::file& f,
                          std::string folder) -> sluice::task<int> {
    sluice::result<sluice::directory> in = co_await sluice::directory::open(e, std::move(folder));
    if (!in) co_return in.error().code;
    const sluice::result<void> done = co_await sluice::publish(f, *in, "named");
    co_return done ? 0 : done.error().code;
  };
  in_every_carriage({}, [&publish](support::fault_fs& disk, writing_world& w, const carriage&) {
    sluice::file into = w.create(w.at("file"));
    disk.orders().reset();
    disk.orders().fail(request_kind::write, 1, ENOSPC);
    {
      block_writer writer = w.writer_of(into);
      w.post_all(writer);
      CHECK(w.flush(writer) == ENOSPC);
      CHECK(w.run(publish(w.engine(), into, w.folder().path())) == EBUSY);
    }
    w.settle();
    CHECK(w.run(publish(w.engine(), into, w.folder().path())) != EBUSY);
  });
}

TEST_CASE("a commit over a sync that fails is durability_unknown, now and at every later commit") {
  in_every_carriage({}, [](support::fault_fs& disk, writing_world& w, const carriage&) {
    for (const int error : errors) {
      CAPTURE(error);
      disk.orders().reset();
      disk.orders().fail(request_kind::sync, 1, error);
      sluice::file into = w.create(w.at("file"));
      block_writer writer = w.writer_of(into);
      w.post_all(writer);
      CHECK(w.run(writing_world::committed(writer)) == sluice::code::durability_unknown);
      CHECK(w.run(writing_world::committed(writer)) == sluice::code::durability_unknown);
      CHECK(disk.orders().of(request_kind::sync).seen == 1);
      CHECK(w.engine().clear_suspects() == 1);
    }
  });
}

TEST_CASE("a disk that fails from some write on fails the writer once") {
  in_every_carriage({}, [](support::fault_fs& disk, writing_world& w, const carriage&) {
    disk.orders().reset();
    disk.orders().fail(request_kind::write, 3, 1 << 30, ENOSPC);
    sluice::file into = w.create(w.at("file"));
    block_writer writer = w.writer_of(into);
    w.post_all(writer);
    CHECK(w.flush(writer) == ENOSPC);
    CHECK(w.counter("sluice.write.failures") <= 2);  // the depth: none was begun afterwards
  });
}

TEST_CASE("the file is byte-exact when writes are cut anywhere around the borders of pages") {
  const support::fault_fs_options options{.direct_io = true, .wait_for_direct = true};
  in_every_carriage(options, [](support::fault_fs& disk, writing_world& w, const carriage&) {
    // Writes of a block each, and of four merged: those end inside one of their vectors.
    for (const std::uint64_t merge_bytes : {block_bytes, 4 * block_bytes}) {
      const std::uint64_t merged_before = w.counter("sluice.write.merged");
      for (const std::uint32_t short_bytes : sizes_around_pages(merge_bytes)) {
        CAPTURE(merge_bytes);
        CAPTURE(short_bytes);
        disk.orders().reset();
        disk.orders().short_bytes = short_bytes;
        disk.orders().short_every = short_bytes % 3 == 0 && short_bytes > 4096 ? 1 : 2;
        sluice::file into = w.create(w.at("file"));
        block_writer writer = w.writer_of(into, merge_bytes);
        w.post_all(writer);
        CHECK(w.flush(writer) == 0);
        CHECK(is_whole(w.at("file")));
        CHECK(disk.orders().shortened.load() > 0);
      }
      CHECK((w.counter("sluice.write.merged") > merged_before) == (merge_bytes > block_bytes));
    }
  });
}

TEST_CASE("direct writes are direct and aligned, the odd ones between them are not") {
  in_every_carriage({}, [](support::fault_fs& disk, writing_world& w, const carriage& c) {
    disk.orders().reset();
    disk.orders().direct_unit = 4096;
    sluice::file into = w.create(w.at("file"));
    block_writer writer = w.writer_of(into);
    w.post_all(writer);
    sluice::lease block = w.engine().core().blocks().try_take();
    support::fill_pattern(block.bytes(), 1, 1000);
    const auto odd = std::as_bytes(block.bytes()).first(5000);
    CHECK(writer.post(std::move(block), odd, 1000).has_value());
    CHECK(w.flush(writer) == 0);
    CHECK(is_whole(w.at("file")));
    CHECK(disk.orders().misaligned.load() == 0);
    CHECK((disk.orders().direct_writes.load() > 0) == (c.access == block_access::automatic));
  });
}

TEST_CASE("while the disk hangs, blocks are read, other disks are written, and the writer may go") {
  in_every_carriage({}, [](support::fault_fs& disk, writing_world& w, const carriage&) {
    const std::unique_ptr<support::temp_dir> healthy =
        conformance::temp_dir_in(std::filesystem::current_path().string());
    {
      sluice::file into = w.create(w.at("file"));
      sluice::file elsewhere = w.create(healthy->at("file"));
      // A direct write that makes the file longer holds up who submits it, on FUSE.
      REQUIRE(::ftruncate(into.fd(), bytes_in_all) == 0);
      std::optional<block_writer> writer(w.writer_of(into));
      block_writer other = w.writer_of(elsewhere);
      disk.orders().reset();
      disk.orders().of(request_kind::write).stop_at = 1;
      std::optional<int> told;
      w.post_all(*writer);
      const sluice::task_handle flushing = w.engine().start(
          writing_world::flushed(*writer, 0, bytes_in_all), [&told](int c) { told = c; });
      w.until([&disk] { return disk.has_stopped(0ms); });

      w.post_all(other);
      CHECK(w.flush(other) == 0);
      CHECK(is_whole(healthy->at("file")));
      std::vector<std::byte> seen(bytes_in_all);
      CHECK(writer->try_read(seen, 0));
      CHECK(support::is_pattern(seen, 1, 0));
      CHECK_FALSE(told.has_value());

      w.engine().cancel(flushing);
      w.until([&told] { return told.has_value(); });
      CHECK(*told == ECANCELED);
      writer.reset();
      for (int i = 0; i < 3; ++i) w.engine().run_once(1ms);
      CHECK(w.counter("sluice.memory.leases_in_use") == 2);    // the depth: the kernel has them
      const sluice::result<block_writer> next = w.open(into);  // whose writes these might replace
      REQUIRE_FALSE(next.has_value());
      CHECK(next.error().code == EBUSY);
    }
    disk.resume();
    w.settle();
  });
}

namespace {

// Posts that many blocks, one after the other, as a flow does that waits for room and for memory.
sluice::task<int> post_many(sluice::engine& e, block_writer& to, std::uint64_t first,
                            std::uint64_t many, std::uint64_t step) {
  for (std::uint64_t i = first; i < many; i += step) {
    sluice::lease_await leasing = e.acquire_block();
    sluice::result<sluice::lease> block = co_await leasing;
    if (!block) co_return block.error().code;
    while (!to.has_room()) {
      const sluice::result<void> room = co_await to.room();
      if (!room) co_return room.error().code;
    }
    support::fill_pattern(block->bytes(), 1, i * block_bytes);
    const auto bytes = std::as_bytes(block->bytes());
    const sluice::result<void> posted = to.post(std::move(*block), bytes, i * block_bytes);
    if (!posted) co_return posted.error().code;
  }
  co_return 0;
}

}  // namespace

TEST_CASE("one file on a disk that hangs takes neither all memory nor all workers") {
  constexpr std::uint64_t many = 500;  // several times the arena
  constexpr std::uint64_t flows = 3;
  in_every_carriage({}, [](support::fault_fs& disk, writing_world& w, const carriage&) {
    const std::unique_ptr<support::temp_dir> healthy =
        conformance::temp_dir_in(std::filesystem::current_path().string());
    sluice::file into = w.create(w.at("file"));
    sluice::file elsewhere = w.create(healthy->at("file"));
    REQUIRE(::ftruncate(into.fd(), many * block_bytes) == 0);
    const sluice::buffer_class& memory = w.engine().core().blocks();
    REQUIRE(memory.blocks() < many / 3);
    {
      block_writer writer = w.writer_of(into);
      block_writer other = w.writer_of(elsewhere);
      disk.orders().reset();
      disk.orders().of(request_kind::write).stop_at = 1;
      std::uint64_t held_up = 0;
      for (std::uint64_t i = 0; i < flows; ++i) {
        w.engine().start(post_many(w.engine(), writer, i, many, flows), [&held_up](int code) {
          CHECK(code == 0);
          ++held_up;
        });
      }
      w.until([&disk] { return disk.has_stopped(0ms); });
      for (int i = 0; i < 50; ++i) w.engine().run_once(2ms);
      CHECK(memory.free_blocks() >= memory.blocks() / 8);
      CHECK(held_up == 0);

      std::optional<int> told;
      w.engine().start(post_many(w.engine(), other, 0, many, 1), [&told](int c) { told = c; });
      w.until([&told] { return told.has_value(); }, 20s);
      CHECK(told == 0);
      if (told) CHECK(w.flush(other) == 0);
      CHECK(support::is_pattern(conformance::content_of(healthy->at("file")), 1, 0));
      CHECK(held_up == 0);

      disk.resume();
      w.until([&held_up] { return held_up == flows; });
      CHECK(w.flush(writer) == 0);
    }
    w.settle();
    CHECK(support::is_pattern(conformance::content_of(w.at("file")), 1, 0));
  });
}
