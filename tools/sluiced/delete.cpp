// DELETE: the name of a regular file, durably.
#include "conditions.hpp"
#include "exchange.hpp"
#include "failure.hpp"

namespace sluiced {

sluice::task<answer> answer_delete(exchange& x) {
  if (x.where.directory) co_return failed({EISDIR, "unlink", ""}, step::remove);
  // What was compared is what goes: no upload of this server comes between.
  path_locks::turn mine(x.home.locks(), x.home.engine(), x.where.path);
  const path_locks::hold alone = co_await mine;
  const auto info = co_await x.home.root().look(x.where.path);
  if (!info) co_return failed(info.error(), step::remove);
  const validators current = validators_of(*info);
  const verdict passed = evaluate(x.asked.when, request_kind::changes, &current);
  if (passed != verdict::proceed) co_return answer_of(passed, &current);

  const auto removed = co_await x.home.root().remove(x.where.path);
  if (!removed) co_return failed(removed.error(), step::remove);
  answer a;
  a.status = 204;
  co_return a;
}

}  // namespace sluiced
