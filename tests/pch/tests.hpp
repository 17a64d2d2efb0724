// Compiled once for all unit tests: what nearly every one of them includes anyway, and where most
// of the time to compile it went. The compiler is given it as a main file: no #pragma once.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>
