// An upload as a server would run it: a created file, the body, the name.
#pragma once

#include <string>
#include <utility>

#include "conformance/suite.hpp"
#include "support/adopted_stream.hpp"

namespace conformance {

// What one upload came to.
struct uploaded {
  sluice::result<sluice::receipt> outcome = sluice::fail(EINPROGRESS, "upload");
  sluice::result<void> published = sluice::fail(EINPROGRESS, "upload");
  sluice::receipt progress;
  std::uint64_t ops = 0;      // that the engine did for it
  std::uint64_t resumed = 0;  // that it continued by itself
};

struct upload_request {
  std::filesystem::path folder;
  std::string name;  // empty: not published
  sluice::receive_options body;
  sluice::durability wanted = sluice::durability::stored;
};

inline sluice::task<uploaded> receive_upload(sluice::engine& e, sluice::stream from,
                                             upload_request request) {
  uploaded u;
  sluice::result<sluice::directory> in =
      co_await sluice::directory::open(e, request.folder.string());
  if (!in) {
    u.outcome = std::unexpected(in.error());
    co_return u;
  }
  sluice::result<sluice::file> into = co_await in->create();
  if (!into) {
    u.outcome = std::unexpected(into.error());
    co_return u;
  }
  const op_counts meanwhile(e);
  u.outcome = co_await sluice::receive_to_file(from, *into, request.body, &u.progress);
  u.ops = meanwhile.submitted();
  u.resumed = meanwhile.resumed();
  if (u.outcome && !request.name.empty()) {
    sluice::publish_options options;
    options.wanted = request.wanted;
    options.of_content = &u.progress;
    u.published = co_await sluice::publish(*into, *in, request.name, options);
  }
  co_return u;
}

using support::adopt;

inline sluice::receive_options of_length(std::uint64_t length) {
  sluice::receive_options options;
  options.length = length;
  return options;
}

// One upload to the name "body", from a peer with a script; ends with everything at rest.
template <class Script>
uploaded upload_from(world& w, const sluice::receive_options& body, Script script) {
  stream_pair ends = stream_pair::tcp();
  peer sender(ends.take_theirs(), script);
  upload_request request{w.folder().path(), "body", body};
  uploaded u = w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
  sender.join(w);
  w.settle();
  return u;
}

}  // namespace conformance
