// Lists of ops over their one link. Which list an op is on follows from its state (sluice/op.hpp).
#pragma once

#include <boost/intrusive/list.hpp>

#include "sluice/op.hpp"

namespace sluice {

// Ops unlink themselves (cancel takes them out of any list), so no list keeps a count.
using op_list =
    boost::intrusive::list<op, boost::intrusive::member_hook<op, op::link_hook, &op::link>,
                           boost::intrusive::constant_time_size<false>>;

}  // namespace sluice
