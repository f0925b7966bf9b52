// Contiguous views of gRPC messages, which are copied only if they consist of several slices.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string_view>

namespace taper {

class MessageBytes {
 public:
  explicit MessageBytes(const grpc::ByteBuffer& buffer) {
    if (!buffer.TrySingleSlice(&slice_).ok()) buffer.DumpToSingleSlice(&slice_);
  }

  std::string_view view() const {
    return {reinterpret_cast<const char*>(slice_.begin()), slice_.size()};
  }

 private:
  grpc::Slice slice_;
};

inline grpc::ByteBuffer to_message(std::string_view data) {
  const grpc::Slice slice(data.data(), data.size());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace taper
