// Random overlapping and adjacent ranges of one file by every path, against a model of what the
// file must be: in the manner of fsx. The seed is fixed; SLUICE_TEST_SEED takes another.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "conformance/download.hpp"
#include "sluice/file_copy.hpp"

namespace {

using namespace conformance;

constexpr std::uint64_t space = 300'000;

std::uint64_t seed() {
  const char* given = std::getenv("SLUICE_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20'261;
}

std::vector<std::string> paths_of(const setting& on) {
  if (on.direct) return {"direct", "copy", "splice", "mapped", "auto"};
  return {"copy", "splice", "mapped", "auto"};
}

sluice::file open_again(world& w) {
  const int fd = ::open(w.at("source").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

struct span_of {
  std::uint64_t offset;
  std::uint64_t length;
};

// Around pages and units, and anywhere.
std::uint64_t place(support::seeded_random& random) {
  const std::uint64_t anywhere = random.below(space);
  switch (random.below(4)) {
    case 0: return anywhere / 4096 * 4096;
    case 1: return anywhere / 512 * 512;
    case 2: return anywhere / 4096 * 4096 + random.below(3);
    default: return anywhere;
  }
}

span_of choose(support::seeded_random& random) {
  const std::uint64_t a = place(random);
  const std::uint64_t b = place(random);
  const std::uint64_t longest = random.one_in(3) ? space : 20'000;
  return {std::min(a, b), std::min(std::max(a, b) - std::min(a, b), longest)};
}

void apply(std::vector<std::byte>& model, std::uint64_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
  std::ranges::copy(bytes, model.begin() + static_cast<std::ptrdiff_t>(offset));
}

// The same for a forced path that a range without a page of its own cannot take.
bool has_no_page(const sluice::result<sluice::receipt>& r) {
  return !r && r.error().code == sluice::code::path_unavailable &&
         std::string_view(r.error().where) == "the range has no page of its own";
}

class writer {
 public:
  writer(world& w, sluice::file& into, const std::string& path, const span_of& range,
         std::uint64_t number)
      : ends_(stream_pair::tcp()),
        from_(adopt(w.engine(), ends_.take_ours())),
        body_(pattern(number, 0, range.length)) {
    REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
    sluice::receive_options options = of_length(range.length);
    options.offset = range.offset;
    options.prefix = std::span(body_).first(std::min<std::size_t>(body_.size(), number % 700));
    sender_.emplace(ends_.take_theirs(),
                    [rest = std::span<const std::byte>(body_).subspan(options.prefix.size()),
                     number](int fd) { put_dribbling(fd, rest, number); });
    w.engine().start(sluice::receive_to_file(from_, into, options),
                     [this](sluice::result<sluice::receipt> r) { told_.emplace(std::move(r)); });
  }
  writer(const writer&) = delete;
  writer& operator=(const writer&) = delete;
  [[nodiscard]] bool ended() const { return told_.has_value(); }
  [[nodiscard]] const sluice::result<sluice::receipt>& outcome() const { return *told_; }
  [[nodiscard]] std::span<const std::byte> body() const { return body_; }

 private:
  stream_pair ends_;
  sluice::stream from_;
  std::vector<std::byte> body_;
  std::optional<peer> sender_;
  std::optional<sluice::result<sluice::receipt>> told_;
};

void check_ended(const writer& w, std::vector<std::byte>& model, std::uint64_t offset) {
  if (has_no_page(w.outcome())) return;
  REQUIRE(w.outcome().has_value());
  apply(model, offset, w.body());
}

// A part of the model, sent by some path, be it written to since it was last sent.
void send_some(world& w, const setting& on, const std::vector<std::byte>& model,
               support::seeded_random& random) {
  std::vector<const char*> paths{"auto", "copy", "splice"};
  if (on.direct) paths.push_back("direct");
  const char* const path = paths[random.below(paths.size())];
  CAPTURE(path);
  const std::uint64_t from = random.below(model.size());
  const std::uint64_t bytes = random.below(model.size() - from) + 1;
  REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
  const sent s = send_range(w, conformance::range(from, bytes), take_all);
  REQUIRE(s.outcome.has_value());
  REQUIRE(same_bytes(s.arrived, std::span(model).subspan(from, bytes)));
}

// A part of the file to another place of it, behind its end, too; nothing where the two would meet.
void copy_some(world& w, sluice::file& file, std::vector<std::byte>& model,
               support::seeded_random& random) {
  constexpr std::array ways{"auto", "copy_file_range", "copy"};
  const std::uint64_t from = random.below(model.size());
  const std::uint64_t bytes = std::min<std::uint64_t>(model.size() - from, random.below(30'000));
  const std::uint64_t into = place(random);
  if (from < into + bytes && into < from + bytes) return;
  const char* const way = ways[random.below(ways.size())];
  CAPTURE(way);
  CAPTURE(from);
  CAPTURE(into);
  CAPTURE(bytes);
  REQUIRE(w.engine().set_knob("sluice.copy.path", way).has_value());
  const sluice::copy_options options{.length = bytes, .source_offset = from, .target_offset = into};
  const auto copied = w.run(sluice::copy_file(file, file, options));
  REQUIRE(copied.has_value());
  const std::vector<std::byte> moved(model.begin() + static_cast<std::ptrdiff_t>(from),
                                     model.begin() + static_cast<std::ptrdiff_t>(from + bytes));
  apply(model, into, moved);
}

void check_content(world& w, const std::vector<std::byte>& model) {
  const std::vector<std::byte> content = content_of(w.at("source"));
  REQUIRE(content.size() == model.size());
  REQUIRE(same_bytes(content, model));
}

}  // namespace

TEST_CASE("ranges written, sent and copied in turn by any paths leave what the model has") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.block_bytes", "64K"}, {"sluice.receive.direct_min_bytes", "8K"}});
    support::seeded_random random(seed());
    CAPTURE(seed());
    const std::vector<std::string> paths = paths_of(on);
    std::vector<std::byte> model;
    sluice::file into = open_again(w);
    for (std::uint64_t number = 1; number <= 80; ++number) {
      CAPTURE(number);
      const span_of range = choose(random);
      const std::string& path = paths[random.below(paths.size())];
      CAPTURE(path);
      CAPTURE(range.offset);
      CAPTURE(range.length);
      if (random.one_in(8)) into = open_again(w);
      writer one(w, into, path, range, number);
      w.until([&one] { return one.ended(); });
      check_ended(one, model, range.offset);
      check_content(w, model);
      if (model.empty()) continue;
      send_some(w, on, model, random);
      if (!random.one_in(2)) continue;
      copy_some(w, into, model, random);
      check_content(w, model);
    }
  }
}

TEST_CASE("neighbours that meet in a page, written at the same time by any paths, are both whole") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.block_bytes", "64K"}, {"sluice.receive.direct_min_bytes", "8K"}});
    support::seeded_random random(seed() + 1);
    CAPTURE(seed());
    const std::vector<std::string> paths = paths_of(on);
    std::vector<std::byte> model(space + 5, std::byte{7});
    make_file(w.at("source"), model);
    for (std::uint64_t number = 1; number <= 40; number += 4) {
      CAPTURE(number);
      // Four neighbours, whose borders are three places in a row, often in one page.
      std::array<std::uint64_t, 5> borders{};
      for (std::uint64_t& b : borders) b = place(random);
      if (random.one_in(2)) borders[2] = std::min(space, borders[1] + random.below(5000));
      std::ranges::sort(borders);
      std::vector<sluice::file> files;
      std::vector<std::unique_ptr<writer>> writers;
      for (std::size_t i = 0; i < 4; ++i) files.push_back(open_again(w));
      for (std::size_t i = 0; i < 4; ++i) {
        writers.push_back(std::make_unique<writer>(w, files[i], paths[random.below(paths.size())],
                                                   span_of{borders[i], borders[i + 1] - borders[i]},
                                                   number + i));
      }
      w.until([&writers] {
        return std::ranges::all_of(writers, [](const auto& one) { return one->ended(); });
      });
      for (std::size_t i = 0; i < 4; ++i) check_ended(*writers[i], model, borders[i]);
      check_content(w, model);
    }
  }
}
