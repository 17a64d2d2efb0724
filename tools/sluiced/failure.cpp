#include "failure.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <string_view>

namespace sluiced {

namespace {

refusal explain_missing(step during) {
  if (during == step::place)
    return {409, "a directory of the path does not exist; create it first"};
  return {404, "there is no such file"};
}

refusal explain_not_directory(step during) {
  if (during == step::place) return {409, "a directory of the path is a file; choose another path"};
  return {404, "there is no such file: a part of the path is a file, not a directory"};
}

refusal explain_directory(step during) {
  if (during == step::read)
    return {404, "this is a directory; sluiced serves files only, name one of them"};
  return {409, "this is a directory; name a file"};
}

refusal explain_special(step during) {
  const int status = during == step::read ? 403 : 409;
  return {status, "this is not a regular file; sluiced touches no pipes, sockets or devices"};
}

refusal explain_unknown_durability(step during) {
  if (during == step::remove)
    return {500,
            "a sync failed: the name is gone, but it may be there again after a power cut; "
            "check the disk of the server"};
  return {500,
          "a sync failed: what the disk holds of this upload is unknown, so it was not "
          "published as durable; check the disk of the server, then send it again"};
}

refusal explain_short(step during) {
  if (during == step::read) return {503, "the file became shorter while it was read; ask again"};
  return {400, "the body ended before its promised length; nothing of this upload was kept"};
}

refusal unforeseen(const sluice::error& problem) {
  return {500, fmt::format("the server failed: {}", sluice::describe(problem))};
}

}  // namespace

bool is_out_of_blocks(const sluice::error& problem) {
  return problem.code == ETIMEDOUT && std::string_view(problem.op) == "lease";
}

refusal explain(const sluice::error& problem, step during) {
  if (is_out_of_blocks(problem))
    return {503, "the server has no memory for this transfer now; try again later"};
  switch (problem.code) {
    case ENOENT: return explain_missing(during);
    case ENOTDIR: return explain_not_directory(during);
    case EISDIR:
    case ENOTEMPTY: return explain_directory(during);
    case EINVAL: return during == step::receive ? unforeseen(problem) : explain_special(during);
    case ENXIO:
    case ENODEV: return explain_special(during);
    case EACCES:
    case EPERM: return {403, "the server may not do this here: permission denied"};
    case EROFS: return {403, "the server's filesystem is read-only"};
    case ELOOP:
    case EXDEV:
      return {403,
              "the path leads through a symbolic link or out of the root; links are "
              "not followed"};
    case ENAMETOOLONG: return {414, "the path or a name in it is too long; choose a shorter one"};
    case ENOSPC:
      return {507,
              "the disk is full; nothing of this upload was kept. Free space on "
              "the server, then send it again"};
    case EDQUOT:
      return {507,
              "the disk quota is used up; nothing of this upload was kept. Free "
              "space on the server, then send it again"};
    case EFBIG:
      return {413,
              "the server's filesystem, or its limit of file sizes (ulimit -f), allows no file "
              "of this size; nothing of this upload was kept"};
    case EMFILE:
    case ENFILE: return {503, "the server is out of file descriptors; try again later"};
    case ENOMEM: return {503, "the server is out of memory; try again later"};
    case EAGAIN:
    case ENOBUFS: return {503, "the server is out of threads or memory; try again later"};
    case ETIMEDOUT: return {408, "nothing arrived for too long; nothing of this upload was kept"};
    case sluice::code::too_slow:
      return {408, "the body came too slowly; nothing of this upload was kept"};
    case sluice::code::end_of_stream: return explain_short(during);
    case sluice::code::file_changed: return {503, "the file changed while it was read; ask again"};
    case sluice::code::path_unavailable:
      return {500, fmt::format("the server was told to move bytes in a way that does not work "
                               "here: {}",
                               problem.where)};
    case sluice::code::no_thread: return {503, "the server can start no thread; try again later"};
    case sluice::code::shutting_down: return {503, "the server is shutting down; try again later"};
    case sluice::code::filesystem_suspect:
      return {503,
              "an earlier sync of the server's disk failed, so uploads are refused until somebody "
              "has looked at it (sluicectl clear-suspects); files are still served"};
    case sluice::code::engine_failed:
      return {503,
              "an earlier sync of the server's disk failed, so uploads are refused until the "
              "server is started anew; files are still served"};
    case sluice::code::durability_unknown: return explain_unknown_durability(during);
    default: return unforeseen(problem);
  }
}

answer failed(const sluice::error& problem, step during) {
  answer a = answer_of(explain(problem, during));
  if (a.status >= 500) a.cause = sluice::describe(problem);
  a.to_nobody = problem.code == ECONNRESET || problem.code == EPIPE || problem.code == ECANCELED;
  return a;
}

}  // namespace sluiced
