// GET and HEAD: a regular file, whole or one range of it, under conditions.
#include <fmt/compile.h>
#include <fmt/format.h>
#include <time.h>

#include <string>
#include <utility>
#include <vector>

#include "conditions.hpp"
#include "digest.hpp"
#include "exchange.hpp"
#include "failure.hpp"
#include "http_date.hpp"
#include "media_type.hpp"
#include "range.hpp"
#include "stored_digest.hpp"

namespace sluiced {

namespace {

std::string fields_of(const validators& current) {
  return fmt::format(FMT_COMPILE("ETag: {}\r\nLast-Modified: {}\r\nAccept-Ranges: bytes\r\n"),
                     current.etag, format_http_date(current.modified_seconds));
}

byte_range wanted_range(const request& asked, const validators& current, std::uint64_t size) {
  // Range means something for GET only (RFC 9110 section 14.2).
  const bool applies =
      asked.method == method::get && range_applies(asked.when, current, ::time(nullptr));
  return select_range(applies ? std::string_view(asked.range) : std::string_view(), size);
}

answer unsatisfiable(std::uint64_t size) {
  answer a =
      answer_of({416, fmt::format("the file has {} bytes, the range lies behind its end", size)});
  a.fields = fmt::format("Content-Range: bytes */{}\r\nAccept-Ranges: bytes\r\n", size);
  return a;
}

answer describe_file(const exchange& x, const sluice::file_info& info) {
  const validators current = validators_of(info);
  const verdict passed = evaluate(x.asked.when, request_kind::reads, &current);
  if (passed != verdict::proceed) {
    answer a = answer_of(passed, &current);
    if (passed == verdict::not_modified) a.fields = fields_of(current);
    return a;
  }
  const byte_range range = wanted_range(x.asked, current, info.bytes);
  if (range.kind == range_kind::unsatisfiable) return unsatisfiable(info.bytes);

  answer a;
  a.describes_file = true;
  a.offset = range.offset;
  a.length = range.length;
  a.fields = fields_of(current);
  fmt::format_to(std::back_inserter(a.fields), FMT_COMPILE("Content-Type: {}\r\n"),
                 media_type_of(x.where.path));
  if (range.kind == range_kind::part) {
    a.status = 206;
    fmt::format_to(std::back_inserter(a.fields), "Content-Range: bytes {}-{}/{}\r\n", range.offset,
                   range.offset + range.length - 1, info.bytes);
  }
  return a;
}

struct digest_search {
  const sluice::file& of;
  const sluice::file_info& info;
  std::vector<digest> found;
};

std::int64_t look_up(void* subject) {
  auto& search = *static_cast<digest_search*>(subject);
  search.found = stored_digests(search.of.fd(), search.info);
  return 0;
}

// The Repr-Digest line, of the whole file whatever part of it is sent; "" when none is wanted or
// known.
sluice::task<std::string> repr_digest_of(exchange& x, const sluice::file& of,
                                         const sluice::file_info& info) {
  const std::vector<digest_algorithm> wanted = parse_wanted(x.asked.want_repr_digest);
  if (wanted.empty()) co_return std::string();
  digest_search search{of, info, {}};
  const auto looked = co_await x.home.engine().run_on_worker(look_up, &search);
  static_cast<void>(looked);
  co_return format_repr_digest(wanted, search.found);
}

}  // namespace

sluice::task<answer> answer_get(exchange& x) {
  if (x.where.directory) {
    const sluice::error is_directory{EISDIR, "open", ""};
    co_return failed(is_directory, step::read);
  }
  sluice::file_info info;
  auto opened = co_await x.home.root().open_file(x.where.path, &info);
  if (!opened) co_return failed(opened.error(), step::read);
  answer a = describe_file(x, info);
  if (!a.describes_file) co_return a;
  const std::string repr_digest = co_await repr_digest_of(x, *opened, info);
  a.fields += repr_digest;
  a.seen = info;
  a.payload = std::move(*opened);
  co_return a;
}

}  // namespace sluiced
