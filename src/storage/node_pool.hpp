// Nodes for intrusive containers that are used again and again: memory comes in chunks, is bounded,
// and goes back with the pool.
#pragma once

#include <cassert>
#include <cstddef>
#include <memory>
#include <vector>

namespace sluice {

// Nodes are made once, by their default constructor; who gives one back leaves it as it was then.
// Loop thread only.
template <class Node>
class node_pool {
 public:
  explicit node_pool(std::size_t nodes_max) : nodes_max_(nodes_max) {}

  // How many more can be taken.
  [[nodiscard]] std::size_t left() const { return nodes_max_ - taken_; }
  // left() must not be 0.
  [[nodiscard]] Node& take() {
    assert(left() > 0);
    if (free_.empty()) grow();
    Node& node = *free_.back();
    free_.pop_back();
    ++taken_;
    return node;
  }
  void give_back(Node& node) {
    free_.push_back(&node);
    --taken_;
  }

 private:
  static constexpr std::size_t chunk_nodes = 64;

  void grow() {
    chunks_.push_back(std::make_unique<Node[]>(chunk_nodes));
    free_.reserve(chunks_.size() * chunk_nodes);  // a node given back never allocates
    Node* first = chunks_.back().get();
    for (std::size_t i = chunk_nodes; i > 0; --i) free_.push_back(first + i - 1);
  }

  const std::size_t nodes_max_;
  std::size_t taken_ = 0;
  std::vector<std::unique_ptr<Node[]>> chunks_;
  std::vector<Node*> free_;  // back: used last, still in the processor's cache
};

}  // namespace sluice
