#include "transfer/planner.hpp"

namespace sluice {

const char* name(path p) {
  switch (p) {
    case path::direct: return "direct";
    case path::splice: return "splice";
    case path::mapped: return "mapped";
    case path::reflink: return "reflink";
    case path::copy_file_range: return "copy_file_range";
    default: return "copy";
  }
}

namespace {

constexpr std::uint64_t page_bytes = 4096;  // leases begin on a page

constexpr const char* no_splice = "splice or sendfile is not allowed here";
constexpr const char* no_copy_file_range = "copy_file_range is not allowed here";
constexpr const char* wants_cache = "the cache policy wants the pages in the cache";
constexpr const char* wants_no_cache = "the cache policy wants no pages in the cache";

// Why O_DIRECT cannot carry the range, or null. Where that begins and ends does not matter: a read
// may begin before it, and what is written has edges (range_parts.hpp).
const char* direct_obstacle(const file_facts& file, std::uint64_t block_bytes) {
  if (!file.direct.possible()) return "the filesystem has no O_DIRECT for this file";
  if (file.direct.memory_bytes > page_bytes) return "the file asks for more alignment than a page";
  if (block_bytes % file.direct.offset_bytes != 0)
    return "sluice.memory.block_bytes is no multiple of the alignment";
  return nullptr;
}

// Why splice cannot carry what is received, or null.
const char* receive_splice_obstacle(const range_request& request,
                                    const engine_capabilities& engine) {
  if (request.checked) return "a check wants to see the bytes";
  if (request.cache == cache_policy::direct) return wants_no_cache;
  return engine.splice ? nullptr : no_splice;
}

const char* mapped_obstacle(const range_request& request, const file_facts& file) {
  if (request.checked) return "a check wants to see the bytes";
  if (request.cache != cache_policy::automatic && request.cache != cache_policy::cached)
    return wants_no_cache;
  if (!file.readable) return "the file is not open for reading";
  return file.no_space_promise;
}

// A path that a knob or a policy asks for is taken, or refused with what is in its way: never
// another one.
plan forced(path wanted, const char* obstacle, const char* by) {
  if (obstacle != nullptr) return {wanted, obstacle, true};
  return {wanted, by};
}

plan direct_as_asked(const range_request& request, const char* no_direct, const char* by) {
  const bool cached = request.cache == cache_policy::cached;
  return forced(path::direct, cached ? wants_cache : no_direct, by);
}

plan copy_as_asked(const range_request& request, const char* by) {
  return forced(path::copy, request.cache == cache_policy::direct ? wants_no_cache : nullptr, by);
}

// What the policy alone decides where no knob forces a path; `otherwise` where it says nothing.
plan by_policy(const range_request& request, const file_facts& file, const char* no_direct,
               const plan& otherwise) {
  switch (request.cache) {
    case cache_policy::cached: return {path::copy, "asked for: cache policy cached"};
    case cache_policy::direct:
      return forced(path::direct, no_direct, "asked for: cache policy direct");
    case cache_policy::drop_behind: return {path::copy, "asked for: cache policy drop_behind"};
    case cache_policy::dontcache:
      return {path::copy, file.dontcache ? "asked for: cache policy dontcache"
                                         : "no RWF_DONTCACHE here: dropped behind the cursor"};
    default: return otherwise;
  }
}

// How the chosen path keeps to the policy. A pipe takes no flag that says dontcache.
cache_policy carried_out(const plan& made, const range_request& request, const file_facts& file) {
  if (made.chosen == path::direct) return cache_policy::direct;
  if (request.cache == cache_policy::drop_behind) return cache_policy::drop_behind;
  if (request.cache != cache_policy::dontcache) return cache_policy::cached;
  const bool by_flag = file.dontcache && made.chosen == path::copy;
  return by_flag ? cache_policy::dontcache : cache_policy::drop_behind;
}

// For path auto: what keeps it from O_DIRECT.
const char* direct_doubt(const file_facts& file, const char* no_direct) {
  return no_direct != nullptr ? no_direct : file.direct_distrust;
}

plan choose_receive(const range_request& request, const char* no_direct,
                    const tuning::receive_knobs& knobs) {
  // Never splice by itself: its one copy, into the page cache, costs more than both of the copy
  // path's (kernel-notes/splice_via.md).
  if (request.length < knobs.direct_min_bytes) {
    return {path::copy, "auto: shorter than direct_min_bytes"};
  }
  if (no_direct != nullptr) return {path::copy, no_direct};
  return {path::direct, "auto: long and the filesystem takes O_DIRECT"};
}

// What keeps path auto from splicing what is sent, or null.
const char* send_splice_doubt(const range_request& request, const engine_capabilities& engine,
                              const tuning::send_knobs& knobs) {
  if (request.length < knobs.splice_min_bytes) return "auto: shorter than splice_min_bytes";
  if (request.content != file_content::unchanging) return "auto: the file may change meanwhile";
  if (knobs.zero_copy == tuning::zero_copy_choice::always)
    return "sluice.send.zero_copy=always: from our memory";
  return engine.splice ? nullptr : no_splice;
}

plan choose_send(const range_request& request, const char* no_direct,
                 const engine_capabilities& engine, const tuning::send_knobs& knobs) {
  const bool long_for_direct =
      request.length >= knobs.direct_min_bytes && request.cache != cache_policy::cached;
  if (long_for_direct && no_direct == nullptr) {
    return {path::direct, "auto: long and the filesystem takes O_DIRECT"};
  }
  const char* by_copy = send_splice_doubt(request, engine, knobs);
  if (by_copy == nullptr) return {path::splice, "auto: the file does not change meanwhile"};
  return {path::copy, long_for_direct ? no_direct : by_copy};
}

// Why the pages of the file cannot be given to the socket, or null.
const char* send_splice_obstacle(const range_request& request, const engine_capabilities& engine) {
  if (request.cache == cache_policy::direct) return wants_no_cache;
  if (request.cache == cache_policy::drop_behind || request.cache == cache_policy::dontcache)
    return "a page on its way to the peer cannot be dropped";
  return engine.splice ? nullptr : no_splice;
}

plan plan_send_path(const range_request& request, const file_facts& file,
                    const engine_capabilities& engine, const tuning::send_knobs& knobs) {
  const char* no_direct = direct_obstacle(file, engine.block_bytes);
  switch (knobs.path) {
    case tuning::send_path_choice::direct:
      return direct_as_asked(request, no_direct, "forced by sluice.send.path=direct");
    case tuning::send_path_choice::copy:
      return copy_as_asked(request, "forced by sluice.send.path=copy");
    case tuning::send_path_choice::splice:
      return forced(path::splice, send_splice_obstacle(request, engine),
                    "forced by sluice.send.path=splice");
    default: break;
  }
  const plan chosen = choose_send(request, direct_doubt(file, no_direct), engine, knobs);
  if (request.cache == cache_policy::cached) return chosen;
  return by_policy(request, file, no_direct, chosen);
}

}  // namespace

plan plan_receive(const range_request& request, const file_facts& file,
                  const engine_capabilities& engine, const tuning::receive_knobs& knobs) {
  const char* no_direct = direct_obstacle(file, engine.block_bytes);
  plan made;
  switch (knobs.path) {
    case tuning::path_choice::direct:
      made = direct_as_asked(request, no_direct, "forced by sluice.receive.path=direct");
      break;
    case tuning::path_choice::copy:
      made = copy_as_asked(request, "forced by sluice.receive.path=copy");
      break;
    case tuning::path_choice::splice:
      made = forced(path::splice, receive_splice_obstacle(request, engine),
                    "forced by sluice.receive.path=splice");
      break;
    case tuning::path_choice::mapped:
      made = forced(path::mapped, mapped_obstacle(request, file),
                    "forced by sluice.receive.path=mapped");
      break;
    default:
      made = by_policy(request, file, no_direct,
                       choose_receive(request, direct_doubt(file, no_direct), knobs));
      break;
  }
  made.cache = carried_out(made, request, file);
  return made;
}

plan plan_pieces(const tuning::receive_knobs& knobs) {
  constexpr const char* in_pieces = "a body that comes in pieces can only be copied";
  switch (knobs.path) {
    case tuning::path_choice::direct: return {path::direct, in_pieces, true};
    case tuning::path_choice::splice: return {path::splice, in_pieces, true};
    case tuning::path_choice::mapped: return {path::mapped, in_pieces, true};
    case tuning::path_choice::copy: return {path::copy, "forced by sluice.receive.path=copy"};
    default: return {path::copy, "the body comes in pieces"};
  }
}

plan plan_send(const range_request& request, const file_facts& file,
               const engine_capabilities& engine, const tuning::send_knobs& knobs) {
  plan made = plan_send_path(request, file, engine, knobs);
  made.cache = carried_out(made, request, file);
  if (made.refused || made.chosen == path::splice) return made;
  const bool always = knobs.zero_copy == tuning::zero_copy_choice::always;
  if (always && !engine.zero_copy) {
    return {made.chosen, "sends without a copy need a ring and registered memory", true,
            made.cache};
  }
  const bool worth_it = knobs.zero_copy == tuning::zero_copy_choice::automatic &&
                        request.length >= knobs.zero_copy_min_bytes;
  made.zero_copy = engine.zero_copy && (always || worth_it);
  return made;
}

plan plan_relay(const engine_capabilities& engine, const tuning::relay_knobs& knobs) {
  const char* obstacle = engine.splice ? nullptr : no_splice;
  switch (knobs.path) {
    case tuning::relay_choice::splice:
      return forced(path::splice, obstacle, "forced by sluice.relay.path=splice");
    case tuning::relay_choice::copy: return {path::copy, "forced by sluice.relay.path=copy"};
    default: break;
  }
  if (obstacle != nullptr) return {path::copy, obstacle};
  return {path::splice, "auto: nobody looks at the bytes"};
}

plan plan_file_copy(cache_policy cache, const engine_capabilities& engine,
                    const tuning::copy_knobs& knobs) {
  plan made;
  const char* const uses_pages = cache == cache_policy::direct ? wants_no_cache : nullptr;
  switch (knobs.path) {
    case tuning::file_copy_choice::reflink:
      made = {path::reflink, "forced by sluice.copy.path=reflink"};
      break;
    case tuning::file_copy_choice::copy_file_range:
      made = forced(path::copy_file_range, engine.copy_file_range ? uses_pages : no_copy_file_range,
                    "forced by sluice.copy.path=copy_file_range");
      break;
    case tuning::file_copy_choice::copy:
      made = forced(path::copy, uses_pages, "forced by sluice.copy.path=copy");
      break;
    default:
      made = {path::reflink, uses_pages == nullptr ? "auto: the filesystem shares the blocks"
                                                   : "asked for: cache policy direct"};
      break;
  }
  const bool drops = cache == cache_policy::drop_behind || cache == cache_policy::dontcache;
  made.cache = drops ? cache_policy::drop_behind : cache_policy::cached;
  return made;
}

}  // namespace sluice
