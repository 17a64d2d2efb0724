// PUT: checks, then the body into a file without a name, then the name. Nothing is left beneath the
// root by an upload that does not reach its end: even missing directories are made only then.
#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <expected>
#include <string_view>
#include <utility>
#include <vector>

#include "body.hpp"
#include "digest.hpp"
#include "exchange.hpp"
#include "failure.hpp"
#include "stored_digest.hpp"

namespace sluiced {

namespace {

// Where an upload will go.
struct destination {
  sluice::directory parent;           // the deepest directory of the path that exists
  std::string missing;                // directories to make beneath it first, "" for none
  std::string name;                   // in the last of them
  std::optional<validators> current;  // of the file that has the name now
  // One for the whole upload, whatever the live knob says later.
  sluice::durability wanted = sluice::durability::durable;
  // No two contents of a name may share an entity tag, and the inode of a replaced file may serve
  // the next one at once: uploads of one size within a tick of the kernel's clock would look alike.
  sluice::modified when = sluice::modified::now;
};

using checked = std::expected<void, answer>;
using destination_result = std::expected<destination, answer>;

std::unexpected<answer> with_receipt(answer a, const sluice::receipt& moved,
                                     std::string_view durability) {
  a.fields += fmt::format("Sluice-Receipt: {}\r\n", format_receipt(moved, durability));
  return std::unexpected(std::move(a));
}

std::expected<void, refusal> check_request(const exchange& x) {
  const std::uint64_t limit = x.home.limits().body_bytes_max;
  if (!x.asked.chunked && !x.asked.content_length)
    return refuse(411, "an upload needs Content-Length or Transfer-Encoding: chunked");
  if (x.asked.content_length.value_or(0) > limit)
    return refuse(413, fmt::format("the body is larger than the {} bytes this server takes "
                                   "(sluice.http.body_max_bytes)",
                                   limit));
  // Stored as if it were the whole, a part would replace it (RFC 9110 section 14.5).
  if (x.asked.partial)
    return refuse(400, "an upload of a part (Content-Range) is not done here; send the whole file");
  if (x.where.directory)
    return refuse(409, "the path names a directory; an upload needs the name of a file");
  return {};
}

// Opens the deepest directory of the path that exists.
sluice::task<std::expected<void, answer>> open_parent(exchange& x, destination& to) {
  split_path split = split_last(x.where.path);
  to.name = std::move(split.name);
  std::string existing = std::move(split.parent);
  for (;;) {
    auto opened = co_await x.home.root().open_directory(existing, sluice::make_parents::no);
    if (opened) {
      to.parent = std::move(*opened);
      co_return checked{};
    }
    const bool to_make = opened.error().code == ENOENT && !existing.empty() &&
                         x.home.limits().create_parents == sluice::make_parents::yes;
    if (!to_make) co_return std::unexpected(failed(opened.error(), step::place));
    split = split_last(existing);
    to.missing = to.missing.empty() ? split.name : split.name + "/" + to.missing;
    existing = std::move(split.parent);
  }
}

// What has the name now. A directory or a special file is in the way, a missing one is not.
sluice::task<checked> look_at_name(destination& to) {
  to.current.reset();
  std::string path = to.missing.empty() ? to.name : to.missing + "/" + to.name;
  const auto info = co_await to.parent.look(std::move(path));
  if (!info && info.error().code == ENOENT) co_return checked{};
  if (!info) co_return std::unexpected(failed(info.error(), step::place));
  to.current = validators_of(*info);
  co_return checked{};
}

checked check_conditions(const exchange& x, const destination& to) {
  const validators* current = to.current ? &*to.current : nullptr;
  const verdict passed = evaluate(x.asked.when, request_kind::changes, current);
  if (passed == verdict::proceed) return {};
  return std::unexpected(answer_of(passed, current));
}

sluice::task<checked> check_again(exchange& x, destination& to) {
  checked found = co_await look_at_name(to);
  if (found) found = check_conditions(x, to);
  co_return found;
}

// Where nothing can be made of the answer but to tell it, the look is left to create_file.
bool looks_before(const exchange& x, const destination& to) {
  return x.asked.when.guards_change() || !to.missing.empty();
}

sluice::task<checked> find_destination(exchange& x, destination& to) {
  checked found = co_await open_parent(x, to);
  if (found && looks_before(x, to)) found = co_await check_again(x, to);
  co_return found;
}

sluice::task<std::expected<sluice::file, answer>> create_file(exchange& x, destination& to) {
  if (looks_before(x, to)) {
    auto created = co_await to.parent.create();
    if (!created) co_return std::unexpected(failed(created.error(), step::place));
    co_return std::move(*created);
  }
  auto created = co_await to.parent.create_for(to.name);
  if (!created) co_return std::unexpected(failed(created.error(), step::place));
  if (created->current) to.current = validators_of(*created->current);
  co_return std::move(created->made);
}

// Whether there is memory for a body at all. The block goes back at once: the transfer takes its
// own, this only keeps a body from being asked for that nobody could receive.
sluice::task<checked> check_budget(exchange& x) {
  const auto block = co_await x.home.engine().acquire_block(x.home.limits().head_timeout);
  if (block) co_return checked{};
  co_return std::unexpected(
      answer_of({503, "the server has no memory for another upload; try again later"}));
}

// Asks for the body, once it is sure that it is wanted and has room. A peer that sends it already
// needs no asking (RFC 9110 section 10.1.1).
sluice::task<checked> invite_body(exchange& x, sluice::file& into) {
  if (!x.asked.expects_continue || !x.asked.has_body() || !x.input.empty()) co_return checked{};
  if (x.asked.content_length && x.home.limits().preallocate) {
    const auto reserved = co_await into.reserve(*x.asked.content_length);
    if (!reserved && reserved.error().code != EOPNOTSUPP)
      co_return std::unexpected(failed(reserved.error(), step::receive));
  }
  constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
  const auto sent =
      co_await x.peer.send(std::as_bytes(std::span(go_on)), x.home.limits().idle_timeout);
  if (!sent) co_return std::unexpected(failed(sent.error(), step::receive));
  co_return checked{};
}

answer explain_body(exchange& x, const sluice::error& problem, const digest_check& check) {
  if (problem.code == sluice::code::refused_by_check) return answer_of(check.explain_mismatch());
  tally::add(x.home.counts().uploads_aborted);
  const bool silent = problem.code == ETIMEDOUT && !is_out_of_blocks(problem);
  if (silent || problem.code == sluice::code::too_slow) tally::add(x.home.counts().timeouts);
  if (problem.code == EBADMSG)
    return answer_of({400,
                      "the chunked coding of the body is broken; nothing of this upload was "
                      "kept"});
  if (problem.code == body_too_large)
    return answer_of({413,
                      "the body is larger than this server takes "
                      "(sluice.http.body_max_bytes); nothing of this upload was kept"});
  return failed(problem, step::receive);
}

sluice::task<checked> receive_body(exchange& x, sluice::file& into, digest_check& check,
                                   sluice::receipt& moved) {
  sluice::result<void> received;
  if (x.asked.chunked)
    received = co_await receive_chunked(x, into, check.if_promised(), moved);
  else
    received = co_await receive_sized(x, into, check.if_promised(), moved);
  if (received) co_return checked{};
  // The space is free again before the peer hears of it.
  const auto closed = co_await into.close();
  static_cast<void>(closed);
  co_return with_receipt(explain_body(x, received.error(), check), moved, "none");
}

// `held` says what the answer's receipt says of durability.
std::unexpected<answer> not_published(const sluice::error& problem, std::string_view& held) {
  if (problem.code == sluice::code::durability_unknown) held = "unknown";
  return std::unexpected(failed(problem, step::place));
}

// What a received file is given besides its bytes, before they are synced.
struct finishing_touch {
  const sluice::file& of;
  const std::vector<digest>& verified;
};

// The digests go with the time, so that it is set here: by it they are known to be of this content.
std::int64_t stamp(void* subject) {
  const auto& touch = *static_cast<const finishing_touch*>(subject);
  const sluice::result<void> dated = touch.of.touch();
  if (!dated) return -dated.error().code;
  const sluice::result<sluice::file_info> info = touch.of.info();
  if (info) store_digests(touch.of.fd(), *info, touch.verified);
  return 0;
}

// False when there was no worker for it.
sluice::task<bool> set_time_and_digests(exchange& x, sluice::file& of,
                                        const std::vector<digest>& verified) {
  finishing_touch touch{of, verified};
  const auto stamped = co_await x.home.engine().run_on_worker(stamp, &touch);
  co_return stamped.has_value();
}

// Replaces what has the name, or makes it where nothing has; what others than this server make or
// remove meanwhile is looked at again.
sluice::task<checked> give_name(exchange& x, sluice::file& from, destination& to,
                                sluice::publish_options options, std::string_view& held) {
  constexpr int attempts_max = 8;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    options.existing = to.current ? sluice::existing_name::replace : sluice::existing_name::keep;
    const auto named = co_await sluice::publish(from, to.parent, to.name, options);
    if (named) co_return checked{};
    if (named.error().code != EEXIST) co_return not_published(named.error(), held);
    checked still = co_await check_again(x, to);
    if (!still) co_return still;
  }
  co_return std::unexpected(
      answer_of({409, "something else makes and removes this name all the time; try again"}));
}

sluice::task<checked> make_missing(destination& to) {
  if (to.missing.empty()) co_return checked{};
  auto made = co_await to.parent.open_directory(to.missing, sluice::make_parents::yes);
  if (!made) co_return std::unexpected(failed(made.error(), step::place));
  to.parent = std::move(*made);
  to.missing.clear();
  co_return checked{};
}

// From the last look at the name until the upload has it nobody else of this server changes it:
// what the conditions were compared with is what is replaced.
sluice::task<checked> name_upload(exchange& x, sluice::file& from, destination& to,
                                  std::string_view& held) {
  const bool dated = to.wanted == sluice::durability::durable;  // with its data
  const sluice::publish_options options{.wanted = sluice::durability::stored,
                                        .when = dated ? sluice::modified::as_written : to.when};
  path_locks::turn mine(x.home.locks(), x.home.engine(), x.where.path);
  const path_locks::hold alone = co_await mine;
  checked passed;
  if (x.asked.when.guards_change()) passed = co_await check_again(x, to);
  if (passed) passed = co_await make_missing(to);
  if (passed) passed = co_await give_name(x, from, to, options, held);
  co_return passed;
}

// The order of sluice::publish: the data, the name, the directory. The syncs, which may take
// seconds, are made outside of the lock.
sluice::task<checked> publish_in_steps(exchange& x, sluice::file& from, destination& to,
                                       std::string_view& held) {
  const bool durable = to.wanted == sluice::durability::durable;
  if (durable) {
    const auto committed = co_await from.commit_to_publish(to.when);
    if (!committed) co_return not_published(committed.error(), held);
  }
  checked named = co_await name_upload(x, from, to, held);
  if (!named || !durable) co_return named;
  const auto synced = co_await to.parent.sync();
  if (!synced) co_return not_published(synced.error(), held);
  co_return checked{};
}

// Of larger ones the syncs are long, and the hand-overs to threads that are saved count for little.
constexpr std::uint64_t at_once_bytes_max = 1 << 20;

// Nothing is to be looked at or made between the data and the name, and nobody waits for the path:
// then all of it may be one call of a worker. Who comes meanwhile and wants the path waits for the
// syncs, so they must be short.
bool is_for_at_once(const exchange& x, const destination& to, const sluice::receipt& moved) {
  return to.wanted == sluice::durability::durable && to.missing.empty() &&
         !x.asked.when.guards_change() && moved.bytes <= at_once_bytes_max;
}

sluice::task<checked> publish_upload(exchange& x, sluice::file& from, destination& to,
                                     sluice::receipt& moved, std::string_view& held) {
  if (is_for_at_once(x, to, moved)) {
    const std::optional<path_locks::hold> alone = x.home.locks().try_hold(x.where.path);
    const sluice::publish_options options{
        .wanted = to.wanted, .when = to.when, .of_content = &moved};
    if (alone) co_return co_await give_name(x, from, to, options, held);
  }
  checked done = co_await publish_in_steps(x, from, to, held);
  if (done && to.wanted == sluice::durability::durable)
    moved.durable = std::chrono::steady_clock::now() - moved.begun;
  co_return done;
}

answer answer_published(const exchange& x, const sluice::result<sluice::file_info>& info,
                        const destination& to, const digest_check& check,
                        const sluice::receipt& moved) {
  answer a;
  a.status = to.current ? 204 : 201;
  if (!to.current) a.fields = fmt::format("Location: {}\r\n", encode_path(x.where.path));
  if (info) a.fields += fmt::format("ETag: {}\r\n", validators_of(*info).etag);
  a.fields += format_repr_digest(parse_wanted(x.asked.want_repr_digest), check.verified());
  a.fields += fmt::format("Sluice-Receipt: {}\r\n", format_receipt(moved, sluice::name(to.wanted)));
  return a;
}

// From an accepted request to its answer.
sluice::task<answer> upload(exchange& x, destination& to, digest_check& check) {
  auto created = co_await create_file(x, to);
  if (!created) co_return std::move(created.error());
  sluice::file into = std::move(*created);

  checked done = co_await invite_body(x, into);
  if (!done) co_return std::move(done.error());
  sluice::receipt moved;
  done = co_await receive_body(x, into, check, moved);
  if (!done) co_return std::move(done.error());
  if (!check.verified().empty()) {
    const bool dated = co_await set_time_and_digests(x, into, check.verified());
    if (dated) to.when = sluice::modified::as_written;
  }
  std::string_view held = "none";
  done = co_await publish_upload(x, into, to, moved, held);
  if (!done) co_return with_receipt(std::move(done.error()), moved, held).error();
  const auto info = co_await into.look();
  co_return answer_published(x, info, to, check, moved);
}

}  // namespace

sluice::task<answer> answer_put(exchange& x) {
  const std::expected<void, refusal> sound = check_request(x);
  if (!sound) co_return answer_of(sound.error());
  std::expected<std::vector<digest_promise>, refusal> promised = promises_of(x.asked);
  if (!promised) co_return answer_of(promised.error());
  digest_check check(std::move(*promised));
  destination to;
  to.wanted = x.home.limits().durability;
  checked passed = co_await find_destination(x, to);
  if (passed && x.asked.has_body()) passed = co_await check_budget(x);
  if (!passed) co_return std::move(passed.error());
  answer a = co_await upload(x, to, check);
  co_return a;
}

}  // namespace sluiced
