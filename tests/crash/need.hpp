// A failure that ends the workload: tasks report by result, and here nothing may fail.
#pragma once

#include <stdexcept>
#include <type_traits>
#include <utility>

#include "sluice/result.hpp"

namespace crash {

template <class T>
T need(sluice::result<T> r) {
  if (!r) throw std::runtime_error(sluice::describe(r.error()));
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

}  // namespace crash
